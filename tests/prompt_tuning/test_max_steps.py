"""training.max_steps ends a training within an epoch."""

import pytest

from igrag.training.record import TrainingRecord
from tests.prompt_tuning.training import Trainer


def test_training_ends_after_max_steps(trainer: Trainer) -> None:
    """The last step is validated and its checkpoint saved; a finished run resumes without more."""
    output = trainer.train("run", training__max_steps=7, training__num_train_epochs=9)
    record = TrainingRecord.read(output / "all_results.json")
    assert [step.step for step in record.history] == list(range(1, 8))
    assert [each.step for each in record.evaluations] == [0, 3, 6, 7]
    # The schedule is that of the steps that are made: its last one is a seventh of the peak.
    assert round(record.history[-1].learning_rate, 6) == round(0.3 / 7, 6)
    resumed = ("--resume_from_checkpoint", "latest")
    trainer.train("run", *resumed, training__max_steps=7, training__num_train_epochs=9)
    assert len(TrainingRecord.read(output / "all_results.json").history) == 7


@pytest.mark.slow
def test_max_steps_beyond_the_epochs_changes_nothing(trainer: Trainer) -> None:
    """All epochs are trained, on the same prompt."""
    name = "best_model/prompt_embeddings.pt"
    plain = trainer.train("plain", training__num_train_epochs=1)
    limited = trainer.train("limited", training__num_train_epochs=1, training__max_steps=100)
    assert (plain / name).read_bytes() == (limited / name).read_bytes()
