"""checkpoint-N folders: the prompt, the captions it wrote, and what is needed to go on from there.

output_dir/
  checkpoint-N/     after N updates: prompt_embeddings.pt, predictions.json,
                    training_state.pt and training_record.json
  best_model/       prompt_embeddings.pt of the checkpoint with the highest BLEU-4
  all_results.json  training_curves.png
"""

import io
import logging
import pickle
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from igrag.errors import CheckpointError, UsageError
from igrag.files import atomic_directory, atomic_path, write_json
from igrag.training_curves import draw_curves
from igrag.training_record import TrainingRecord
from prompt_tuning.prompt_file import PROMPT_NAME
from prompt_tuning.prompt_tuner import PromptTuner

BEST_NAME, RESULTS_NAME, CURVES_NAME = "best_model", "all_results.json", "training_curves.png"
_STATE_NAME, _RECORD_NAME = "training_state.pt", "training_record.json"
_PREDICTIONS_NAME = "predictions.json"
_FORMAT_VERSION = 1
_FOLDER = re.compile(r"checkpoint-(\d+)")
logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Progress:
    """How far training has come.

    Attributes:
        step: Updates made.
        epoch: Epochs finished.
        window: Windows of the current epoch that are done.
        seconds: Time it took, over all sittings.
    """

    step: int = 0
    epoch: int = 0
    window: int = 0
    seconds: float = 0.0

    def advance(self, windows_per_epoch: int) -> None:
        """Counts an update."""
        self.step += 1
        self.window += 1
        if self.window == windows_per_epoch:
            self.epoch, self.window = self.epoch + 1, 0


