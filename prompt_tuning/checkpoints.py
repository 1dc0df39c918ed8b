"""checkpoint-N folders: the prompt, the captions it generated, and what resume needs.

output_dir/
  checkpoint-N/     after N optimizer steps: prompt_embeddings.pt, predictions.json,
                    training_state.pt and training_record.json (an interruption's: no captions)
  best_model/       prompt_embeddings.pt of the checkpoint with the highest BLEU-4
  all_results.json  training_curves.png
"""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from igrag.errors import CheckpointError
from igrag.files import atomic_directory, atomic_path, check_zip_sums, write_json
from igrag.inputs import reason_of
from igrag.training.checkpoints import (
    CURVES_NAME,
    RESULTS_NAME,
    TrainingFolder,
    checkpoint_name,
    complete_checkpoint,
    is_validated,
)
from igrag.training.curves import draw_curves
from igrag.training.record import TrainingRecord
from prompt_tuning.prompt_file import PROMPT_NAME
from prompt_tuning.prompt_tuner import PromptTuner

BEST_NAME = "best_model"
_STATE_NAME, _PREDICTIONS_NAME = "training_state.pt", "predictions.json"
_UNTUNED_NAME = "predictions_untuned.json"
_FORMAT_VERSION = 1


@dataclass(slots=True)
class Progress:
    """How far a training has come.

    Attributes:
        step: Optimizer steps made.
        epoch: Epochs finished.
        batch: Global batches of the current epoch that are done.
        seconds: Training time, over all runs.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0

    def advance(self, steps_per_epoch: int) -> None:
        """Counts an optimizer step."""
        self.step += 1
        self.batch += 1
        if self.batch == steps_per_epoch:
            self.epoch, self.batch = self.epoch + 1, 0


@dataclass(slots=True)
class TrainingState:
    """What a checkpoint saves and resume restores."""

    tuner: PromptTuner
    optimizer: Optimizer
    scheduler: LRScheduler
    progress: Progress = field(default_factory=Progress)

    def to_bytes(self) -> bytes:
        """Serializes the state, without the frozen model's tensors."""
        # The counter of global batches keeps the name of the first format.
        progress = asdict(self.progress)
        progress["window"] = progress.pop("batch")
        buffer = io.BytesIO()
        torch.save(
            {
                "format_version": _FORMAT_VERSION,
                "prompt": {name: value.cpu() for name, value in prompt_state(self.tuner).items()},
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
                "progress": progress,
            },
            buffer,
        )
        return buffer.getvalue()

    def load(self, checkpoint: Path) -> None:
        """Restores the state of a checkpoint.

        Raises:
            CheckpointError: It is damaged, or of another shape.
        """
        content = _read_state(checkpoint / _STATE_NAME)
        try:
            if set(content["prompt"]) != set(prompt_state(self.tuner)):
                raise ValueError(f"found {', '.join(content['prompt'])}")
            self.tuner.load_state_dict(content["prompt"], strict=False)  # without the model's
            self.optimizer.load_state_dict(content["optimizer"])
            self.scheduler.load_state_dict(content["scheduler"])
            progress = dict(content["progress"])
            progress["batch"] = progress.pop("window")
            self.progress = Progress(**progress)
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{checkpoint}: does not fit this training ({reason})") from error


