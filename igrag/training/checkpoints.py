"""The output folder of a training run: its checkpoints, and which of them a run resumes from.

Prompt tuning and LoRA keep different files in a checkpoint; what they find, refuse and remove is
the same for both.
"""

import logging
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from igrag.errors import CheckpointError, UsageError
from igrag.files import check_output_folder
from igrag.training.record import Evaluation, TrainingRecord

RECORD_NAME, RESULTS_NAME = "training_record.json", "all_results.json"
CURVES_NAME = "training_curves.png"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_LEFTOVER = re.compile(r"\.(?P<name>.+)\.[^.]+\.(tmp|old)")  # as igrag.files names them
# Settings of two runs that are compared as the same training with other seeds.
_MAY_DIFFER = re.compile(
    r"training\.(seed|output_dir|report_to|save_total_limit)|output\..*"
    r"|prompt_tuning\.weights_path|evaluation\.save_total_limit"
)
logger = logging.getLogger(__name__)


class TrainingFolder:
    """checkpoint-N folders, a copy of the best one, all_results.json and the training curves.

    A checkpoint is complete if it has a record, which is written last or together with the rest.

    Args:
        path: The folder, which need not exist yet.
        best_name: Name of the folder with the copy of the best checkpoint.
        save_total_limit: Checkpoints to keep in addition to the best one; None keeps all.
        other_files: Names of further files that a run writes into the folder, for `clear`.
    """

    def __init__(
        self,
        path: Path,
        *,
        best_name: str,
        save_total_limit: int | None = None,
        other_files: Collection[str] = (),
    ) -> None:
        self.path = path
        self._best = path / best_name
        self._limit = save_total_limit
        self._other_files = other_files

    def folders(self) -> list[Path]:
        """Returns the checkpoint folders, complete or not, the newest last."""
        if not self.path.is_dir():
            return []
        found = [path for path in self.path.iterdir() if _CHECKPOINT.fullmatch(path.name)]
        return sorted(found, key=step_of)

    def checkpoints(self) -> list[Path]:
        """Returns the complete checkpoints, the newest last."""
        return [path for path in self.folders() if (path / RECORD_NAME).is_file()]

    def refuse_to_overwrite(self) -> None:
        """Makes sure that a new run can start in the folder.

        Raises:
            UsageError: It holds an earlier run, or cannot be written to.
        """
        check_output_folder(self.path, option="--output_dir")
        found = [
            str(path.relative_to(self.path) if path.is_relative_to(self.path) else path)
            for path in (*self.folders(), self._best)
            if path.exists()
        ]
        if not found:
            return
        fix = "without a complete checkpoint to resume from"
        if self.checkpoints():
            fix = "resume it with --resume_from_checkpoint latest"
        raise UsageError(
            f"{self.path}: holds an earlier training run ({', '.join(found[:3])}); {fix}, replace "
            "it with --overwrite_output_dir, or give another --output_dir"
        )

    def find(self, wanted: str) -> Path | None:
        """Finds the checkpoint to resume from: "latest" in this folder, or a path.

        Returns:
            Its folder; None if "latest" finds none, since a run can end before its first one.

        Raises:
            UsageError: The folder cannot be written to; `wanted` is empty; or "latest" finds no
                checkpoint, but a best one that a new run would replace.
            CheckpointError: The path is no checkpoint of this folder.
        """
        if not wanted:
            raise UsageError(
                "--resume_from_checkpoint: found nothing, expected latest or a folder checkpoint-N"
            )
        check_output_folder(self.path, option="--output_dir")
        if wanted == "latest":
            found = next(reversed(self.checkpoints()), None)
            if found is None and self._best.exists():
                self.refuse_to_overwrite()
            return found
        path = Path(wanted).resolve()  # "." gets a name, too.
        if not (path / RECORD_NAME).is_file():
            raise CheckpointError(
                f"{wanted}: no {RECORD_NAME} there, expected a folder checkpoint-N, or latest"
            )
        if not _CHECKPOINT.fullmatch(path.name):
            raise CheckpointError(
                f"{wanted}: is called {path.name}, expected a folder checkpoint-N, or latest"
            )
        if path.parent != self.path.resolve():
            raise CheckpointError(
                f"{wanted}: belongs to {path.parent}, expected a checkpoint of {self.path}; "
                "give its folder as --output_dir"
            )
        return self.path / path.name

    def checkpoint_for(self, resume: str | None, *, overwrite: bool = False) -> Path | None:
        """Finds the checkpoint to resume from, before anything is loaded.

        Args:
            resume: "latest" or a checkpoint's folder; None starts a new run.
            overwrite: The new run may replace an earlier one; the caller calls `clear` for that
                once everything is loaded and checked.

        Returns:
            Its folder; None to start a new run, also if "latest" finds none.

        Raises:
            UsageError: The folder cannot be written to, or holds what a new run would replace; or
                both `resume` and `overwrite` are set.
            CheckpointError: There is none at the path.
        """
        if overwrite:
            if resume is not None:
                raise UsageError(
                    "--overwrite_output_dir and --resume_from_checkpoint: found both, expected one"
                )
            check_output_folder(self.path, option="--output_dir")
            return None
        if resume is None:
            self.refuse_to_overwrite()
            return None
        checkpoint = self.find(resume)
        if checkpoint is None:
            logger.warning("%s: no checkpoint found; training starts a new run", self.path)
        return checkpoint

    def clear(self) -> None:
        """Removes the files of an earlier run, and nothing else that lies in the folder."""
        self.remove_leftovers()
        for folder in (*self.folders(), self._best):
            if folder.is_dir():
                shutil.rmtree(folder)
        for name in (RESULTS_NAME, CURVES_NAME, *self._other_files):
            (self.path / name).unlink(missing_ok=True)

    def remove_leftovers(self) -> None:
        """Removes temporary files and folders of a run that was killed while it wrote them.

        To be called once a run owns the folder: another one that still runs would lose its own.
        """
        for path in list(self._leftovers()):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _leftovers(self) -> Iterator[Path]:
        own = {self._best.name, RESULTS_NAME, CURVES_NAME, *self._other_files}
        for folder in (self.path, self._best, *self.folders()):
            for path in folder.glob(".*"):
                # Temporary files repeat their suffix: ".a.json.x1y2.tmp.json".
                match = _LEFTOVER.fullmatch(path.name) or _LEFTOVER.fullmatch(path.stem)
                name = match["name"] if match else ""
                # In the output folder itself, the user may keep files of other programs.
                if match and (folder != self.path or name in own or _CHECKPOINT.fullmatch(name)):
                    yield path

    def saved_best(self) -> Evaluation | None:
        """Returns the evaluation whose copy the best folder is; None without all_results.json."""
        path = self.path / RESULTS_NAME
        return TrainingRecord.read(path).best if path.is_file() else None

    def refuse_to_lose_best(self, checkpoint: Path, record: TrainingRecord) -> None:
        """Makes sure that resuming from a checkpoint replaces no only copy of a later best one.

        Args:
            checkpoint: What the run resumes from.
            record: The record that it holds.

        Raises:
            UsageError: The best folder is all that is left of a later checkpoint.
        """
        best = self.saved_best()
        if (
            best is not None
            and best not in record.evaluations
            and self._best.exists()
            and not (self.path / str(best.checkpoint)).exists()
        ):
            raise UsageError(
                f"{self._best}: is the only copy of {best.checkpoint}, and would be replaced by "
                f"resuming from {checkpoint.name}; move it elsewhere first"
            )

    def prune(self, record: TrainingRecord) -> None:
        """Removes the oldest of a record's checkpoints beyond the limit, but never the best."""
        if self._limit is None:
            return
        best = record.best.checkpoint if record.best else None
        # A run that resumed from an earlier checkpoint may find later ones in the folder: they are
        # not this record's, and the user's to remove.
        own = {evaluation.checkpoint for evaluation in record.evaluations} - {best}
        removable = [path for path in self.folders() if path.name in own]
        for path in removable[: max(0, len(removable) - self._limit)]:
            shutil.rmtree(path)


