"""Trainings on tiny data for the tests of what would be silent and wrong."""

from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

from tests.examples import save_examples
from tests.finished_runs import skip_curves
from tests.lora_training import training as lora
from tests.prompt_tuning import training as prompts


def prompt_trainer(model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> prompts.Trainer:
    """Makes a prompt trainer of 5 steps an epoch, without curves."""
    AcceleratorState._reset_state(reset_partial_state=True)
    skip_curves(monkeypatch)
    train = save_examples(folder / "train.jsonl", count=37, seed=0)
    val = save_examples(folder / "val.jsonl", count=10, seed=1)
    return prompts.Trainer(model, train, val, folder)


def lora_trainer(model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> lora.Trainer:
    """Makes an adapter trainer of 5 steps an epoch, without curves."""
    skip_curves(monkeypatch)
    data = folder / "examples"
    data.mkdir()
    save_examples(data / "train.jsonl", count=37, seed=0)
    save_examples(data / "val.jsonl", count=10, seed=1)
    return lora.Trainer(model, data, folder)
