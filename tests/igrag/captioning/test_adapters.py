"""An adapter records its base model, and is refused on any other."""

import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForSeq2SeqLM

from igrag.captioning.adapters import BaseModelIdentity
from igrag.captioning.language_model import load_language_model
from igrag.errors import CheckpointError
from igrag.fingerprints import weights_hash
from tests.tiny import WORDS, save_t5

HASH = "a" * 64


@pytest.fixture
def adapter(tiny_t5: Path, tmp_path: Path) -> Path:
    """An adapter that knows its model, which has been moved since."""
    model = AutoModelForSeq2SeqLM.from_pretrained(tiny_t5)
    base = BaseModelIdentity("elsewhere/t5", weights_hash(model))
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q"]))
    adapted.save_pretrained(str(tmp_path / "lora"))
    base.write(tmp_path / "lora")
    return tmp_path / "lora"


@pytest.mark.parametrize("merge", [True, False])
def test_adapter_loads_only_on_its_base_model(
    tiny_t5: Path, tmp_path: Path, adapter: Path, merge: bool
) -> None:
    """Wherever that lies and in whatever precision; one of the same shapes is refused by hash."""
    moved = shutil.copytree(tiny_t5, tmp_path / "moved")
    for dtype in ("float32", "bfloat16"):
        load_language_model(
            str(moved), device="cpu", dtype=dtype, lora_path=adapter, merge_lora=merge
        )
    other = save_t5(tmp_path / "other", words=WORDS.split(), seed=1)
    message = rf"lora: was trained on elsewhere/t5 \(weights \w+\.\.\.\), found {other} \(weights"
    with pytest.raises(CheckpointError, match=message):
        load_language_model(str(other), device="cpu", lora_path=adapter, merge_lora=merge)


def test_peft_loads_adapter_with_base_model_file(tiny_t5: Path, adapter: Path) -> None:
    """The file is none of PEFT's business."""
    model = PeftModel.from_pretrained(AutoModelForSeq2SeqLM.from_pretrained(tiny_t5), adapter)
    assert any("lora_" in name for name, _ in model.named_parameters())


def test_adapter_without_base_model_file_is_accepted(tmp_path: Path) -> None:
    """An adapter of another project has no record of its base model, and is loaded."""
    BaseModelIdentity("t5", HASH).check(tmp_path)


@pytest.mark.parametrize(("saved", "loaded"), [(None, HASH), (HASH, None)])
def test_uncomparable_base_model_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, saved: str | None, loaded: str | None
) -> None:
    """In float16 weights have no hash."""
    BaseModelIdentity("t5", saved).write(tmp_path)
    BaseModelIdentity("t5", loaded).check(tmp_path)
    assert "cannot be compared with the weights of t5" in caplog.text


@pytest.mark.parametrize("content", ["{", "[]", '{"weights": "a"}', '{"name": "t5", "weights": 3}'])
def test_damaged_base_model_file_is_an_error(tmp_path: Path, content: str) -> None:
    """It is named; an adapter is not taken for one from elsewhere."""
    (tmp_path / "base_model.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"base_model\.json"):
        BaseModelIdentity("t5", HASH).check(tmp_path)


def test_adapter_is_loaded_in_float16_with_a_warning(
    tiny_t5: Path, adapter: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the warning, and nothing is refused."""
    loaded = load_language_model(str(tiny_t5), device="cpu", dtype="float16", lora_path=adapter)
    assert loaded.model.dtype == torch.float16 and "float16" in caplog.text
