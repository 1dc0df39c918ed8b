"""Adapters that change the base model's weights when they are loaded."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import GenerationConfig

from igrag.captioning.language_model import load_language_model
from prompt_tuning.without_adapter import WithoutAdapter

IDS = torch.tensor([[5, 6, 7, 1]])


class Logits:
    """Returns logits in place of generated tokens."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def generate(self, *, input_ids: Tensor, **options: object) -> Tensor:
        """Returns the logits of the input as its own target."""
        logits: Tensor = self._model(input_ids=input_ids, labels=input_ids).logits
        return logits


@pytest.mark.parametrize("initialization", ["pissa", "olora"])
def test_model_without_its_adapter_is_the_base_model_bit_for_bit(
    tiny_t5: Path, tmp_path: Path, initialization: Any
) -> None:
    """Switched off, an adapter that moved a part of the weights leaves nothing out."""
    base = load_language_model(str(tiny_t5), device="cpu").model
    expected = base(input_ids=IDS, labels=IDS).logits
    lora = LoraConfig(
        r=4, target_modules=["q", "v"], init_lora_weights=initialization, task_type="SEQ_2_SEQ_LM"
    )
    get_peft_model(base, lora).save_pretrained(str(tmp_path / "lora"))
    language = load_language_model(
        str(tiny_t5), device="cpu", lora_path=tmp_path / "lora", merge_lora=False
    )
    with_adapter = Logits(language.model)
    before = with_adapter.generate(input_ids=IDS)
    without = WithoutAdapter(language.model, with_adapter, language.base_weights)
    found = without.generate(
        input_ids=IDS, attention_mask=torch.ones_like(IDS), generation_config=GenerationConfig()
    )
    assert torch.equal(found, expected)
    assert torch.equal(with_adapter.generate(input_ids=IDS), before)