class CheckpointFolder(TrainingFolder):
    """The output folder of a prompt training.

    Args:
        path: The folder.
        best_prompt: File of the best prompt; None is best_model/prompt_embeddings.pt in `path`.
        save_total_limit: Checkpoints to keep besides the best one; None keeps all.
    """

    def __init__(
        self, path: Path, *, best_prompt: Path | None = None, save_total_limit: int | None = None
    ) -> None:
        self.best_prompt = best_prompt or path / BEST_NAME / PROMPT_NAME
        is_default = self.best_prompt == path / BEST_NAME / PROMPT_NAME
        # A prompt written elsewhere may lie among other files: there only the file is ours.
        best = BEST_NAME if is_default else str(self.best_prompt.absolute())
        super().__init__(
            path,
            best_name=best,
            state_files=[PROMPT_NAME, _STATE_NAME],
            save_total_limit=save_total_limit,
            other_files=[_UNTUNED_NAME],
        )

    def check(self, checkpoint: Path) -> None:
        """Checks a checkpoint, see `TrainingFolder`; that of an earlier version has no checksums.

        Raises:
            CheckpointError: It is damaged.
        """
        super().check(checkpoint)
        _read_state(checkpoint / _STATE_NAME)

    def save(
        self, state: TrainingState, record: TrainingRecord, predictions: Sequence[dict[str, Any]]
    ) -> None:
        """Writes checkpoint-N as a whole, then what follows from it; see `save_results`."""
        self._write(state, record, predictions)
        self.save_results(record)
        self.prune(record)

    def save_interruption(self, state: TrainingState, record: TrainingRecord) -> Path:
        """Writes checkpoint-N without a validation, to resume from, and returns its folder."""
        path = self.path / checkpoint_name(state.progress.step)
        if not (is_validated(record, state.progress.step) and path.is_dir()):
            self._write(state, record)
        return path

    def _write(
        self,
        state: TrainingState,
        record: TrainingRecord,
        predictions: Sequence[dict[str, Any]] | None = None,
    ) -> None:
        with atomic_directory(self.path / checkpoint_name(state.progress.step)) as folder:
            state.tuner.save_prompt(folder / PROMPT_NAME)
            (folder / _STATE_NAME).write_bytes(state.to_bytes())
            if predictions is not None:
                write_json(folder / _PREDICTIONS_NAME, list(predictions))
            complete_checkpoint(folder, record)

    def save_untuned(self, record: TrainingRecord, predictions: Sequence[dict[str, Any]]) -> None:
        """Writes the captions of the model before training."""
        write_json(self.path / _UNTUNED_NAME, list(predictions))
        self.save_results(record)

    def save_results(self, record: TrainingRecord) -> None:
        """Updates best_model, all_results.json and the curves from the record.

        Raises:
            CheckpointError: The record's best prompt was deleted.
        """
        if record.best is not None and record.best.checkpoint is not None:
            self._copy_best(self.path / record.best.checkpoint / PROMPT_NAME, record)
        record.write(self.path / RESULTS_NAME)
        draw_curves(record, self.path / CURVES_NAME)

    def _copy_best(self, source: Path, record: TrainingRecord) -> None:
        target = self.best_prompt
        if not source.is_file():
            if target.is_file() and self.saved_best() == record.best:
                return  # Its checkpoint was removed; best_model is a copy of it.
            raise CheckpointError(
                f"{source}: no such file, but it was the best prompt then (save_total_limit); "
                "resume from a later checkpoint, or start a new run with another --output_dir"
            )
        best = source.read_bytes()
        if not target.is_file() or target.read_bytes() != best:
            with atomic_path(target) as temporary:
                temporary.write_bytes(best)


def prompt_state(tuner: PromptTuner) -> dict[str, torch.Tensor]:
    """Returns the tensors of the prompt and its parametrization, without the frozen model's."""
    return {
        name: value.detach()
        for name, value in tuner.state_dict().items()
        if not name.startswith("model.")
    }


def _read_state(path: Path) -> dict[str, Any]:
    try:
        check_zip_sums(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Damage raises almost any of them.
        reason = reason_of(error, path)
        raise CheckpointError(f"{path}: damaged ({reason}); resume from another one") from error
    version = state.get("format_version") if isinstance(state, dict) else None
    if type(version) is not int or version != _FORMAT_VERSION:
        raise CheckpointError(f"{path}: of another version, expected {_FORMAT_VERSION}")
    content: dict[str, Any] = state
    return content
