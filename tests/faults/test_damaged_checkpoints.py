"""A damaged newest checkpoint, and a damaged all_results.json, cost a resume nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

from igrag.errors import CheckpointError
from igrag.training.checkpoints import TrainingFolder
from lora_training.checkpoints import AdapterFolder
from prompt_tuning.checkpoints import CheckpointFolder
from tests.faults.lost_outputs import LATEST, TRAINERS, training_results
from tests.finished_runs import FinishedRuns, Trainer, skip_curves

RECORD, RESULTS = "training_record.json", "all_results.json"
FOLDERS: dict[str, Callable[[Path], TrainingFolder]] = {
    "prompt": CheckpointFolder,
    "lora": AdapterFolder,
}
STATES = {"prompt": "training_state.pt", "lora": "optimizer.pt"}


@dataclass
class Recipe:
    """One of the two trainings, with a finished run of it."""

    name: str
    trainer: Trainer
    runs: FinishedRuns

    @property
    def state(self) -> str:
        """Name of a file of a checkpoint's state."""
        return STATES[self.name]

    def copy(self, folder: Path) -> Path:
        """Copies the finished run, with checkpoints after 3, 6, 9 and 10 steps."""
        return self.runs.copy_to(folder)


@pytest.fixture(scope="module", params=TRAINERS)
def recipe(
    request: pytest.FixtureRequest, tiny_t5: Path, tmp_path_factory: pytest.TempPathFactory
) -> Recipe:
    """Each of the two recipes."""
    AcceleratorState._reset_state(reset_partial_state=True)
    name: str = request.param
    trainer = TRAINERS[name](tiny_t5, tmp_path_factory.mktemp(name))
    runs = FinishedRuns(trainer)
    runs.copy_to(tmp_path_factory.mktemp(name) / "first")  # Training sets the log up again.
    return Recipe(name, trainer, runs)


def truncate(file: Path, other: Path) -> None:
    """Cuts a file off in its middle."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path, other: Path) -> None:
    """Leaves nothing of a file's content."""
    file.write_bytes(b"")


def remove(file: Path, other: Path) -> None:
    """Removes a file."""
    file.unlink()


def swap(file: Path, other: Path) -> None:
    """Replaces a file by that of another checkpoint."""
    shutil.copyfile(other / file.name, file)


@pytest.mark.parametrize("part", ["state", "record"])
@pytest.mark.parametrize("damage", [truncate, empty, remove, swap])
def test_latest_passes_over_a_damaged_checkpoint(
    recipe: Recipe,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path, Path], None],
    part: str,
) -> None:
    """The newest undamaged checkpoint is found, and the log names what was passed over and why."""
    output = recipe.copy(tmp_path / "run")
    name = recipe.state if part == "state" else RECORD
    for step in (9, 10):
        damage(output / f"checkpoint-{step}" / name, output / "checkpoint-6")
    assert FOLDERS[recipe.name](output).find("latest") == output / "checkpoint-6"
    reasons = [line for line in caplog.messages if line.startswith("passed over: ")]
    assert len(reasons) == 2
    for step, reason in zip((10, 9), reasons, strict=True):
        assert f"checkpoint-{step}" in reason and name in reason


def test_training_without_an_undamaged_checkpoint_is_refused(
    recipe: Recipe, tmp_path: Path
) -> None:
    """It does not start a new run over what could still be rescued by hand."""
    output = recipe.copy(tmp_path / "run")
    for checkpoint in output.glob("checkpoint-*"):
        empty(checkpoint / recipe.state, checkpoint)
    with pytest.raises(CheckpointError, match=r"all its checkpoints are damaged, the newest .*-10"):
        FOLDERS[recipe.name](output).find("latest")


def test_resume_behind_damage_ends_with_the_same_result(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training goes back to the checkpoint before, and all_results.json is written again."""
    skip_curves(monkeypatch)
    whole = recipe.copy(tmp_path / "whole")
    output = recipe.copy(recipe.trainer.output / "damaged")
    truncate(output / "checkpoint-10" / recipe.state, output)
    truncate(output / RESULTS, output)
    recipe.trainer.train("damaged", *LATEST)
    assert training_results(output) == training_results(whole)
