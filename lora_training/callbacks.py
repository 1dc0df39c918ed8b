"""The Trainer's callback: fills the record, completes checkpoints, shows one progress bar."""

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState

from igrag.captioning.language_model import embedding_weight
from igrag.training.checkpoints import checkpoint_name, has_stopped_improving, is_validated
from igrag.training.divergence import DivergenceGuard
from igrag.training.interruption import Interruption
from igrag.training.record import Evaluation, TrainingRecord, TrainingStep
from igrag.training.shared_steps import step_seed
from lora_training.checkpoints import AdapterFolder


class StoppedImproving(BaseException):
    """Ends a training that resumed where a validation was due, and has stopped improving."""


class RecordCallback(TrainerCallback):
    """Records what the Trainer logs; a context manager that shows a progress bar.

    A signal that interrupts the training ends it after the step, with a checkpoint; see
    `Interruption`.

    Args:
        record: The record to fill; each process fills its own.
        folder: Where the Trainer writes its checkpoints.
        patience: Validations without a new best checkpoint before training stops; None: never.
        writes: Whether this process writes the files and shows the progress bar.

    Attributes:
        any_process: Returns whether a flag is set in any of the training's processes.
    """

    def __init__(
        self,
        record: TrainingRecord,
        folder: AdapterFolder,
        *,
        patience: int | None,
        writes: bool = True,
    ) -> None:
        self.record = record
        self.any_process: Callable[[bool], bool] = bool
        self._folder = folder
        self._patience = patience
        self._writes = writes
        self._bar = tqdm(unit="step", desc="training", disable=None if writes else True)
        self._before = record.training_seconds
        self._started: float | None = None
        self.interruption = Interruption(lambda: self._newest_checkpoint() if writes else None)
        self._resumed_from = self._saved = 0  # steps

    def __enter__(self) -> "RecordCallback":
        self.interruption.__enter__()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()
        self.interruption.__exit__(error_type, error, traceback)

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Sets the progress bar to the current step.

        Of a checkpoint that an interruption saved where a validation was due, that one comes first.
        """
        self._bar.reset(total=state.max_steps)
        self._bar.update(state.global_step)
        step = self._resumed_from = self._saved = state.global_step
        if step and _is_due(args, state) and not is_validated(self.record, step):
            args.eval_on_start = True
        model = kwargs["model"]
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._guard = DivergenceGuard(trained, embedding_weight(model), self.record)

    def on_epoch_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Starts the clock, after the untuned model was validated."""
        self._started = self._started or time.perf_counter()

    def on_step_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Seeds dropout, where several processes train: a checkpoint keeps one's random state.

        By seed, step and process, so that a resumed run draws what the uninterrupted one would.
        """
        if args.world_size > 1:
            torch.manual_seed(step_seed(args.seed, state.global_step, args.process_index))

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Records a step and the training time so far.

        The record's training_seconds last from the first step's start to the last one's end, over
        resumed runs: with the validations in between, without the untuned model's and the last
        one. Prompt tuning counts the same way, so that the two can be compared.

        Raises:
            TrainingError: The loss or the gradient is out of all proportion; see `DivergenceGuard`.
        """
        logs = kwargs["logs"]
        if "learning_rate" not in logs:  # The logs of a validation or of the whole training.
            return
        self._guard.check_loss(state.global_step, logs["loss"])
        self._guard.check_gradient(state.global_step, logs["grad_norm"])
        self.record.training_seconds = self._seconds()
        self.record.history.append(
            TrainingStep(
                step=state.global_step,
                epoch=state.epoch,
                loss=logs["loss"],
                learning_rate=logs["learning_rate"],
                grad_norm=logs["grad_norm"],
                seconds=self.record.training_seconds,
            )
        )
        self._bar.update()
        figures = {"loss": f"{logs['loss']:.3f}", "lr": f"{logs['learning_rate']:.2g}"}
        self._bar.set_postfix(figures, refresh=False)

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Checks the adapter; an interrupted training saves before the validation that is due.

        Raises:
            TrainingError: Its values are out of all proportion; see `DivergenceGuard`.
        """
        self._guard.check_values(state.global_step)
        if self.any_process(self.interruption.requested):
            control.should_evaluate, control.should_save = False, True

    def on_prediction_step(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Shows in the progress bar that this is a validation."""
        self._bar.set_description("validation")

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Records a validation; the untuned model's is saved at once.

        Raises:
            TrainingError: The loss is out of all proportion; see `DivergenceGuard`.
        """
        self._bar.set_description("training")
        metrics, step = kwargs["metrics"], state.global_step
        self._guard.check_loss(step, metrics["eval_token_loss"])
        self.record.evaluations.append(
            Evaluation(
                step=step,
                epoch=state.epoch or 0.0,
                loss=metrics["eval_token_loss"],
                bleu1=metrics["eval_bleu1"],
                bleu2=metrics["eval_bleu2"],
                bleu3=metrics["eval_bleu3"],
                bleu4=metrics["eval_bleu4"],
                seconds=metrics["eval_runtime"],
                checkpoint=checkpoint_name(step) if step else None,
            )
        )
        if step == 0 and self._writes:
            self._folder.save_results(self.record)

    def on_save(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Saves what follows from a checkpoint, and stops training if it has stopped improving.

        Raises:
            Interrupted: A signal came.
        """
        self._saved = state.global_step
        self._save_results(state.global_step)
        self.interruption.check(self.any_process)
        if has_stopped_improving(self.record, self._patience):
            control.should_training_stop = True

    def write_record(self, checkpoint: Path) -> None:
        """Completes the files of a checkpoint with the record."""
        self._folder.write_record(checkpoint, self.record)

    def saves_interruption_at(self, step: int) -> bool:
        """Returns whether an interrupted training has a checkpoint of a step still to write."""
        return step > self._saved

    def resumed_checkpoint(self, step: int) -> Path | None:
        """Returns the checkpoint that the training resumed from, if that was after this step."""
        return self._newest_checkpoint() if step and step == self._resumed_from else None

    def after_resumed_validation(self, step: int) -> None:
        """Saves what follows from a checkpoint that had no validation when training resumed.

        Raises:
            StoppedImproving: The training ends with it.
        """
        self._save_results(step)
        if has_stopped_improving(self.record, self._patience):
            raise StoppedImproving

    def _save_results(self, step: int) -> None:
        if self._writes and is_validated(self.record, step):
            self._folder.save_results(self.record)
            self._folder.prune(self.record)

    def _newest_checkpoint(self) -> Path | None:
        return self._folder.path / checkpoint_name(self._saved) if self._saved else None

    def _seconds(self) -> float:
        started = self._started or time.perf_counter()
        return self._before + time.perf_counter() - started


def _is_due(args: Any, state: TrainerState) -> bool:
    """Returns whether the training validates after this step, see `trainer_arguments`."""
    every = args.eval_steps or state.max_steps // args.num_train_epochs
    return state.global_step % every == 0 or state.global_step == state.max_steps
