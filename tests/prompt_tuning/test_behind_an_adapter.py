"""A soft prompt around a model with a LoRA adapter that is not merged into it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from igrag.captioning.language_model import load_language_model
from prompt_tuning.prompt_tuner import PromptTuner
from tests.prompt_tuning.adapters import load_adapted, save_adapter
from tests.prompt_tuning.models import batch_of, inputs_of, make_tuner, noise, tuner_of


def test_unmerged_adapter_stays_active_with_a_prompt(tiny_t5: Path, tmp_path: Path) -> None:
    """The prompt changes the adapted model's output; without it that is the same, bit for bit."""
    language = load_adapted(tiny_t5, save_adapter(tmp_path / "lora", tiny_t5))
    model: Any = language.model
    tuner = tuner_of(language, noise(5))
    batch = batch_of(language.tokenizer)
    inputs = inputs_of(batch)
    options: dict[str, Any] = {"max_new_tokens": 8, "num_beams": 1, "do_sample": False}
    with torch.no_grad():
        behind = tuner(**batch).logits
        with tuner.disabled():
            assert torch.equal(tuner(**batch).logits, model(**batch).logits)
            assert torch.equal(
                tuner.generate(**inputs, **options), model.generate(**inputs, **options)
            )
        with model.disable_adapter():
            without = tuner(**batch).logits
    assert (behind - without).abs().max() > 1e-2


@pytest.mark.parametrize("adapted", [False, True])
def test_model_and_new_adapter_are_frozen(tiny_t5: Path, adapted: bool) -> None:
    """Model and adapter, whose tensors are trainable when loaded, are frozen by the tuner."""
    language = load_language_model(str(tiny_t5), device="cpu", dtype="float32")
    model: Any = language.model.requires_grad_(True)
    if adapted:
        model = get_peft_model(model, LoraConfig(r=2, target_modules=["q", "v"]))
    assert any(parameter.requires_grad for parameter in model.parameters())
    tuner = PromptTuner(model, noise(5)).train()
    trained = [name for name, value in tuner.named_parameters() if value.requires_grad]
    assert trained == ["prompt_embeddings"]


def test_unmerged_adapter_equals_merged_adapter(tiny_t5: Path, tmp_path: Path) -> None:
    """Loss, gradient and tokens are the same with the adapter merged and not merged."""
    adapter = save_adapter(tmp_path / "lora", tiny_t5)
    found = []
    for merge in (False, True):
        language = load_adapted(tiny_t5, adapter, merge=merge)
        tuner = tuner_of(language, noise(5))
        batch = batch_of(language.tokenizer)
        loss = tuner(**batch).loss
        loss.backward()
        tokens = tuner.generate(**inputs_of(batch), max_new_tokens=8, num_beams=1, do_sample=False)
        found.append((loss.detach(), tuner.prompt_embeddings.grad, tokens))
    for unmerged, merged in zip(*found, strict=True):
        torch.testing.assert_close(unmerged, merged, atol=1e-4, rtol=1e-4)


def test_reenabled_adapter_is_not_trained(tiny_t5: Path, tmp_path: Path) -> None:
    """PEFT unfreezes an adapter that it enables again; the optimizer gets only the prompt."""
    language = load_adapted(tiny_t5, save_adapter(tmp_path / "lora", tiny_t5))
    tuner = make_tuner(language, 5).train()
    with tuner.model.disable_adapter():
        pass
    assert any(parameter.requires_grad for parameter in tuner.model.parameters())
    before = {name: value.clone() for name, value in tuner.model.state_dict().items()}
    assert [tuple(value.shape) for value in tuner.trainable_parameters()] == [(5, 32)]
    optimizer = torch.optim.AdamW(tuner.trainable_parameters(), lr=1.0, weight_decay=0.1)
    first = tuner.plain_prompt()
    tuner(**batch_of(language.tokenizer)).loss.backward()
    optimizer.step()
    assert any("lora_" in name for name in before)
    assert all(torch.equal(before[name], after) for name, after in tuner.model.state_dict().items())
    assert not torch.equal(tuner.plain_prompt(), first)
