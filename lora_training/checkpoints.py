"""The folder that a training of the adapter writes to.

output_dir/
  checkpoint-N/     after N steps: the adapter in PEFT's format, base_model.json, what the Trainer
                    needs to go on, and training_record.json, which comes last: without it a
                    checkpoint is not whole (superseded_record.json: training went back behind it)
  best/             the adapter of the checkpoint with the highest BLEU-4
  all_results.json  training_curves.png
"""

import logging
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

from igrag.captioning.adapters import BASE_NAME
from igrag.errors import CheckpointError, DataError
from igrag.files import atomic_directory, read_json
from igrag.training.checkpoints import (
    RECORD_NAME,
    RESULTS_NAME,
    TrainingFolder,
    checkpoint_name,
    step_of,
)
from igrag.training.record import TrainingRecord

BEST_NAME, CURVES_NAME = "best", "training_curves.png"
# As PEFT and the Trainer name them; language_model.py has the first two, and imports torch.
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_STATE_NAMES = ("optimizer.pt", "scheduler.pt", "rng_state.pth")
_TRAINER_STATE_NAME = "trainer_state.json"
_SUPERSEDED_NAME = "superseded_record.json"
logger = logging.getLogger(__name__)


class AdapterFolder(TrainingFolder):
    """The output folder of a training.

    Args:
        path: Where it is.
        save_total_limit: Checkpoints to keep beside the best one; None keeps all.
    """

    def __init__(self, path: Path, *, save_total_limit: int | None = None) -> None:
        super().__init__(path, best_name=BEST_NAME, save_total_limit=save_total_limit)

    def find(self, wanted: str) -> Path | None:
        """Finds the checkpoint to go on from; see `TrainingFolder`.

        Raises:
            CheckpointError: There is none at the path, or it is damaged.
        """
        found = super().find(wanted)
        return found and _checked(found)

    def go_back_to(self, checkpoint: Path, record: TrainingRecord) -> None:
        """Publishes a checkpoint's record, and has those beyond it count no more.

        Otherwise "latest" would find them again, and where training writes over one of them an
        interruption would leave a mixture that counts as whole. Their adapters stay until then.

        Raises:
            UsageError: best is all that is left of one beyond it.
            CheckpointError: See `publish`.
        """
        self.refuse_to_lose_best(checkpoint, record)
        self.publish(record)
        beyond = [path for path in self.checkpoints() if step_of(path) > step_of(checkpoint)]
        for path in beyond:
            (path / RECORD_NAME).replace(path / _SUPERSEDED_NAME)
        if beyond:
            logger.warning(
                "%s: goes back to %s; %s will be written over as training gets there (until then "
                "%s, renamed to %s, brings one back)",
                self.path, checkpoint.name, ", ".join(path.name for path in beyond),
                _SUPERSEDED_NAME, RECORD_NAME,
            )  # fmt: skip

    def make_room(self, step: int) -> None:
        """Sees to it that what the Trainer is about to write is not whole before `keep`."""
        for name in (RECORD_NAME, _SUPERSEDED_NAME):
            (self.path / checkpoint_name(step) / name).unlink(missing_ok=True)

    def keep(self, record: TrainingRecord, step: int) -> None:
        """Makes a checkpoint whole that the Trainer just wrote, then see `publish`."""
        checkpoint = self.path / checkpoint_name(step)
        size = (checkpoint / ADAPTER_WEIGHTS).stat().st_size
        record.model = replace(record.model, size_bytes=size)
        record.write(checkpoint / RECORD_NAME)
        self.publish(record)
        self.prune(record)

    def publish(self, record: TrainingRecord) -> None:
        """Brings best, all_results.json and the curves to where the record is.

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
                    "checkpoint of the highest BLEU-4; go on from another one"
                )
        record.write(self.path / RESULTS_NAME)
        draw_curves(record, self.path / CURVES_NAME)

    def _copy_best(self, checkpoint: Path) -> None:
        best = self.path / BEST_NAME
        names = [ADAPTER_CONFIG, ADAPTER_WEIGHTS]
        if (checkpoint / BASE_NAME).is_file():  # Checkpoints from before it was written are whole.
            names.append(BASE_NAME)
        if all(_same_bytes(checkpoint / name, best / name) for name in names):
            return
        with atomic_directory(best) as folder:
            for name in names:
                shutil.copyfile(checkpoint / name, folder / name)


def _same_bytes(first: Path, second: Path) -> bool:
    return second.is_file() and first.read_bytes() == second.read_bytes()


def _checked(checkpoint: Path) -> Path:
    """Makes sure that all of a checkpoint can be read, unpickling nothing.

    The Trainer passes over a state that is missing, and would go on with other numbers.
    """
    import torch
    from safetensors import SafetensorError, safe_open
    from transformers.trainer_pt_utils import safe_globals

    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS, *_STATE_NAMES, _TRAINER_STATE_NAME):
        if not (checkpoint / name).is_file():
            raise CheckpointError(f"{checkpoint}: {name} is missing; go on from another one")
    name = ADAPTER_WEIGHTS
    try:
        with safe_open(checkpoint / name, "pt"):
            pass
        for name in _STATE_NAMES:
            with safe_globals():  # The state of NumPy's random numbers is an array.
                torch.load(checkpoint / name, map_location="cpu", weights_only=True)
        for name in (ADAPTER_CONFIG, _TRAINER_STATE_NAME):
            read_json(checkpoint / name)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError,
            SafetensorError, DataError) as error:  # fmt: skip
        reason = " ".join(str(error).split())[:100]
        raise CheckpointError(
            f"{checkpoint / name}: damaged ({reason}); go on from another one"
        ) from error
    return checkpoint
