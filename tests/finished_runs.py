"""Training runs that tests share: trained once per session, copied by each test."""

import shutil
from pathlib import Path
from typing import Protocol

import pytest

from igrag.training.record import TrainingRecord


class Trainer(Protocol):
    """Trains in this process, and returns the output folder."""

    output: Path

    def train(self, name: str = "run", /, *more: str, **settings: object) -> Path:
        """Trains into `output / name`."""


class FinishedRuns:
    """Runs of one trainer by their settings; the first test that asks for one trains it."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._runs: dict[str, Path] = {}

    def copy_to(self, folder: Path, **settings: object) -> Path:
        """Copies the finished run of these settings to a folder, and returns the folder."""
        key = repr(sorted(settings.items()))
        if key not in self._runs:
            with pytest.MonkeyPatch.context() as patch:
                skip_curves(patch)
                self._runs[key] = self._trainer.train(f"run-{len(self._runs)}", **settings)
        return Path(shutil.copytree(self._runs[key], folder))


class CopyRun(Protocol):
    """Copies a finished run into the test's own output folder, instead of training again."""

    def __call__(self, name: str = "run", /, **settings: object) -> Path:
        """Returns the folder `name`, as the trainer's `train` with these settings fills it."""


def skip_curves(patch: pytest.MonkeyPatch) -> None:
    """Replaces the drawing of the curves, a third of a tiny run's time, by an empty file."""

    def touch(record: TrainingRecord, path: Path) -> None:
        path.touch()

    patch.setattr("igrag.training.curves.draw_curves", touch)
    patch.setattr("prompt_tuning.checkpoints.draw_curves", touch)
