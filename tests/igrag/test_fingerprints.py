"""The hash of a model's weights: every parameter counts, and nothing that is put around them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSeq2SeqLM

from igrag.captioning.language_model import load_language_model
from igrag.fingerprints import weights_hash


def load(path: Path, dtype: str = "float32") -> Any:
    """Loads the tiny model."""
    return AutoModelForSeq2SeqLM.from_pretrained(path, dtype=getattr(torch, dtype)).eval()


def test_every_parameter_counts(tiny_t5: Path) -> None:
    """Another value in any of them is another model; the same values are the same one."""
    first = weights_hash(load(tiny_t5))
    assert weights_hash(load(tiny_t5)) == first
    model = load(tiny_t5)
    for name, parameter in model.named_parameters():
        kept = parameter.detach().clone()
        with torch.no_grad():
            parameter.view(-1)[0] += 1
        assert weights_hash(model) != first, name
        parameter.data = kept
    assert weights_hash(model) == first
    model.lm_head.weight.data = model.lm_head.weight.data.view(32, -1)  # The same numbers.
    assert weights_hash(model) != first


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_dtype_does_not_change_the_fingerprint(tiny_t5: Path, dtype: str) -> None:
    """bfloat16 has the hash of float32; float16 rounds otherwise and has none."""
    expected = weights_hash(load(tiny_t5)) if dtype == "bfloat16" else None
    assert weights_hash(load(tiny_t5, dtype)) == expected


@pytest.mark.parametrize("options", [{}, {"modules_to_save": ["lm_head"]}, {"use_dora": True}])
def test_unmerged_adapter_does_not_count(tiny_t5: Path, options: dict[str, Any]) -> None:
    """An adapter of any type leaves the hash of the base model's weights."""
    config = LoraConfig(r=2, target_modules=["q", "wo"], **options)
    expected = weights_hash(load(tiny_t5))
    assert weights_hash(get_peft_model(load(tiny_t5), config)) == expected


def test_large_parameters_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large one evenly strided values are looked at, from its beginning to its end."""
    monkeypatch.setattr("igrag.fingerprints._SAMPLED", 10)
    layer = torch.nn.Linear(100, 1, bias=False)
    first = weights_hash(layer)
    seen = []
    for place in range(100):
        with torch.no_grad():
            layer.weight[0, place] += 1
            seen += [place] if weights_hash(layer) != first else []
            layer.weight[0, place] -= 1
    assert seen == list(range(0, 100, 10))


def test_loaded_model_knows_its_weights(tiny_t5: Path) -> None:
    """`load_language_model` returns the hash, whatever is done with the model afterwards."""
    language = load_language_model(str(tiny_t5), device="cpu")
    assert language.weights == weights_hash(load(tiny_t5)) is not None
