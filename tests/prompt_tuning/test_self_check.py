"""The check before training names what would fail silently."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from igrag.captioning.language_model import load_language_model
from igrag.errors import TrainingError
from prompt_tuning.optimization import build_optimizer
from prompt_tuning.prompt_tuner import PromptTuner
from prompt_tuning.self_check import check_before_training
from tests.prompt_tuning.models import make_tuner


@pytest.fixture
def tuner(tiny_t5: Path) -> PromptTuner:
    """A prompt prepended to the tiny model."""
    language = load_language_model(str(tiny_t5), device="cpu", dtype="float32")
    return make_tuner(language, 3)


def batch() -> dict[str, Tensor]:
    """Returns a batch of two, the second row padded."""
    return {
        "input_ids": torch.tensor([[5, 6, 7, 1], [8, 1, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]),
        "labels": torch.tensor([[9, 10, 1], [11, 1, -100]]),
    }


def check(
    tuner: PromptTuner,
    optimizer: Optimizer | None = None,
    *,
    change: Callable[[dict[str, Tensor]], None] = lambda batch: None,
    target_lengths: tuple[int, ...] = (3, 2),
) -> None:
    """Checks a valid training but for what the arguments change."""
    changed = batch()
    change(changed)
    check_before_training(
        tuner,
        optimizer or AdamW(tuner.trainable_parameters()),
        changed,
        eos_token_id=1,
        source_lengths=(4, 2),
        target_lengths=target_lengths,
    )


def test_self_check_passes_a_valid_training(tuner: PromptTuner) -> None:
    """It leaves the prompt as it is, and no gradient."""
    before = tuner.plain_prompt()
    check(tuner)
    assert torch.equal(tuner.plain_prompt(), before) and tuner.prompt_embeddings.grad is None


def test_optimizer_of_other_tensors_is_refused(tuner: PromptTuner) -> None:
    """The optimizer must hold the prompt, and only the prompt."""
    other = nn.Parameter(torch.zeros(1))
    with pytest.raises(TrainingError, match="0 of them the prompt's"):
        check(tuner, AdamW([other]))
    with pytest.raises(TrainingError, match="2 tensors"):
        check(tuner, AdamW([tuner.prompt_embeddings, other]))


def test_optimizer_without_tensors_is_refused() -> None:
    """An optimizer without tensors is refused where it is made."""
    with pytest.raises(TrainingError, match="nothing is trainable"):
        build_optimizer([], "adamw", learning_rate=0.1, weight_decay=0.0)


def test_trainable_model_parameter_is_refused(tuner: PromptTuner) -> None:
    """The error names the parameter."""
    next(tuner.model.parameters()).requires_grad_(True)
    with pytest.raises(TrainingError, match="expected it frozen"):
        check(tuner, AdamW([tuner.prompt_embeddings]))


def test_labels_with_padding_inside_are_refused(tuner: PromptTuner) -> None:
    """-100 between tokens, or another negative number, is no label."""

    def ignore_first(batch: dict[str, Tensor]) -> None:
        batch["labels"][0, 0] = -100

    def negative(batch: dict[str, Tensor]) -> None:
        batch["labels"][1, 2] = -1

    def pad(batch: dict[str, Tensor]) -> None:
        batch["labels"][1, 2] = 0

    for change in (ignore_first, negative, pad):
        with pytest.raises(TrainingError, match="labels"):
            check(tuner, change=change)


def test_truncation_to_the_end_token_is_refused(tuner: PromptTuner) -> None:
    """The error names the key to raise."""
    with pytest.raises(TrainingError, match=r"1 of 2 examples.*max_target_length"):
        check(tuner, target_lengths=(3, 1))


@pytest.fixture
def mask_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks every prompt."""
    source = PromptTuner._encoder_inputs

    def ignore(
        self: PromptTuner, ids: Tensor, mask: Tensor, prompts: None, vectors: None
    ) -> dict[str, Tensor]:
        found = source(self, ids, mask, prompts, vectors)
        if "inputs_embeds" in found:  # The prompt is there, and masked out.
            found["attention_mask"] = found["attention_mask"].clone()
            found["attention_mask"][:, : self.prompt_length] = 0
        return found

    monkeypatch.setattr(PromptTuner, "_encoder_inputs", ignore)


@pytest.mark.usefixtures("mask_prompt")
def test_unused_prompt_is_refused(tuner: PromptTuner) -> None:
    """Training is refused if the prompt does not change the output."""
    with pytest.raises(TrainingError, match=r"gradient|does not change"):
        check(tuner)


@pytest.mark.usefixtures("mask_prompt")
def test_dropout_does_not_hide_an_unused_prompt(tiny_t5: Path) -> None:
    """Two passes that differ only by dropout do not show that the prompt is used."""
    language = load_language_model(str(tiny_t5), device="cpu", dtype="float32")
    tuner = make_tuner(language, 3, model_dropout=True).train()
    with pytest.raises(TrainingError, match="does not change the model's output"):
        check(tuner)
    assert tuner.training and tuner.model.training


def test_gradient_that_is_not_finite_is_refused(tuner: PromptTuner) -> None:
    """Broken weights are named before they change the prompt."""
    with torch.no_grad():
        tuner.model.get_input_embeddings().weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match="not finite"):
        check(tuner)
