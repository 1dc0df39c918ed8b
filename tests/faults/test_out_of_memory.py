"""Memory that runs out in training and captioning."""

from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import T5ForConditionalGeneration

from igrag.captioning.generator import CaptionGenerator
from igrag.captioning.language_model import load_language_model
from igrag.errors import MemoryExhaustedError
from igrag.memory import explain_out_of_memory
from prompt_tuning.prompt_tuner import PromptTuner
from tests.faults.silent import lora_trainer, prompt_trainer
from tests.prompt_tuning.training import record_of


def fail(*arguments: Any, **options: Any) -> Any:
    """Allocates as much as no machine has: the error is torch's own."""
    return torch.empty(1 << 60, dtype=torch.uint8)


def test_captioning_names_the_batch_size_and_the_one_to_try(
    tiny_t5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is one line about the setting, not about an allocator."""
    language = load_language_model(str(tiny_t5), device="cpu")
    generator = CaptionGenerator(language.model, language.tokenizer, batch_size=6)
    monkeypatch.setattr(language.model, "generate", fail)
    message = r"generation_config\.batch_size=6; try generation_config\.batch_size=3"
    with pytest.raises(MemoryExhaustedError, match=message):
        generator.generate(["a dog"])


def test_training_names_the_batch_size_and_the_one_to_try(
    tiny_t5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory that runs out in a step is reported with the setting of the micro-batch."""
    trainer = prompt_trainer(tiny_t5, tmp_path, monkeypatch)
    forward, calls = PromptTuner.forward, []

    def fails_later(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        return fail() if len(calls) > 5 else forward(*arguments, **options)

    monkeypatch.setattr(PromptTuner, "forward", fails_later)
    message = r"per_device_train_batch_size=4; try training\.per_device_train_batch_size=2"
    with pytest.raises(MemoryExhaustedError, match=message):
        trainer.train()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_every_error_of_memory_is_recognized(error: Exception) -> None:
    """Python's, CUDA's and the CPU allocator's; a batch of one has no smaller one to try."""
    expected = pytest.raises(MemoryExhaustedError, match="key=1; use a smaller model")
    with expected, explain_out_of_memory("key", 1):
        raise error


def test_other_errors_pass_through() -> None:
    """A shape that does not fit is no question of memory."""
    with pytest.raises(RuntimeError, match="shape"), explain_out_of_memory("key", 2):
        raise RuntimeError("shape mismatch")


@pytest.fixture
def room_for_four(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a forward pass with a gradient fail as the CPU's allocator does, above four examples."""
    forward = T5ForConditionalGeneration.forward

    @wraps(forward)  # Generation looks at the names of the arguments.
    def small(self: Any, *arguments: Any, **options: Any) -> Any:
        source = options.get("input_ids", options.get("inputs_embeds"))
        if torch.is_grad_enabled() and source is not None and len(source) > 4:
            return fail()
        return forward(self, *arguments, **options)

    monkeypatch.setattr(T5ForConditionalGeneration, "forward", small)


@pytest.mark.slow
@pytest.mark.usefixtures("room_for_four")
@pytest.mark.parametrize("make", [prompt_trainer, lora_trainer], ids=["prompt", "lora"])
def test_auto_finds_what_fits_and_keeps_the_global_batch(
    tiny_t5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, capsys: Any
) -> None:
    """Sixteen examples do not fit and four do: a step has four times as many passes of them."""
    trainer = make(tiny_t5, tmp_path, monkeypatch)
    output = trainer.train(
        training__per_device_train_batch_size="auto", training__gradient_accumulation_steps=2
    )
    assert "auto: 4 examples fit, 8 of these in an optimizer step" in capsys.readouterr().out
    settings = record_of(output).config["training"]
    assert settings["per_device_train_batch_size"] == 4
    assert settings["gradient_accumulation_steps"] == 8
