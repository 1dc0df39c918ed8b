"""The output folder of a training run: its checkpoints, and which of them a run resumes from.

Prompt tuning and LoRA keep different files in a checkpoint; what they find, refuse and remove is
the same for both.
"""

import logging
import re
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from igrag.errors import CheckpointError, UsageError
from igrag.files import check_output_folder, remove_leftovers, sha256_file
from igrag.output_lock import held_since
from igrag.training.record import Evaluation, TrainingRecord, read_checksums

RECORD_NAME, RESULTS_NAME = "training_record.json", "all_results.json"
CURVES_NAME = "training_curves.png"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
logger = logging.getLogger(__name__)


class TrainingFolder:
    """checkpoint-N folders, a copy of the best one, all_results.json and the training curves.

    A checkpoint is complete if it has a record, which is written last or together with the rest.

    Args:
        path: The folder, which need not exist yet.
        best_name: Name of the folder with the copy of the best checkpoint.
        state_files: Names of the files in a checkpoint that resuming needs.
        save_total_limit: Checkpoints to keep in addition to the best one; None keeps all.
        other_files: Names of further files that a run writes into the folder, for `clear`.
    """

    def __init__(
        self,
        path: Path,
        *,
        best_name: str,
        state_files: Collection[str] = (),
        save_total_limit: int | None = None,
        other_files: Collection[str] = (),
    ) -> None:
        self.path = path
        self._best = path / best_name
        self._state_files = state_files
        self._limit = save_total_limit
        self._other_files = other_files

    def folders(self) -> list[Path]:
        """Returns the checkpoint folders, complete or not, the newest last."""
        return checkpoint_folders(self.path)

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
        """Finds the checkpoint to resume from: a path, or "latest", the newest undamaged one.

        Returns:
            Its folder; None if "latest" finds none, since a run can end before its first one.

        Raises:
            UsageError: The folder cannot be written to; `wanted` is empty; or "latest" finds no
                checkpoint, but a best one that a new run would replace.
            CheckpointError: The path is no checkpoint of this folder, or is damaged, as all are
                that "latest" finds.
        """
        if not wanted:
            raise UsageError(
                "--resume_from_checkpoint: found nothing, expected latest or a folder checkpoint-N"
            )
        check_output_folder(self.path, option="--output_dir")
        if wanted == "latest":
            found = self._newest_whole()
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
        self.check(self.path / path.name)
        return self.path / path.name

    def check(self, checkpoint: Path) -> None:
        """Checks that a run can resume from a checkpoint: its record, and the files it needs.

        Raises:
            CheckpointError: It is damaged.
        """
        record, step = record_of(checkpoint), step_of(checkpoint)
        if record.history and record.history[-1].step != step:
            raise CheckpointError(
                f"{checkpoint / RECORD_NAME}: is of step {record.history[-1].step}, expected "
                f"{step}; resume from another one"
            )
        checksums = read_checksums(checkpoint / RECORD_NAME)
        for name in self._state_files:
            if not (checkpoint / name).is_file():
                raise CheckpointError(f"{checkpoint}: {name} is missing; resume from another one")
            if name in checksums and sha256_file(checkpoint / name) != checksums[name]:
                raise CheckpointError(
                    f"{checkpoint / name}: damaged, or of another checkpoint (its checksum is not "
                    f"that in {RECORD_NAME}); resume from another one"
                )

    def _newest_whole(self) -> Path | None:
        """Returns the newest undamaged checkpoint, and logs why newer ones were passed over."""
        reasons = []
        for path in reversed(self.checkpoints_for_latest()):
            try:
                self.check(path)
            except CheckpointError as error:
                reasons.append(str(error).removesuffix("; resume from another one"))
                continue
            for reason in reasons:
                logger.warning("passed over: %s", reason)
            return path
        if self.checkpoints():
            raise CheckpointError(
                f"{self.path}: all its checkpoints are damaged, the newest because {reasons[0]}; "
                "replace the run with --overwrite_output_dir, or give another --output_dir"
            )
        return None

    def checkpoints_for_latest(self) -> list[Path]:
        """Returns the checkpoints that "latest" looks at, the newest last."""
        return self.folders()

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
        own = {self._best.name, RESULTS_NAME, CURVES_NAME, *self._other_files}
        before = held_since(self.path)
        # In the output folder itself, the user may keep files of other programs.
        remove_leftovers(
            self.path,
            is_own=lambda name: name in own or _CHECKPOINT.fullmatch(name) is not None,
            before=before,
        )
        for folder in (self._best, *self.folders()):
            remove_leftovers(folder, is_own=lambda name: True, before=before)

    def saved_best(self) -> Evaluation | None:
        """Returns the evaluation whose copy the best folder is; None without all_results.json.

        Of a damaged all_results.json, that of the newest checkpoint's record.
        """
        path = self.path / RESULTS_NAME
        if not path.is_file():
            return None
        try:
            return TrainingRecord.read(path).best
        except CheckpointError as error:
            logger.warning("%s; the checkpoints have the same record", error)
        for checkpoint in reversed(self.checkpoints()):
            with suppress(CheckpointError):
                return record_of(checkpoint).best
        return None

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
        """Removes the oldest of a record's checkpoints beyond the limit, but never the best.

        Those of interruptions before the newest validation go too: nothing needs them any more.
        """
        validated = {evaluation.checkpoint for evaluation in record.evaluations}
        for path in self.checkpoints():
            is_earlier = step_of(path) < record.evaluations[-1].step
            if is_earlier and path.name not in validated and is_interruption(path):
                shutil.rmtree(path)
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


