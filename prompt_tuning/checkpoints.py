"""checkpoint-N folders: the prompt, the captions it wrote, and what is needed to go on from there.

output_dir/
  checkpoint-N/     after N steps: prompt_embeddings.pt, predictions.json,
                    training_state.pt and training_record.json
  best_model/       prompt_embeddings.pt of the checkpoint with the highest BLEU-4
  all_results.json  training_curves.png
"""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from igrag.errors import CheckpointError
from igrag.files import atomic_directory, atomic_path, check_zip_sums, write_json
from igrag.training.checkpoints import RECORD_NAME, RESULTS_NAME, TrainingFolder, checkpoint_name
from igrag.training.curves import draw_curves
from igrag.training.record import TrainingRecord
from prompt_tuning.prompt_file import PROMPT_NAME
from prompt_tuning.prompt_tuner import PromptTuner

BEST_NAME, CURVES_NAME = "best_model", "training_curves.png"
_STATE_NAME, _PREDICTIONS_NAME = "training_state.pt", "predictions.json"
_FORMAT_VERSION = 1


@dataclass(slots=True)
class Progress:
    """How far training has come.

    Attributes:
        step: Optimizer steps made.
        epoch: Epochs finished.
        window: Windows of the current epoch that are done.
        seconds: Time it took, over all runs.
    """

    step: int = 0
    epoch: int = 0
    window: int = 0
    seconds: float = 0.0

    def advance(self, windows_per_epoch: int) -> None:
        """Counts a step."""
        self.step += 1
        self.window += 1
        if self.window == windows_per_epoch:
            self.epoch, self.window = self.epoch + 1, 0


class CheckpointFolder(TrainingFolder):
    """The folder that a training writes to.

    Args:
        path: The output folder.
        save_total_limit: Checkpoints to keep beside the best one; None keeps all.
    """

    def __init__(self, path: Path, *, save_total_limit: int | None = None) -> None:
        super().__init__(path, best_name=BEST_NAME, save_total_limit=save_total_limit)

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
        with atomic_directory(self.path / checkpoint_name(progress.step)) as folder:
            tuner.save_prompt(folder / PROMPT_NAME)
            (folder / _STATE_NAME).write_bytes(buffer.getvalue())
            record.write(folder / RECORD_NAME)
            write_json(folder / _PREDICTIONS_NAME, list(predictions))
        self.publish(record)
        self.prune(record)

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
            if target.is_file() and self.saved_best() == record.best:
                return  # Its checkpoint was removed; best_model is a copy of it.
            raise CheckpointError(
                f"{source}: no such file, but it was the best prompt then (save_total_limit); "
                "go on from a later checkpoint, or start a new run with another --output_dir"
            )
        best = source.read_bytes()
        if not target.is_file() or target.read_bytes() != best:
            with atomic_path(target) as temporary:
                temporary.write_bytes(best)

    def restore(
        self, checkpoint: Path, tuner: PromptTuner, optimizer: Optimizer, scheduler: LRScheduler
    ) -> Progress:
        """Puts everything back to where it was when the checkpoint was written.

        Raises:
            CheckpointError: It is damaged, or of another shape.
        """
        state = _read_state(checkpoint / _STATE_NAME)
        try:
            if set(state["prompt"]) != set(trainable_state(tuner)):
                raise ValueError(f"found {', '.join(state['prompt'])}")
            tuner.load_state_dict(state["prompt"], strict=False)  # The model's own are not in it.
            optimizer.load_state_dict(state["optimizer"])
            scheduler.load_state_dict(state["scheduler"])
            return Progress(**state["progress"])
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{checkpoint}: does not fit this training ({reason})") from error


def trainable_state(tuner: PromptTuner) -> dict[str, torch.Tensor]:
    """Returns the trained tensors, and what they are mixed from, without the model's."""
    return {
        name: value.detach()
        for name, value in tuner.state_dict().items()
        if not name.startswith("model.")
    }


def _read_state(path: Path) -> dict[str, Any]:
    try:
        check_zip_sums(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Damage shows itself as almost any of them.
        reason = " ".join(str(error).split())[:100]
        raise CheckpointError(f"{path}: damaged ({reason}); go on from another one") from error
    version = state.get("format_version") if isinstance(state, dict) else None
    if type(version) is not int or version != _FORMAT_VERSION:
        raise CheckpointError(f"{path}: of another version, expected {_FORMAT_VERSION}")
    content: dict[str, Any] = state
    return content
