"""Fixtures of LoRA training."""

from pathlib import Path

import pytest

from igrag.training.record import TrainingRecord
from tests.examples import save_examples
from tests.lora_training.training import Trainer


@pytest.fixture
def real_curves() -> None:
    """To be requested where the curves are checked: other tests save time without them."""


@pytest.fixture
def trainer(
    tiny_t5: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Trainer:
    """A training of 5 steps an epoch, the last of them short: 37 examples, 4 x 2 a step."""
    data = tmp_path / "examples"
    data.mkdir()
    save_examples(data / "train.jsonl", count=37, seed=0)
    save_examples(data / "val.jsonl", count=10, seed=1)
    if "real_curves" not in request.fixturenames:
        monkeypatch.setattr("igrag.training.curves.draw_curves", _touch)
    return Trainer(tiny_t5, data, tmp_path)


def _touch(record: TrainingRecord, path: Path) -> None:
    path.touch()