def checkpoint_name(step: int) -> str:
    """Returns the name of the checkpoint after `step` steps, as transformers' Trainer names it."""
    return f"checkpoint-{step}"


def step_of(checkpoint: Path) -> int:
    """Returns the step in a checkpoint's name."""
    return int(checkpoint.name.partition("-")[2])


def record_of(checkpoint: Path) -> TrainingRecord:
    """Reads the record as it was when a checkpoint was written.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    return TrainingRecord.read(checkpoint / RECORD_NAME)


def refuse_changes(
    checkpoint: Path,
    before: Mapping[str, dict[str, Any]],
    now: Mapping[str, dict[str, Any]],
    *,
    free: Collection[str],
) -> None:
    """Makes sure that a run resumes with what it was started with.

    Args:
        checkpoint: What the run resumes from.
        before: "settings", "data", ... -> what the checkpoint was made with.
        now: The same of this run.
        free: Keys "section.key" that may change, as they do not change what is computed.

    Raises:
        UsageError: Something else differs.
    """
    for what in before:
        changed = [text for key, text in differences(before[what], now[what]) if key not in free]
        if changed:
            raise UsageError(
                f"{checkpoint}: was made with other {what}: {'; '.join(changed)}; "
                "resume with the same, or start a new run with another --output_dir"
            )


def refuse_other_training(
    file: Path, record: TrainingRecord, first_file: Path, first: TrainingRecord
) -> None:
    """Makes sure that two runs differ in their seed alone: only then a mean means something.

    Args:
        file: The run's all_results.json.
        record: Its content.
        first_file: That of the run that it is compared with.
        first: Its content.

    Raises:
        UsageError: Method, model, data or settings differ.
    """
    here, there = (
        {"base_model": run.model.name, "examples": run.data, **run.config, "method": run.method}
        for run in (record, first)
    )
    changed = [text for key, text in differences(there, here) if not _MAY_DIFFER.fullmatch(key)]
    if record.method != first.method:  # Then all settings differ.
        changed = [f"method was {first.method}, is {record.method}"]
    if changed:
        raise UsageError(
            f"{file}: found another training than {first_file}: {'; '.join(changed)}; "
            "expected runs that differ in their seed alone"
        )


def has_stopped_improving(record: TrainingRecord, patience: int | None) -> bool:
    """Returns whether the last `patience` validations brought no new best; None: never."""
    if patience is None or record.best is None:
        return False
    tuned = [evaluation for evaluation in record.evaluations if evaluation.checkpoint]
    return len(tuned) - 1 - tuned.index(record.best) >= patience


def differences(
    before: dict[str, Any], now: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, str]]:
    """Yields the keys of nested settings that differ, each with a text that names both values.

    Args:
        before: Section -> key -> value.
        now: The same later.
        prefix: The sections around both, with a dot at the end.
    """
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key}", f"{prefix}{key} was {old}, is {new}"
