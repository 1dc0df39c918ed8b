"""Runs the prompt training on the tiny model, in this process or as users type it."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from igrag.config import REPO_ROOT
from igrag.training.record import TrainingRecord
from prompt_tuning import prompt_training
from tests.launchers import start

SCRIPT = str(REPO_ROOT / "prompt_tuning" / "prompt_training.py")


class Trainer:
    """Trains on tiny data; each run has an output folder of its own by default."""

    def __init__(self, model: Path, train: Path, val: Path, output: Path) -> None:
        self.output = output
        self._settings = {
            "model.name": model,
            "data.train_file": train,
            "data.val_file": val,
            "prompt_tuning.prompt_length": 4,
            "training.num_train_epochs": 2,
            "training.per_device_train_batch_size": 4,
            "training.gradient_accumulation_steps": 2,
            "training.learning_rate": 0.3,
            "evaluation.per_device_eval_batch_size": 4,
            "evaluation.max_new_tokens": 6,
            "evaluation.eval_steps": 3,
        }

    def share_data(self, other: "Trainer") -> None:
        """Trains on the data files of another trainer."""
        for key in ("data.train_file", "data.val_file"):
            self._settings[key] = other._settings[key]

    def words(self, output: Path, *more: str, **settings: object) -> list[str]:
        """Returns the command line; keys are given as section__key."""
        changed = {key.replace("__", "."): value for key, value in settings.items()}
        both = {**self._settings, **changed}
        pairs = [word for key, value in both.items() for word in ("--set", f"{key}={value}")]
        return ["--train", "--device", "cpu", "--output_dir", str(output), *pairs, *more]

    def train(self, name: str = "run", /, *more: str, **settings: object) -> Path:
        """Trains in this process and returns the output folder."""
        output = self.output / name
        arguments, parser = prompt_training.parse_arguments(self.words(output, *more, **settings))
        assert prompt_training.main(arguments, parser) == 0
        return output

    def start(
        self, name: str, *more: str, launcher: Sequence[str] = (sys.executable,), **settings: object
    ) -> "subprocess.Popen[str]":
        """Starts the training as a process of its own."""
        words = self.words(self.output / name, *more, **settings)
        return start(SCRIPT, words, launcher)


def record_of(output: Path) -> TrainingRecord:
    """Reads the record of a training."""
    return TrainingRecord.read(output / "all_results.json")


def losses(output: Path) -> list[float]:
    """Returns the loss of every step."""
    return [step.loss for step in record_of(output).history]
