"""Fixtures of prompt training."""

from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

from igrag.captioning.language_model import LanguageModel, load_language_model
from tests.examples import save_examples
from tests.finished_runs import CopyRun, FinishedRuns, skip_curves
from tests.prompt_tuning.training import Trainer


@pytest.fixture(autouse=True)
def any_precision() -> None:
    """Lets a test choose its precision: a process keeps that of its first training."""
    AcceleratorState._reset_state(reset_partial_state=True)


def make_trainer(model: Path, output: Path) -> Trainer:
    """Makes a trainer of 5 steps an epoch, the last of them short: 37 examples, 4 x 2 a step."""
    train = save_examples(output / "train.jsonl", count=37, seed=0)
    val = save_examples(output / "val.jsonl", count=10, seed=1)
    return Trainer(model, train, val, output)


@pytest.fixture
def trainer(tiny_t5: Path, tmp_path: Path) -> Trainer:
    """A trainer with data and an output folder of the test's own; see `make_trainer`."""
    return make_trainer(tiny_t5, tmp_path)


@pytest.fixture(scope="session")
def shared_trainer(tiny_t5: Path, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """The trainer of the runs that `copy_run` copies."""
    return make_trainer(tiny_t5, tmp_path_factory.mktemp("prompts"))


@pytest.fixture(scope="session")
def finished_runs(shared_trainer: Trainer) -> FinishedRuns:
    """The runs that `copy_run` copies."""
    return FinishedRuns(shared_trainer)


@pytest.fixture
def copy_run(trainer: Trainer, shared_trainer: Trainer, finished_runs: FinishedRuns) -> CopyRun:
    """Copies a finished run into the trainer's output folder, and gives it the run's data."""
    trainer.share_data(shared_trainer)  # A run resumes only with the files that it records.

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


@pytest.fixture(scope="session")
def language(tiny_t5: Path) -> LanguageModel:
    """The tiny model, in float32."""
    return load_language_model(str(tiny_t5), device="cpu", dtype="float32")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A path for a prompt file."""
    return tmp_path / "prompt_embeddings.pt"