def checkpoint_folders(output: Path) -> list[Path]:
    """Returns the checkpoint folders of a training, complete or not, the newest last."""
    if not output.is_dir():
        return []
    found = [path for path in output.iterdir() if _CHECKPOINT.fullmatch(path.name)]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """Returns the step in a checkpoint's name."""
    return int(checkpoint.name.partition("-")[2])


def record_of(checkpoint: Path) -> TrainingRecord:
    """Reads the record as it was when a checkpoint was written.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    return TrainingRecord.read(checkpoint / RECORD_NAME)


def find_record(folder: Path, method: str) -> TrainingRecord | None:
    """Reads the record next to a checkpoint or the best one, if it belongs to its training.

    Args:
        folder: The checkpoint, in the output folder of its training.
        method: What it holds: the record's `method`.

    Raises:
        CheckpointError: The record is damaged.
    """
    path = folder.resolve().parent / RESULTS_NAME
    if not path.is_file():
        return None
    record = TrainingRecord.read(path)
    known = {record.best_folder, *(found.checkpoint for found in record.evaluations)}
    if record.method != method or folder.name not in known:
        logger.warning("%s: is not the record of %s; its figures are left out", path, folder)
        return None
    return record


def is_interruption(checkpoint: Path) -> bool:
    """Returns whether a checkpoint was saved by an interruption, so without a validation."""
    step = step_of(checkpoint)
    try:
        record = record_of(checkpoint)
    except CheckpointError:  # A damaged one is the user's to remove.
        return False
    is_own = bool(record.history) and record.history[-1].step == step
    return is_own and not is_validated(record, step)


def is_validated(record: TrainingRecord, step: int) -> bool:
    """Returns whether the newest validation of a record is that after `step` steps."""
    return bool(record.evaluations) and record.evaluations[-1].step == step


def complete_checkpoint(folder: Path, record: TrainingRecord) -> None:
    """Writes the record into a checkpoint's folder, with the checksums of what is there."""
    checksums = {path.name: sha256_file(path) for path in sorted(folder.iterdir())}
    checksums.pop(RECORD_NAME, None)
    record.write(folder / RECORD_NAME, checksums=checksums)


def has_stopped_improving(record: TrainingRecord, patience: int | None) -> bool:
    """Returns whether the last `patience` validations brought no new best; None: never."""
    if patience is None or record.best is None:
        return False
    tuned = [evaluation for evaluation in record.evaluations if evaluation.checkpoint]
    return len(tuned) - 1 - tuned.index(record.best) >= patience