class CheckpointFolder:
    """The folder that a training writes to.

    Args:
        path: The output folder.
        save_total_limit: Checkpoints to keep beside the best one; None keeps all.
    """

    def __init__(self, path: Path, *, save_total_limit: int | None = None) -> None:
        self.path = path
        self._limit = save_total_limit

    def refuse_to_overwrite(self) -> None:
        """Makes sure that no earlier training is in the folder.

        Raises:
            UsageError: There is one.
        """
        found = [
            path.name for path in (*self.checkpoints(), self.path / BEST_NAME) if path.exists()
        ]
        if found:
            raise UsageError(
                f"{self.path}: holds an earlier training ({', '.join(found[:3])}); go on with it: "
                "--resume_from_checkpoint latest, or give another --output_dir"
            )

    def name_of(self, step: int) -> str:
        """Names the checkpoint after `step` updates."""
        return f"checkpoint-{step}"

    def checkpoints(self) -> list[Path]:
        """Lists the checkpoints, the newest last."""
        if not self.path.is_dir():
            return []
        found = [path for path in self.path.iterdir() if _FOLDER.fullmatch(path.name)]
        return sorted(found, key=_step_of)

    def find(self, wanted: str) -> Path | None:
        """Finds the checkpoint to go on from: "latest" in this folder, or a path.

        Returns:
            Its folder; None where "latest" finds none, for an interruption can come before it.

        Raises:
            CheckpointError: The path is no checkpoint of this folder.
        """
        if wanted == "latest":
            return next(reversed(self.checkpoints()), None)
        path = Path(wanted)
        if not (path / _STATE_NAME).is_file():
            raise CheckpointError(
                f"{path}: no {_STATE_NAME} there, expected a folder checkpoint-N, or latest"
            )
        if path.resolve().parent != self.path.resolve():
            raise CheckpointError(
                f"{path}: belongs to {path.resolve().parent}, expected a checkpoint of "
                f"{self.path}; give its folder as --output_dir"
            )
        return path

    def save(
        self,
        tuner: PromptTuner,
        optimizer: Optimizer,
        scheduler: LRScheduler,
        progress: Progress,
        record: TrainingRecord,
        predictions: Sequence[dict[str, Any]],
    ) -> None:
        """Writes checkpoint-N whole, then what is made from it; see `publish`."""
        state = {
            "format_version": _FORMAT_VERSION,
            "prompt": {name: value.cpu() for name, value in trainable_state(tuner).items()},
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "progress": asdict(progress),
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        with atomic_directory(self.path / self.name_of(progress.step)) as folder:
            tuner.save_prompt(folder / PROMPT_NAME)
            (folder / _STATE_NAME).write_bytes(buffer.getvalue())
            record.write(folder / _RECORD_NAME)
            write_json(folder / _PREDICTIONS_NAME, list(predictions))
        self.publish(record)
        self._prune(record)

    def save_untuned(self, record: TrainingRecord, predictions: Sequence[dict[str, Any]]) -> None:
        """Writes what the model says before any training."""
        write_json(self.path / "predictions_untuned.json", list(predictions))
        self.publish(record)

    def publish(self, record: TrainingRecord) -> None:
        """Brings best_model, all_results.json and the curves to where the record is.

        Raises:
            CheckpointError: The record's best prompt is nowhere any more.
        """
        if record.best is not None and record.best.checkpoint is not None:
            self._publish_best(self.path / record.best.checkpoint / PROMPT_NAME, record)
        record.write(self.path / RESULTS_NAME)
        draw_curves(record, self.path / CURVES_NAME)

    def _publish_best(self, source: Path, record: TrainingRecord) -> None:
        target = self.path / BEST_NAME / PROMPT_NAME
        if not source.is_file():
            results = self.path / RESULTS_NAME
            if target.is_file() and TrainingRecord.read(results).best == record.best:
                return  # Its checkpoint was removed; best_model is a copy of it.
            raise CheckpointError(
                f"{source}: no such file, but it was the best prompt then (save_total_limit); "
                "go on from a later checkpoint, or begin anew with another --output_dir"
            )
        best = source.read_bytes()
        if not target.is_file() or target.read_bytes() != best:
            with atomic_path(target) as temporary:
                temporary.write_bytes(best)

    def restore(
        self, checkpoint: Path, tuner: PromptTuner, optimizer: Optimizer, scheduler: LRScheduler
    ) -> tuple[Progress, TrainingRecord]:
        """Puts everything back to where it was when the checkpoint was written.

        Raises:
            CheckpointError: It is damaged, or of another shape.
        """
        record = TrainingRecord.read(checkpoint / _RECORD_NAME)
        state = _read_state(checkpoint / _STATE_NAME)
        try:
            if set(state["prompt"]) != set(trainable_state(tuner)):
                raise ValueError(f"found {', '.join(state['prompt'])}")
            tuner.load_state_dict(state["prompt"], strict=False)  # The model's own are not in it.
            optimizer.load_state_dict(state["optimizer"])
            scheduler.load_state_dict(state["scheduler"])
            progress = Progress(**state["progress"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{checkpoint}: does not fit this training ({reason})") from error
        return progress, record

    def _prune(self, record: TrainingRecord) -> None:
        if self._limit is None:
            return
        # After going back to an earlier checkpoint, later ones may lie there: they are not this
        # record's, and the user's to remove.
        mine = {evaluation.checkpoint for evaluation in record.evaluations}
        mine -= {record.best.checkpoint if record.best else None}
        spare = [path for path in self.checkpoints() if path.name in mine]
        for path in spare[: max(0, len(spare) - self._limit)]:
            shutil.rmtree(path)


def trainable_state(tuner: PromptTuner) -> dict[str, torch.Tensor]:
    """Returns the trained tensors, and what they are mixed from, without the model's."""
    return {
        name: value.detach()
        for name, value in tuner.state_dict().items()
        if not name.startswith("model.")
    }


def _step_of(path: Path) -> int:
    return int(path.name.partition("-")[2])


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:100]
        raise CheckpointError(f"{path}: damaged ({reason}); go on from another one") from error
    if not isinstance(state, dict) or state.get("format_version") != _FORMAT_VERSION:
        raise CheckpointError(f"{path}: of another version, expected {_FORMAT_VERSION}")
    return state
