"""Fixtures of LoRA training."""

import json
import shutil
from pathlib import Path

import pytest

from tests.examples import save_examples
from tests.finished_runs import CopyRun, FinishedRuns, skip_curves
from tests.lora_training.training import Trainer


def make_trainer(model: Path, output: Path) -> Trainer:
    """Makes a trainer of 5 steps an epoch, the last of them short: 37 examples, 4 x 2 a step."""
    data = output / "examples"
    data.mkdir()
    save_examples(data / "train.jsonl", count=37, seed=0)
    save_examples(data / "val.jsonl", count=10, seed=1)
    return Trainer(model, data, output)


@pytest.fixture
def trainer(tiny_t5: Path, tmp_path: Path) -> Trainer:
    """A trainer with data and an output folder of the test's own; see `make_trainer`."""
    return make_trainer(tiny_t5, tmp_path)


@pytest.fixture
def exact(trainer: Trainer, tiny_t5: Path) -> Trainer:
    """The training of a model without dropout, so that losses can be computed independently."""
    trainer.model = Path(shutil.copytree(tiny_t5, trainer.output / "t5"))
    config = json.loads((trainer.model / "config.json").read_text("utf-8"))
    (trainer.model / "config.json").write_text(json.dumps({**config, "dropout_rate": 0.0}))
    trainer._settings |= {"model.name": trainer.model, "lora.lora_dropout": 0.0}
    return trainer


@pytest.fixture(scope="session")
def finished_runs(tiny_t5: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRuns:
    """The runs that `copy_run` copies."""
    return FinishedRuns(make_trainer(tiny_t5, tmp_path_factory.mktemp("lora")))


@pytest.fixture
def copy_run(trainer: Trainer, finished_runs: FinishedRuns) -> CopyRun:
    """Copies a finished run into the trainer's output folder."""

    def copy(name: str = "run", /, **settings: object) -> Path:
        return finished_runs.copy_to(trainer.output / name, **settings)

    return copy


@pytest.fixture
def real_curves() -> None:
    """Has the curves drawn, for tests that check them."""


@pytest.fixture(autouse=True)
def without_curves(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains without drawing the curves, unless a test uses `real_curves`."""
    if "real_curves" not in request.fixturenames:
        skip_curves(monkeypatch)
