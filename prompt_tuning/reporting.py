"""What a training tells: before it begins, at every step, and at its end."""

import sys
import time
from types import TracebackType

from tqdm import tqdm

from igrag.training.checkpoints import RESULTS_NAME
from igrag.training.record import TrainingStep
from igrag.training.summary import results_table
from prompt_tuning.checkpoints import BEST_NAME, CURVES_NAME, Progress
from prompt_tuning.prompt_file import PROMPT_NAME
from prompt_tuning.setup import Training


def announce(training: Training) -> None:
    """Prints what will be trained, and on what."""
    if not training.accelerator.is_main_process:
        return
    for note in training.notes:
        print(f"note: {note}", file=sys.stderr)
    facts, data = training.record.model, training.record.data
    print(
        f"{facts.name}: {facts.trainable_parameters:,} of {facts.total_parameters:,} parameters "
        f"are trained ({facts.trainable_percent:.4f}%)"
    )
    processes = training.accelerator.num_processes
    shared = f" by {processes} processes" if processes > 1 else ""
    print(
        f"{data['train_examples']:,} examples train, {data['val_examples']:,} validate; "
        f"{len(training.windows)} steps an epoch on {training.accelerator.device}{shared}",
        flush=True,
    )


def start_trackers(training: Training, *, step: int) -> None:
    """Opens the event files in output_dir/runs, if any are asked for.

    What an earlier run told of steps after `step` is hidden: they are made once more.
    """
    options = {"tensorboard": {"purge_step": step + 1}}
    training.accelerator.init_trackers("runs", init_kwargs=options)


def tell_validation(training: Training) -> None:
    """Tells the last validation at once, on stderr: a log without progress bars needs it."""
    record = training.record
    found = record.evaluations[-1]
    training.accelerator.log({"val/loss": found.loss, "val/bleu4": found.bleu4}, step=found.step)
    if not training.accelerator.is_main_process:
        return
    remark = ""
    if found is record.best:
        is_worse = record.gain is not None and record.gain < 0
        remark = ", worse than the untuned model" if is_worse else ", the best so far"
    tqdm.write(
        f"step {found.step}: validation loss {found.loss:.4f}, BLEU-4 {found.bleu4:.4f}{remark}",
        file=sys.stderr,
    )


def conclude(training: Training) -> None:
    """Prints the table of validations and where everything is."""
    training.accelerator.end_training()
    if not training.accelerator.is_main_process:
        return
    folder = training.folder.path
    print(results_table(training.record))
    print(f"best:    {folder / BEST_NAME / PROMPT_NAME}")
    print(f"results: {folder / RESULTS_NAME}, {folder / CURVES_NAME}")


class StepReporter:
    """A progress bar over the steps, whose figures also go into the record.

    Args:
        training: What is trained.
        progress: How far it has come; its seconds are counted here.
        epochs: How many there are in all.
    """

    def __init__(self, training: Training, progress: Progress, *, epochs: int) -> None:
        self._training = training
        self._progress = progress
        self._before = progress.seconds
        hidden = not training.accelerator.is_main_process
        self._bar = tqdm(
            total=epochs * len(training.windows),
            initial=progress.step,
            desc="training",
            unit="step",
            disable=hidden or None,
        )

    def __enter__(self) -> "StepReporter":
        self._started = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()

    def report(self, loss: float, gradient_norm: float) -> None:
        """Tells the figures of the step that was just made."""
        progress, training = self._progress, self._training
        progress.seconds = self._before + time.perf_counter() - self._started
        rate = float(training.optimizer.param_groups[0]["lr"])
        training.record.history.append(
            TrainingStep(
                step=progress.step,
                epoch=progress.epoch + progress.window / len(training.windows),
                loss=loss,
                learning_rate=rate,
                grad_norm=gradient_norm,
                seconds=progress.seconds,
            )
        )
        training.accelerator.log(
            {"train/loss": loss, "train/learning_rate": rate, "train/grad_norm": gradient_norm},
            step=progress.step,
        )
        self._bar.update()
        self._bar.set_postfix(loss=f"{loss:.3f}", lr=f"{rate:.2g}", refresh=False)
