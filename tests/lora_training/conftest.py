"""Fixtures of the adapter's training."""

from pathlib import Path

import pytest

from tests.examples import save_examples
from tests.lora_training.training import Trainer


@pytest.fixture
def trainer(tiny_t5: Path, tmp_path: Path) -> Trainer:
    """A training of 5 steps an epoch, the last of them short: 37 examples, 4 x 2 a step."""
    data = tmp_path / "examples"
    data.mkdir()
    save_examples(data / "train.jsonl", count=37, seed=0)
    save_examples(data / "val.jsonl", count=10, seed=1)
    return Trainer(tiny_t5, data, tmp_path)
