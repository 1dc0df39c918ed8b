"""The output folder of a training run: what is found, refused and removed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from igrag.errors import CheckpointError, UsageError
from igrag.training.changes import refuse_changes
from igrag.training.checkpoints import (
    RECORD_NAME,
    RESULTS_NAME,
    TrainingFolder,
    checkpoint_name,
    has_stopped_improving,
    record_of,
    step_of,
)
from tests.trainings import training

SCORES = {0: 0.1, 2: 0.4, 9: 0.2, 10: 0.3, 20: 0.3}


def filled(path: Path, *, limit: int | None = None, best: bool = True) -> TrainingFolder:
    """Makes the folder of a run with these scores, all checkpoints complete."""
    for step in SCORES:
        if step:
            (path / checkpoint_name(step)).mkdir(parents=True)
            training(SCORES).write(path / checkpoint_name(step) / RECORD_NAME)
    if best:
        (path / "best").mkdir(parents=True)
    return TrainingFolder(path, best_name="best", save_total_limit=limit)


def test_checkpoints_are_sorted_by_step(tmp_path: Path) -> None:
    """Sorting is by number, not by name; an incomplete checkpoint is only a folder."""
    folder = filled(tmp_path)
    (tmp_path / "checkpoint-x").mkdir()
    (tmp_path / "checkpoint-10" / RECORD_NAME).unlink()
    assert [step_of(path) for path in folder.folders()] == [2, 9, 10, 20]
    assert [step_of(path) for path in folder.checkpoints()] == [2, 9, 20]
    assert TrainingFolder(tmp_path / "none", best_name="best").folders() == []


def test_latest_is_the_newest_complete_checkpoint(tmp_path: Path) -> None:
    """An empty folder has none, which is no error: a run can end before its first one."""
    folder = filled(tmp_path)
    assert folder.find("latest") == tmp_path / "checkpoint-20"
    (tmp_path / "checkpoint-20" / RECORD_NAME).unlink()
    assert folder.find("latest") == tmp_path / "checkpoint-10"
    assert TrainingFolder(tmp_path / "empty", best_name="best").find("latest") is None


def test_resume_path_must_be_a_checkpoint_of_the_folder(tmp_path: Path) -> None:
    """Another path is named with what is expected; an empty one is a usage error."""
    folder = filled(tmp_path / "a")
    filled(tmp_path / "b")
    wanted = tmp_path / "a" / "checkpoint-9"
    assert folder.find(str(wanted)) == wanted
    assert record_of(wanted) == training(SCORES)
    with pytest.raises(CheckpointError, match="expected a checkpoint of"):
        folder.find(str(tmp_path / "b" / "checkpoint-9"))
    with pytest.raises(CheckpointError, match="expected a folder checkpoint-N, or latest"):
        folder.find(str(tmp_path / "a"))
    with pytest.raises(UsageError, match=r"--resume_from_checkpoint: found nothing"):
        folder.find("")


def test_earlier_run_is_refused_with_a_fix(tmp_path: Path) -> None:
    """Resuming is suggested only if there is a complete checkpoint."""
    TrainingFolder(tmp_path / "new", best_name="best").refuse_to_overwrite()
    folder = filled(tmp_path / "a")
    with pytest.raises(UsageError, match=r"\(checkpoint-2, .*--resume_from_checkpoint latest"):
        folder.refuse_to_overwrite()
    for path in folder.folders():
        (path / RECORD_NAME).unlink()
        path.rmdir()
    refusals: list[Callable[[], object]] = [
        folder.refuse_to_overwrite,
        lambda: folder.find("latest"),
    ]
    for refused in refusals:
        with pytest.raises(UsageError, match=r"\(best\); without a complete checkpoint") as caught:
            refused()
        assert "latest" not in str(caught.value)


@pytest.mark.parametrize("resume", [False, True])
def test_unwritable_output_folder_is_refused(tmp_path: Path, resume: bool) -> None:
    """A file in its place or above it, a dead link, a name too long: one line with a fix.

    Nothing is left behind by looking.
    """
    (tmp_path / "file").write_text("x")
    (tmp_path / "dead").symlink_to(tmp_path / "nowhere")
    for name in ("file", "file/below", "dead", "n" * 300, "/proc/none"):
        folder = TrainingFolder(tmp_path / name, best_name="best")
        with pytest.raises(UsageError, match="give another --output_dir") as caught:
            folder.find("latest") if resume else folder.refuse_to_overwrite()
        assert str(tmp_path / name).removesuffix("/below") in str(caught.value)
    TrainingFolder(tmp_path / "a" / "b", best_name="best").refuse_to_overwrite()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dead", "file"]


def test_pruning_keeps_the_best_and_other_runs_checkpoints(tmp_path: Path) -> None:
    """The oldest are removed first; without a limit none is."""
    filled(tmp_path, best=False).prune(training(SCORES))
    (tmp_path / "checkpoint-99").mkdir()
    assert len(TrainingFolder(tmp_path, best_name="best").folders()) == 5
    folder = TrainingFolder(tmp_path, best_name="best", save_total_limit=1)
    folder.prune(training(SCORES))
    assert [step_of(path) for path in folder.folders()] == [2, 20, 99]


def test_resuming_with_changed_settings_is_refused() -> None:
    """Every key that differs is named with both values, at any depth, and its group."""
    before: dict[str, dict[str, Any]] = {
        "settings": {"a": {"b": 1, "c": 2}, "d": 3},
        "data": {"count": 4},
    }
    refuse_changes(Path("x"), before, before, free=())
    now = {**before, "settings": {"a": {"b": 9, "c": 8}, "e": 3}}
    with pytest.raises(UsageError) as caught:
        refuse_changes(Path("x"), before, now, free=("a.c",))
    assert "other settings: a.b was 1, is 9; d was 3, is None; e was None, is 3;" in str(
        caught.value
    )
    with pytest.raises(UsageError, match="other data: count was 4, is 5"):
        refuse_changes(Path("x"), before, {**before, "data": {"count": 5}}, free=())


@pytest.mark.parametrize(
    ("patience", "stopped"), [(None, False), (1, True), (3, True), (4, False)]
)  # fmt: skip
def test_patience_counts_validations_after_the_best(patience: int | None, stopped: bool) -> None:
    """Training stops when as many validations as the patience followed the best."""
    assert has_stopped_improving(training(SCORES), patience) is stopped
    assert has_stopped_improving(training({0: 0.9}), patience) is False


@pytest.mark.parametrize("name", ["checkpoint-2-backup", "best"])
def test_folder_of_another_name_is_no_checkpoint(tmp_path: Path, name: str) -> None:
    """A folder with a record is refused if its name has no step."""
    folder = filled(tmp_path)
    (tmp_path / name).mkdir(exist_ok=True)
    training(SCORES).write(tmp_path / name / RECORD_NAME)
    with pytest.raises(CheckpointError, match=f"is called {name}, expected a folder checkpoint-N"):
        folder.find(str(tmp_path / name))


def test_checkpoint_can_be_given_as_a_dot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dot is the current folder."""
    folder = filled(tmp_path)
    monkeypatch.chdir(tmp_path / "checkpoint-9")
    assert folder.find(".") == tmp_path / "checkpoint-9"


