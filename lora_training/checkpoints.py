"""The output folder of LoRA training.

output_dir/
  checkpoint-N/     after N steps: the adapter in PEFT's format, base_model.json, the Trainer's
                    state for resuming, and training_record.json: without it a checkpoint is
                    incomplete (superseded_record.json: a run went back behind it)
  best/             the adapter of the checkpoint with the highest BLEU-4
  all_results.json  training_curves.png
"""

import logging
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

from igrag.errors import CheckpointError, DataError
from igrag.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, BASE_NAME, atomic_directory, read_json
from igrag.inputs import reason_of
from igrag.training.checkpoints import (
    CURVES_NAME,
    RECORD_NAME,
    RESULTS_NAME,
    TrainingFolder,
    complete_checkpoint,
    step_of,
)
from igrag.training.record import TrainingRecord

BEST_NAME = "best"
_STATE_NAMES = ("optimizer.pt", "scheduler.pt", "rng_state.pth")
_TRAINER_STATE_NAME = "trainer_state.json"
_SUPERSEDED_NAME = "superseded_record.json"
logger = logging.getLogger(__name__)


class AdapterFolder(TrainingFolder):
    """The output folder of LoRA training.

    Args:
        path: The folder.
        save_total_limit: Checkpoints to keep in addition to the best one; None keeps all.
    """

    def __init__(self, path: Path, *, save_total_limit: int | None = None) -> None:
        super().__init__(
            path,
            best_name=BEST_NAME,
            state_files=[ADAPTER_CONFIG, ADAPTER_WEIGHTS, *_STATE_NAMES, _TRAINER_STATE_NAME],
            save_total_limit=save_total_limit,
        )

    def check(self, checkpoint: Path) -> None:
        """Checks a checkpoint, see `TrainingFolder`; that of an earlier version has no checksums.

        Raises:
            CheckpointError: It is damaged.
        """
        super().check(checkpoint)
        _check_readable(checkpoint)

    def checkpoints_for_latest(self) -> list[Path]:
        """Returns the checkpoints that "latest" looks at: not those that a run went back behind."""
        return [path for path in self.folders() if not (path / _SUPERSEDED_NAME).is_file()]

    def rewind_to(self, checkpoint: Path, record: TrainingRecord) -> None:
        """Brings the folder back to a checkpoint's record; later checkpoints become incomplete.

        Otherwise "latest" would find them again. Their adapters stay until they are overwritten.

        Raises:
            UsageError: best is all that is left of a later one.
            CheckpointError: See `save_results`.
        """
        self.refuse_to_lose_best(checkpoint, record)
        self.remove_leftovers()
        self.save_results(record)
        later = [path for path in self.checkpoints() if step_of(path) > step_of(checkpoint)]
        for path in later:
            (path / RECORD_NAME).replace(path / _SUPERSEDED_NAME)
        if later:
            logger.warning(
                "%s: resumes from %s; %s will be overwritten when training gets there (until then, "
                "renaming %s to %s restores one)",
                self.path, checkpoint.name, ", ".join(path.name for path in later),
                _SUPERSEDED_NAME, RECORD_NAME,
            )  # fmt: skip

    def write_record(self, checkpoint: Path, record: TrainingRecord) -> None:
        """Writes the record into the folder of a checkpoint whose other files are complete."""
        size = (checkpoint / ADAPTER_WEIGHTS).stat().st_size
        record.model = replace(record.model, size_bytes=size)
        complete_checkpoint(checkpoint, record)

    def save_results(self, record: TrainingRecord) -> None:
        """Updates best, all_results.json and the curves to a record.

        Raises:
            CheckpointError: The best checkpoint is gone, and best is not its copy.
        """
        from igrag.training.curves import draw_curves

        if record.best is not None and record.best.checkpoint is not None:
            checkpoint = self.path / record.best.checkpoint
            if checkpoint.is_dir():
                self._copy_best(checkpoint)
            elif record.best != self.saved_best() or not (self.path / BEST_NAME).is_dir():
                raise CheckpointError(
                    f"{checkpoint}: is gone, and {BEST_NAME} is no copy of it, expected the "
                    "checkpoint of the highest BLEU-4; resume from another one"
                )
        record.write(self.path / RESULTS_NAME)
        draw_curves(record, self.path / CURVES_NAME)

    def _copy_best(self, checkpoint: Path) -> None:
        best = self.path / BEST_NAME
        names = [ADAPTER_CONFIG, ADAPTER_WEIGHTS]
        if (checkpoint / BASE_NAME).is_file():  # Checkpoints of earlier versions lack it.
            names.append(BASE_NAME)
        if all(_same_bytes(checkpoint / name, best / name) for name in names):
            return
        with atomic_directory(best) as folder:
            for name in names:
                shutil.copyfile(checkpoint / name, folder / name)


def _same_bytes(first: Path, second: Path) -> bool:
    return second.is_file() and first.read_bytes() == second.read_bytes()


def _check_readable(checkpoint: Path) -> None:
    """Checks that every file of a checkpoint can be read, without unpickling any code."""
    import torch
    from safetensors import SafetensorError, safe_open
    from transformers.trainer_pt_utils import safe_globals

    name = ADAPTER_WEIGHTS
    try:
        with safe_open(checkpoint / name, "pt"):
            pass
        for name in _STATE_NAMES:
            with safe_globals():  # NumPy's random state is an array.
                torch.load(checkpoint / name, map_location="cpu", weights_only=True)
        for name in (ADAPTER_CONFIG, _TRAINER_STATE_NAME):
            read_json(checkpoint / name)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError,
            SafetensorError, DataError) as error:  # fmt: skip
        reason = reason_of(error, checkpoint / name)
        raise CheckpointError(
            f"{checkpoint / name}: damaged ({reason}); resume from another one"
        ) from error
