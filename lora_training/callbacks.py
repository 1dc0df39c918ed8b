"""The Trainer's callback: fills the record, completes checkpoints, shows one progress bar."""

import math
import time
from types import TracebackType
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState

from igrag.errors import TrainingError
from igrag.training.checkpoints import checkpoint_name, has_stopped_improving
from igrag.training.record import Evaluation, TrainingRecord, TrainingStep
from lora_training.checkpoints import AdapterFolder


class RecordCallback(TrainerCallback):
    """Records what the Trainer logs; a context manager that shows a progress bar.

    Args:
        record: The record to fill.
        folder: Where the Trainer writes its checkpoints.
        patience: Validations without a new best checkpoint before training stops; None: never.
    """

    def __init__(
        self, record: TrainingRecord, folder: AdapterFolder, *, patience: int | None
    ) -> None:
        self.record = record
        self._folder = folder
        self._patience = patience
        self._bar = tqdm(unit="step", desc="training", disable=None)
        self._before = record.training_seconds
        self._started: float | None = None

    def __enter__(self) -> "RecordCallback":
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Sets the progress bar to the current step."""
        self._bar.reset(total=state.max_steps)
        self._bar.update(state.global_step)

    def on_epoch_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Starts the clock, after the untuned model was validated."""
        self._started = self._started or time.perf_counter()

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Records a step and the training time so far.

        The record's training_seconds last from the first step's start to the last one's end, over
        resumed runs: with the validations in between, without the untuned model's and the last
        one. Prompt tuning counts the same way, so that the two can be compared.

        Raises:
            TrainingError: The loss or the gradient is not finite.
        """
        logs = kwargs["logs"]
        if "learning_rate" not in logs:  # The logs of a validation or of the whole training.
            return
        _check_finite(state.global_step, logs["loss"], logs["grad_norm"])
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
            TrainingError: The loss is not finite.
        """
        self._bar.set_description("training")
        metrics, step = kwargs["metrics"], state.global_step
        _check_finite(step, metrics["eval_token_loss"])
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
        if step == 0:
            self._folder.save_results(self.record)
        else:
            self._folder.invalidate(step)  # The checkpoint is written next.

    def on_save(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Completes the checkpoint, and stops training when it has stopped improving."""
        self._folder.complete(self.record, state.global_step)
        if has_stopped_improving(self.record, self._patience):
            control.should_training_stop = True

    def _seconds(self) -> float:
        started = self._started or time.perf_counter()
        return self._before + time.perf_counter() - started


def _check_finite(step: int, *figures: float) -> None:
    if not all(map(math.isfinite, figures)):
        raise TrainingError(
            f"step {step}: the loss or its gradient is not finite; lower training.learning_rate, "
            "or set training.mixed_precision to fp32"
        )