def test_only_copy_of_the_best_is_not_replaced(tmp_path: Path) -> None:
    """Resuming before it is refused only if its own checkpoint is gone."""
    folder = filled(tmp_path)
    training(SCORES).write(tmp_path / RESULTS_NAME)
    before = training({0: 0.1})
    assert folder.saved_best() == training(SCORES).best
    folder.refuse_to_lose_best(tmp_path / "checkpoint-1", before)
    shutil.rmtree(tmp_path / "checkpoint-2")
    folder.refuse_to_lose_best(tmp_path / "checkpoint-9", training(SCORES))
    with pytest.raises(UsageError, match=r"best: is the only copy of checkpoint-2, .*checkpoint-1"):
        folder.refuse_to_lose_best(tmp_path / "checkpoint-1", before)


def test_clear_removes_the_run_and_nothing_else(tmp_path: Path) -> None:
    """checkpoint_for allows it, clear does it; files of the user's own stay."""
    filled(tmp_path)
    folder = TrainingFolder(tmp_path, best_name="best", other_files=["predictions.json"])
    for name in (RESULTS_NAME, "training_curves.png", "predictions.json", "notes.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "checkpoint-x").mkdir()
    assert folder.checkpoint_for(None, overwrite=True) is None
    assert len(folder.checkpoints()) == 4
    folder.clear()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-x", "notes.txt"]


def test_overwriting_and_resuming_exclude_each_other(tmp_path: Path) -> None:
    """A run that resumes needs what overwriting removes."""
    with pytest.raises(UsageError, match="--overwrite_output_dir and --resume_from_checkpoint"):
        filled(tmp_path).checkpoint_for("latest", overwrite=True)


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    """Temporary files and folders of the run itself go; checkpoints and other hidden files stay."""
    folder = filled(tmp_path)
    for name in (".checkpoint-7.ab_c1d2e.tmp", ".best.abcdefgh.tmp", ".best.abcdefgh.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "prompt_embeddings.pt").write_text("half")
    (tmp_path / ".all_results.json.abcdefgh.tmp.json").write_text("half")
    (tmp_path / "best" / ".prompt_embeddings.pt.abcdefgh.tmp.pt").write_text("half")
    (tmp_path / "checkpoint-9" / ".training_record.json.abcdefgh.tmp.json").write_text("half")
    kept = [tmp_path / name for name in (".hidden", ".notes.abcdefgh.tmp", ".checkpoint-7")]
    for path in kept:
        path.write_text("mine")
    folder.remove_leftovers()
    assert [path for path in tmp_path.rglob(".*") if path not in kept] == []
    assert all(path.is_file() for path in kept)
    assert len(folder.checkpoints()) == 4
