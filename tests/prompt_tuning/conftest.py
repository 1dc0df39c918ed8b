"""Fixtures of the prompt training."""

from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

from igrag.captioning.language_model import LanguageModel, load_language_model
from tests.examples import save_examples
from tests.prompt_tuning.training import Trainer


@pytest.fixture(autouse=True)
def any_precision() -> None:
    """A process has one precision, that of its first training; here a test begins without one."""
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def trainer(tiny_t5: Path, tmp_path: Path) -> Trainer:
    """A training of 5 windows an epoch, the last of them short: 37 examples, 8 in a window."""
    train = save_examples(tmp_path / "train.jsonl", count=37, seed=0)
    val = save_examples(tmp_path / "val.jsonl", count=10, seed=1)
    return Trainer(tiny_t5, train, val, tmp_path)


@pytest.fixture(scope="session")
def language(tiny_t5: Path) -> LanguageModel:
    """The tiny model, in float32."""
    return load_language_model(str(tiny_t5), device="cpu", dtype="float32")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a prompt goes."""
    return tmp_path / "prompt_embeddings.pt"
