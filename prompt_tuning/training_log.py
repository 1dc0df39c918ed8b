"""What a training reports: progress bar, record, event files and final table."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from accelerate import Accelerator
from accelerate.utils import LoggerType
from tqdm import tqdm

from igrag.training.checkpoints import CURVES_NAME, RESULTS_NAME, checkpoint_name
from igrag.training.record import Evaluation, TrainingRecord, TrainingStep, flat_settings
from igrag.training.summary import run_footer
from igrag.training.trackers import Reporter, Sample, make_reporter
from prompt_tuning.checkpoints import CheckpointFolder, Progress, TrainingState
from prompt_tuning.validation import ValidationResult

_PROJECT = "igrag"


class TrainingLog:
    """Records steps and validations, and reports them on the main process.

    A context manager around the loop: its clock and progress bar run inside.

    Args:
        record: The record of the training so far, which is continued.
        progress: How far it has come; its seconds are counted here.
        accelerator: Holds the trackers, which write event files into output_dir/runs if configured.
        steps_per_epoch: Optimizer steps in an epoch.
        total_steps: Optimizer steps of the whole training.
        samples: The first validation examples, whose captions the tracker gets, if there is one.
    """

    def __init__(
        self,
        record: TrainingRecord,
        progress: Progress,
        accelerator: Accelerator,
        *,
        steps_per_epoch: int,
        total_steps: int,
        samples: Sequence[Sample] = (),
    ) -> None:
        self.record = record
        self._progress = progress
        self._accelerator = accelerator
        self._steps_per_epoch = steps_per_epoch
        self._total_steps = total_steps
        # Events of an earlier run after this step are hidden: the steps are made once more.
        purge_step = progress.step + 1 if record.evaluations else 0
        is_tensorboard = LoggerType.TENSORBOARD in accelerator.log_with
        accelerator.init_trackers(
            "runs" if is_tensorboard else _PROJECT,  # A folder there, a project elsewhere.
            config=None if is_tensorboard else flat_settings(record.config),
            init_kwargs={"tensorboard": {"purge_step": purge_step}},
        )
        self._samples = samples
        self._reporter: Reporter | None = None
        if samples and accelerator.is_main_process and accelerator.trackers:
            tracker = accelerator.trackers[0]
            handle = tracker.tracker if is_tensorboard else tracker
            self._reporter = make_reporter(tracker.name, handle)

    def __enter__(self) -> "TrainingLog":
        self._seconds_before = self._progress.seconds
        self._started = time.perf_counter()
        self._bar = tqdm(
            total=self._total_steps,
            initial=self._progress.step,
            desc="training",
            unit="step",
            disable=None if self.is_main_process else True,
        )
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()

    @property
    def is_main_process(self) -> bool:
        """Whether this process prints and writes."""
        return bool(self._accelerator.is_main_process)

    @property
    def epoch(self) -> float:
        """The progress in epochs."""
        return self._progress.epoch + self._progress.batch / self._steps_per_epoch

    def step(self, loss: float, *, learning_rate: float, grad_norm: float) -> None:
        """Records the optimizer step that was just made.

        Args:
            loss: Mean cross-entropy of the global batch's target tokens, in nats.
            learning_rate: Of this step.
            grad_norm: Before clipping.
        """
        progress = self._progress
        progress.seconds = self._seconds_before + time.perf_counter() - self._started
        self.record.training_seconds = progress.seconds
        self.record.history.append(
            TrainingStep(
                step=progress.step,
                epoch=self.epoch,
                loss=loss,
                learning_rate=learning_rate,
                grad_norm=grad_norm,
                seconds=progress.seconds,
            )
        )
        values = {"loss": loss, "learning_rate": learning_rate, "grad_norm": grad_norm}
        self._accelerator.log(
            {f"train/{name}": value for name, value in values.items()}, step=progress.step
        )
        self._bar.update()
        self._bar.set_postfix(loss=f"{loss:.3f}", lr=f"{learning_rate:.2g}", refresh=False)

    def validation(self, result: ValidationResult) -> None:
        """Records a validation and prints it on stderr: a log file has no progress bar."""
        step = self._progress.step
        evaluation = Evaluation(
            step=step,
            epoch=self.epoch,
            loss=result.loss,
            bleu1=result.bleu.bleu1,
            bleu2=result.bleu.bleu2,
            bleu3=result.bleu.bleu3,
            bleu4=result.bleu.bleu4,
            seconds=result.seconds,
            checkpoint=checkpoint_name(step) if step else None,
        )
        self.record.evaluations.append(evaluation)
        self._accelerator.log({"val/loss": result.loss, "val/bleu4": result.bleu.bleu4}, step=step)
        if not self.is_main_process:
            return
        if self._reporter is not None:
            self._reporter.captions(self._samples, result.captions, step)
        remark = ""
        if evaluation is self.record.best:
            is_worse = self.record.gain is not None and self.record.gain < 0
            remark = ", worse than the untuned model" if is_worse else ", the best so far"
        tqdm.write(
            f"step {step}: validation loss {result.loss:.4f}, "
            f"BLEU-4 {result.bleu.bleu4:.4f}{remark}",
            file=sys.stderr,
        )

    def save_interruption(self, state: TrainingState, folder: CheckpointFolder) -> Path | None:
        """Saves the state of an interrupted training, see `Interruption`; the main process does."""
        self._accelerator.end_training()
        if not self.is_main_process:
            return None
        return folder.save_interruption(state, self.record)

    def finish(self, folder: CheckpointFolder) -> None:
        """Closes the trackers and prints the table of validations and the paths of the results."""
        files = (folder.path / RESULTS_NAME, folder.path / CURVES_NAME)
        if self._reporter is not None:
            self._reporter.files([each for each in (folder.best_prompt, *files) if each.is_file()])
        self._accelerator.end_training()
        if not self.is_main_process:
            return
        print(run_footer(self.record, folder.best_prompt, *files))
