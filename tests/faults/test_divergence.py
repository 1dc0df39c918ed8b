"""Trainings whose learning rate is beyond reason."""

from pathlib import Path

import pytest
import torch

from igrag.errors import ConfigError, TrainingError
from igrag.training.divergence import DivergenceGuard
from tests.faults.silent import lora_trainer, prompt_trainer
from tests.trainings import training


def test_prompt_training_of_an_absurd_learning_rate_stops_and_leaves_best_alone(
    tiny_t5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the step; no checkpoint and no best prompt come from it."""
    trainer = prompt_trainer(tiny_t5, tmp_path, monkeypatch)
    with pytest.raises(TrainingError, match=r"step 1: the largest trained value is 1e\+30, .*rate"):
        trainer.train("run", training__learning_rate=1e30)
    assert [path.name for path in (tmp_path / "run").glob("*") if path.is_dir()] == []


def test_lora_training_of_an_absurd_learning_rate_stops_and_leaves_best_alone(
    tiny_t5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the step; no checkpoint and no best adapter come from it."""
    trainer = lora_trainer(tiny_t5, tmp_path, monkeypatch)
    with pytest.raises(TrainingError, match=r"step 1: the largest trained value is 1e\+30, .*rate"):
        trainer.train("run", training__learning_rate=1e30)
    assert list((tmp_path / "run").glob("*/adapter_model.safetensors")) == []


def test_learning_rate_that_float32_cannot_hold_is_a_configuration_error(
    tiny_t5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A learning rate of 1e38 is refused before anything is loaded, not an internal error."""
    trainer = prompt_trainer(tiny_t5, tmp_path, monkeypatch)
    with pytest.raises(ConfigError, match=r"learning_rate: found 1e\+38, expected less than"):
        trainer.train("run", training__learning_rate=1e38)


def test_guard_refuses_losses_far_above_the_untuned_model() -> None:
    """A loss of the untuned model's size passes; one far above it, or none at all, does not."""
    guard = DivergenceGuard([], torch.ones(100, 4), training({0: 0.1}))
    guard.check_loss(3, 12.0)
    for loss in (16.0, float("nan")):
        with pytest.raises(TrainingError, match=r"step 3: the loss is"):
            guard.check_loss(3, loss)
