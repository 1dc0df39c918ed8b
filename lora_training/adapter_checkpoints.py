"""The folder that a training of the adapter writes to.

output_dir/
  checkpoint-N/     after N updates: the adapter in PEFT's format, base_model.json, what the Trainer
                    needs to go on, and training_record.json, which comes last: without it a
                    checkpoint is not whole (superseded_record.json: training went back behind it)
  best/             the adapter of the checkpoint with the highest BLEU-4
  all_results.json  training_curves.png
"""

import logging
import pickle
import re
import shutil
from dataclasses import replace
from pathlib import Path

from igrag.adapter_base import BASE_NAME
from igrag.errors import CheckpointError, DataError, UsageError
from igrag.files import atomic_directory, read_json
from igrag.training_record import Evaluation, TrainingRecord

BEST_NAME, RESULTS_NAME, CURVES_NAME = "best", "all_results.json", "training_curves.png"
# As PEFT and the Trainer name them; igrag.language_model has the first two, and imports torch.
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_STATE_NAMES = ("optimizer.pt", "scheduler.pt", "rng_state.pth")
_TRAINER_STATE_NAME, _RECORD_NAME = "trainer_state.json", "training_record.json"
_SUPERSEDED_NAME = "superseded_record.json"
_FOLDER = re.compile(r"checkpoint-(\d+)")
logger = logging.getLogger(__name__)


class AdapterFolder:
    """The output folder of a training.

    Args:
        path: Where it is.
        save_total_limit: Checkpoints to keep beside the best one; None keeps all.
    """

    def __init__(self, path: Path, *, save_total_limit: int | None = None) -> None:
        self.path = path
        self._limit = save_total_limit

    @staticmethod
    def name_of(step: int) -> str:
        """Names the checkpoint after `step` updates, as the Trainer does."""
        return f"checkpoint-{step}"

    def refuse_to_overwrite(self) -> None:
        """Makes sure that no earlier training is in the folder.

        Raises:
            UsageError: There is one.
        """
        best = self.path / BEST_NAME
        found = [path.name for path in (*self._folders(), best) if path.exists()]
        if not found:
            return
        ways = "without a whole checkpoint to go on from; give another --output_dir"
        if self.checkpoints():
            ways = "go on with it: --resume_from_checkpoint latest, or give another --output_dir"
        raise UsageError(f"{self.path}: holds an earlier training ({', '.join(found[:3])}); {ways}")

    def checkpoints(self) -> list[Path]:
        """Lists the whole checkpoints, the newest last."""
        return [path for path in self._folders() if (path / _RECORD_NAME).is_file()]

    def find(self, wanted: str) -> Path | None:
        """Finds the checkpoint to go on from: "latest" in this folder, or a path.

        Returns:
            Its folder; None where "latest" finds none, for an interruption can come before it.

        Raises:
            UsageError: "latest" finds none, but a best adapter that beginning anew would replace.
            CheckpointError: The path is no checkpoint of this folder, or one that is damaged.
        """
        if wanted == "latest":
            found = next(reversed(self.checkpoints()), None)
            if found is None and (self.path / BEST_NAME).exists():
                self.refuse_to_overwrite()
            return found and _checked(found)
        path = Path(wanted)
        if not (path / _RECORD_NAME).is_file():
            raise CheckpointError(
                f"{path}: no {_RECORD_NAME} there, expected a folder checkpoint-N, or latest"
            )
        if path.resolve().parent != self.path.resolve():
            raise CheckpointError(
                f"{path}: belongs to {path.resolve().parent}, expected a checkpoint of "
                f"{self.path}; give its folder as --output_dir"
            )
        return _checked(path)

    def go_back_to(self, checkpoint: Path, record: TrainingRecord) -> None:
        """Publishes a checkpoint's record, and has those beyond it count no more.

        Otherwise "latest" would find them again, and where training writes over one of them an
        interruption would leave a mixture that counts as whole. Their adapters stay until then.

        Raises:
            UsageError: best is all that is left of one beyond it.
            CheckpointError: See `publish`.
        """
        best, published = self.path / BEST_NAME, self._published_best()
        if (
            published is not None
            and published not in record.evaluations
            and best.exists()
            and not (self.path / str(published.checkpoint)).exists()
        ):
            raise UsageError(
                f"{best}: is the only copy of {published.checkpoint}, and would be replaced in "
                f"going back to {checkpoint.name}; move it elsewhere first"
            )
        self.publish(record)
        beyond = [path for path in self.checkpoints() if _step_of(path) > _step_of(checkpoint)]
        for path in beyond:
            (path / _RECORD_NAME).replace(path / _SUPERSEDED_NAME)
        if beyond:
            logger.warning(
                "%s: goes back to %s; %s will be written over as training gets there (until then "
                "%s, renamed to %s, brings one back)",
                self.path, checkpoint.name, ", ".join(path.name for path in beyond),
                _SUPERSEDED_NAME, _RECORD_NAME,
            )  # fmt: skip

    def make_room(self, step: int) -> None:
        """Sees to it that what the Trainer is about to write is not whole before `keep`."""
        for name in (_RECORD_NAME, _SUPERSEDED_NAME):
            (self.path / self.name_of(step) / name).unlink(missing_ok=True)

    def keep(self, record: TrainingRecord, step: int) -> None:
        """Makes a checkpoint whole that the Trainer just wrote, then see `publish`."""
        checkpoint = self.path / self.name_of(step)
        size = (checkpoint / ADAPTER_WEIGHTS).stat().st_size
        record.model = replace(record.model, size_bytes=size)
        record.write(checkpoint / _RECORD_NAME)
        self.publish(record)
        self._prune(record)

    def publish(self, record: TrainingRecord) -> None:
        """Brings best, all_results.json and the curves to where the record is.

        Raises:
            CheckpointError: The best checkpoint is gone, and best is not its copy.
        """
        from igrag.training_curves import draw_curves

        if record.best is not None and record.best.checkpoint is not None:
            checkpoint = self.path / record.best.checkpoint
            if checkpoint.is_dir():
                self._copy_best(checkpoint)
            elif record.best != self._published_best() or not (self.path / BEST_NAME).is_dir():
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

    def _published_best(self) -> Evaluation | None:
        """Tells whose copy best is; None where nothing says so."""
        path = self.path / RESULTS_NAME
        return TrainingRecord.read(path).best if path.is_file() else None

    def _prune(self, record: TrainingRecord) -> None:
        if self._limit is None:
            return
        best = record.best.checkpoint if record.best else None
        # Not those that training went back behind: they have higher numbers than the newest.
        own = {evaluation.checkpoint for evaluation in record.evaluations} - {best}
        spare = [path for path in self._folders() if path.name in own]
        for path in spare[: max(0, len(spare) - self._limit)]:
            shutil.rmtree(path)

    def _folders(self) -> list[Path]:
        if not self.path.is_dir():
            return []
        found = [path for path in self.path.iterdir() if _FOLDER.fullmatch(path.name)]
        return sorted(found, key=_step_of)


def record_of(checkpoint: Path) -> TrainingRecord:
    """Reads the record as it was when a checkpoint was written."""
    return TrainingRecord.read(checkpoint / _RECORD_NAME)


def _step_of(path: Path) -> int:
    return int(path.name.partition("-")[2])


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
