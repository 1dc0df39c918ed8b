"""Loading the language model: frozen, of the right kind, with or without an adapter."""

import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from igrag.errors import CheckpointError, ModelError
from igrag.language_model import LanguageModel, load_language_model
from tests.tiny import WORDS, save_t5


def _load(path: Path, **options: object) -> LanguageModel:
    return load_language_model(str(path), device="cpu", **options)  # type: ignore[arg-type]


@pytest.fixture
def adapter(tmp_path: Path, tiny_t5: Path) -> Path:
    """A LoRA adapter for the tiny T5 that changes what it computes."""
    torch.manual_seed(3)
    config = LoraConfig(r=4, target_modules=["q", "v"], init_lora_weights=False)
    get_peft_model(AutoModelForSeq2SeqLM.from_pretrained(tiny_t5), config).save_pretrained(
        tmp_path / "adapter"
    )
    return tmp_path / "adapter"


def _logits(language: LanguageModel) -> torch.Tensor:
    batch = language.tokenizer("a dog runs", return_tensors="pt")
    with torch.inference_mode():
        return language.model(**batch, decoder_input_ids=torch.tensor([[0, 5, 6]])).logits


def test_the_model_is_frozen_and_in_eval_mode(tiny_t5: Path) -> None:
    """No parameter asks for a gradient and dropout is off."""
    language = _load(tiny_t5)
    assert not any(parameter.requires_grad for parameter in language.model.parameters())
    assert not any(module.training for module in language.model.modules())
    assert language.model.dtype == torch.float32 and not language.lora


def test_the_dtype_is_the_one_asked_for(tiny_t5: Path) -> None:
    """bfloat16 is loaded as bfloat16."""
    assert _load(tiny_t5, dtype="bfloat16").model.dtype == torch.bfloat16


def test_another_kind_of_model_is_refused(tiny_clip: Path) -> None:
    """A CLIP folder is told to be a CLIP, where a seq2seq model was expected."""
    with pytest.raises(ModelError, match="found a clip model, expected a seq2seq model"):
        _load(tiny_clip)


@pytest.mark.parametrize("name", ["google/flan-t5-nonesuch", "/no/such/folder"])
def test_a_model_that_cannot_be_had_is_named(name: str) -> None:
    """Offline, the error names the model and says what to do."""
    with pytest.raises(ModelError, match=f"{name}: no such folder.*give its local folder"):
        load_language_model(name, device="cpu")


def test_an_incomplete_folder_is_named(tmp_path: Path, tiny_t5: Path) -> None:
    """A folder without weights is told as such, in one line."""
    folder = tmp_path / "broken"
    shutil.copytree(tiny_t5, folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="broken: not a complete language model") as error:
        _load(folder)
    assert "\n" not in str(error.value)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path, tiny_t5: Path) -> None:
    """More tokens than embeddings would fail later, or not at all: it fails at once."""
    folder = save_t5(tmp_path / "t5", words=WORDS.split()[:10], seed=0)
    AutoTokenizer.from_pretrained(tiny_t5).save_pretrained(folder)
    with pytest.raises(ModelError, match="do not belong together"):
        _load(folder)


def test_the_adapter_changes_the_model_merged_or_not(tiny_t5: Path, adapter: Path) -> None:
    """Merged and unmerged give the same logits, and others than without the adapter."""
    merged = _load(tiny_t5, lora_path=adapter, merge_lora=True)
    beside = _load(tiny_t5, lora_path=adapter, merge_lora=False)
    assert merged.lora and beside.lora
    assert torch.allclose(_logits(merged), _logits(beside), atol=1e-5)
    assert not torch.allclose(_logits(merged), _logits(_load(tiny_t5)), atol=1e-3)
    assert not any(parameter.requires_grad for parameter in beside.model.parameters())


def test_a_missing_adapter_is_told_with_the_fix(tmp_path: Path, tiny_t5: Path) -> None:
    """Without adapter_config.json there is no adapter."""
    with pytest.raises(CheckpointError, match="set lora_config.enabled to false"):
        _load(tiny_t5, lora_path=tmp_path)


def test_an_adapter_of_another_shape_is_refused(tmp_path: Path, tiny_t5: Path) -> None:
    """An adapter made for modules of another size does not load."""
    folder = save_t5(tmp_path / "other", words=WORDS.split(), seed=1, width=48)
    config = LoraConfig(r=4, target_modules=["q", "v"])
    model = get_peft_model(AutoModelForSeq2SeqLM.from_pretrained(folder), config)
    model.save_pretrained(tmp_path / "adapter")
    with pytest.raises(CheckpointError, match="does not fit"):
        _load(tiny_t5, lora_path=tmp_path / "adapter")
