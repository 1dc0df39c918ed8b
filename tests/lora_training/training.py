"""Runs the training of the adapter on the tiny model, and reads what it wrote."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from igrag.config import REPO_ROOT
from igrag.training.record import TrainingRecord
from lora_training import train_lora
from lora_training.trainer import AdapterTrainer
from tests.launchers import start

SCRIPT = str(REPO_ROOT / "lora_training" / "train_lora.py")
WEIGHTS = "adapter_model.safetensors"


class Trainer:
    """Trains on tiny data; each run has an output folder of its own by default."""

    def __init__(self, model: Path, data: Path, output: Path) -> None:
        self.model, self.data, self.output = model, data, output
        self._settings = {
            "model.name": model,
            "data.output_data": data,
            "lora.r": 4,
            "training.num_train_epochs": 2,
            "training.per_device_train_batch_size": 4,
            "training.gradient_accumulation_steps": 2,
            "training.learning_rate": 0.01,
            "training.per_device_eval_batch_size": 4,
            "training.max_new_tokens": 6,
            "training.eval_steps": 3,
        }

    def words(self, output: Path, *more: str, **settings: object) -> list[str]:
        """Returns the command line; keys are given as section__key."""
        changed = {key.replace("__", "."): value for key, value in settings.items()}
        both = {**self._settings, **changed}
        pairs = [word for key, value in both.items() for word in ("--set", f"{key}={value}")]
        return ["--train", "--device", "cpu", "--output_dir", str(output), *pairs, *more]

    def train(self, name: str = "run", /, *more: str, **settings: object) -> Path:
        """Trains in this process and returns the output folder."""
        output = self.output / name
        words = self.words(output, *more, **settings)
        assert train_lora.main(train_lora.parse_arguments(words)) == 0
        return output

    def start(
        self, name: str, *more: str, launcher: Sequence[str] = (sys.executable,), **settings: object
    ) -> "subprocess.Popen[str]":
        """Starts the training as a process of its own."""
        words = self.words(self.output / name, *more, **settings)
        return start(SCRIPT, words, launcher)

    def interrupt(
        self, name: str, monkeypatch: pytest.MonkeyPatch, *, after: int, **settings: object
    ) -> None:
        """Trains until Ctrl-C comes in the micro-batch number `after`."""
        step, calls = AdapterTrainer.training_step, []

        def interrupted(self: AdapterTrainer, *arguments: Any) -> object:
            calls.append(1)
            if len(calls) == after:
                raise KeyboardInterrupt
            return step(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(AdapterTrainer, "training_step", interrupted)
            with pytest.raises(KeyboardInterrupt):
                self.train(name, **settings)


def record_of(output: Path) -> TrainingRecord:
    """Reads the record of a training."""
    return TrainingRecord.read(output / "all_results.json")


def losses(output: Path) -> list[float]:
    """Returns the loss of every step."""
    return [step.loss for step in record_of(output).history]


def adapters(output: Path) -> dict[str, bytes]:
    """Returns the adapter's bytes in each checkpoint and in best."""
    return {file.parent.name: file.read_bytes() for file in output.glob(f"*/{WEIGHTS}")}
