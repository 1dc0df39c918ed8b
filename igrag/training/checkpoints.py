"""The folder that a training writes to: which checkpoints are there, and whether to go on from one.

Prompt tuning and LoRA keep different things in a checkpoint; what they find, refuse and remove is
the same, and stands here.
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
_FOLDER = re.compile(r"checkpoint-(\d+)")
logger = logging.getLogger(__name__)


class TrainingFolder:
    """checkpoint-N folders and a copy of the best of them.

    A checkpoint is whole where its record is: that is written last, or all at once.

    Args:
        path: The folder, which need not be there yet.
        best_name: Name of the folder with the copy of the best checkpoint.
        save_total_limit: Checkpoints to keep beside the best one; None keeps all.
    """

    def __init__(self, path: Path, *, best_name: str, save_total_limit: int | None = None) -> None:
        self.path = path
        self._best = path / best_name
        self._limit = save_total_limit

    def folders(self) -> list[Path]:
        """Lists the checkpoints, whole or not, the newest last."""
        if not self.path.is_dir():
            return []
        found = [path for path in self.path.iterdir() if _FOLDER.fullmatch(path.name)]
        return sorted(found, key=step_of)

    def checkpoints(self) -> list[Path]:
        """Lists the whole checkpoints, the newest last."""
        return [path for path in self.folders() if (path / RECORD_NAME).is_file()]

    def refuse_to_overwrite(self) -> None:
        """Makes sure that a training can begin in the folder.

        Raises:
            UsageError: It holds an earlier training, or cannot be written to.
        """
        check_output_folder(self.path, option="--output_dir")
        found = [path.name for path in (*self.folders(), self._best) if path.exists()]
        if not found:
            return
        ways = "without a whole checkpoint to go on from; give another --output_dir"
        if self.checkpoints():
            ways = "go on with it: --resume_from_checkpoint latest, or give another --output_dir"
        raise UsageError(f"{self.path}: holds an earlier training ({', '.join(found[:3])}); {ways}")

    def find(self, wanted: str) -> Path | None:
        """Finds the checkpoint to go on from: "latest" in this folder, or a path.

        Returns:
            Its folder; None where "latest" finds none, for an interruption can come before it.

        Raises:
            UsageError: The folder cannot be written to; nothing is wanted; or "latest" finds none,
                but a best one that starting a new run would replace.
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
        path = Path(wanted).resolve()  # "." too has the name that tells its step.
        if not (path / RECORD_NAME).is_file():
            raise CheckpointError(
                f"{wanted}: no {RECORD_NAME} there, expected a folder checkpoint-N, or latest"
            )
        if not _FOLDER.fullmatch(path.name):
            raise CheckpointError(
                f"{wanted}: is called {path.name}, expected a folder checkpoint-N, or latest"
            )
        if path.parent != self.path.resolve():
            raise CheckpointError(
                f"{wanted}: belongs to {path.parent}, expected a checkpoint of {self.path}; "
                "give its folder as --output_dir"
            )
        return self.path / path.name

    def checkpoint_for(self, resume: str | None) -> Path | None:
        """Finds the checkpoint to go on from, before anything is loaded.

        Args:
            resume: "latest" or a checkpoint's folder; None starts a new run.

        Returns:
            Its folder; None to start a new run, also where "latest" finds none.

        Raises:
            UsageError: The folder cannot be written to, or holds what a new run would replace.
            CheckpointError: There is none at the path.
        """
        if resume is None:
            self.refuse_to_overwrite()
            return None
        checkpoint = self.find(resume)
        if checkpoint is None:
            logger.warning("%s: no checkpoint there yet; training starts a new run", self.path)
        return checkpoint

    def published_best(self) -> Evaluation | None:
        """Tells whose copy the best one is; None where nothing says so."""
        path = self.path / RESULTS_NAME
        return TrainingRecord.read(path).best if path.is_file() else None

    def refuse_to_lose_best(self, checkpoint: Path, record: TrainingRecord) -> None:
        """Makes sure that going back to a checkpoint replaces no only copy of a better one.

        Args:
            checkpoint: What training goes back to.
            record: As it was then.

        Raises:
            UsageError: The best folder is all that is left of a checkpoint beyond it.
        """
        best = self.published_best()
        if (
            best is not None
            and best not in record.evaluations
            and self._best.exists()
            and not (self.path / str(best.checkpoint)).exists()
        ):
            raise UsageError(
                f"{self._best}: is the only copy of {best.checkpoint}, and would be replaced in "
                f"going back to {checkpoint.name}; move it elsewhere first"
            )

    def prune(self, record: TrainingRecord) -> None:
        """Removes the oldest of a record's checkpoints that are too many, but never the best."""
        if self._limit is None:
            return
        best = record.best.checkpoint if record.best else None
        # After going back to an earlier checkpoint, later ones may lie there: they are not this
        # record's, and the user's to remove.
        own = {evaluation.checkpoint for evaluation in record.evaluations} - {best}
        spare = [path for path in self.folders() if path.name in own]
        for path in spare[: max(0, len(spare) - self._limit)]:
            shutil.rmtree(path)


def checkpoint_name(step: int) -> str:
    """Names the checkpoint after `step` steps, as the library's Trainer does."""
    return f"checkpoint-{step}"


def step_of(checkpoint: Path) -> int:
    """Returns the steps that a checkpoint's name tells."""
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
    """Makes sure that a training goes on as it began.

    Args:
        checkpoint: What it goes on from.
        before: By kind ("settings", "data") what that was made with.
        now: The same of this run.
        free: Keys "section.key" that may change, as they do not change what is computed.

    Raises:
        UsageError: Something else is not the same.
    """
    for what in before:
        changed = [text for key, text in _differences(before[what], now[what]) if key not in free]
        if changed:
            raise UsageError(
                f"{checkpoint}: was made with other {what}: {'; '.join(changed)}; "
                "go on with the same, or start a new run with another --output_dir"
            )


def has_stopped_improving(record: TrainingRecord, patience: int | None) -> bool:
    """Tells whether the last `patience` validations brought no better BLEU-4; None: never."""
    if patience is None or record.best is None:
        return False
    tuned = [evaluation for evaluation in record.evaluations if evaluation.checkpoint]
    return len(tuned) - 1 - tuned.index(record.best) >= patience


def _differences(
    before: dict[str, Any], now: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, str]]:
    """Yields the keys that differ, each with a text that names both values."""
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key}", f"{prefix}{key} was {old}, is {new}"
