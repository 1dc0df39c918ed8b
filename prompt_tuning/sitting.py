"""Begins a training or goes on with one, and validates it."""

from pathlib import Path
from typing import Any

from igrag.training.checkpoints import checkpoint_name, record_of, refuse_changes
from igrag.training.record import Evaluation
from prompt_tuning.checkpoints import Progress
from prompt_tuning.reporting import start_trackers, tell_validation
from prompt_tuning.setup import Training
from prompt_tuning.validation import ValidationResult

# Settings that may change between two runs: they do not change what is computed.
_FREE = (
    "data.dataloader_num_workers",
    "evaluation.save_total_limit",
    "output.output_dir",
    "output.report_to",
)


def begin(training: Training) -> Progress:
    """Scores the model without any prompt, and begins at step 0."""
    start_trackers(training, step=-1)  # Step 0 is yet to come.
    with training.tuner.disabled():
        result = training.validation.score(training.tuner, title="untuned")
    progress = Progress()
    training.record.evaluations.append(_evaluation(result, progress, epoch=0.0, checkpoint=None))
    if training.accelerator.is_main_process:
        predictions = training.validation.coco_results(result.captions)
        training.folder.save_untuned(training.record, predictions)
    tell_validation(training)
    return progress


def restore(training: Training, checkpoint: Path) -> Progress:
    """Goes back to a checkpoint.

    Raises:
        UsageError: It was made with other settings or data, or of another model.
        CheckpointError: It is damaged.
    """
    record, now = record_of(checkpoint), training.record
    refuse_changes(
        checkpoint,
        {"settings": _with_weights(record.config, now.config), "data": record.data},
        {"settings": now.config, "data": now.data},
        free=_FREE,
    )
    training.folder.refuse_to_lose_best(checkpoint, record)
    progress = training.folder.restore(
        checkpoint, training.tuner, training.optimizer, training.scheduler
    )
    record.config, record.model = now.config, now.model
    training.record = record
    if training.accelerator.is_main_process:
        training.folder.publish(record)
    start_trackers(training, step=progress.step)
    return progress


def validate_and_save(training: Training, progress: Progress) -> None:
    """Scores the prompt as it is now, and writes checkpoint-N and what follows from it."""
    result = training.validation.score(training.tuner, title=f"step {progress.step}")
    record = training.record
    record.training_seconds = progress.seconds
    epoch = progress.epoch + progress.window / len(training.windows)
    name = checkpoint_name(progress.step)
    record.evaluations.append(_evaluation(result, progress, epoch=epoch, checkpoint=name))
    if training.accelerator.is_main_process:
        training.folder.save(
            training.tuner,
            training.optimizer,
            training.scheduler,
            progress,
            record,
            training.validation.coco_results(result.captions),
        )
    tell_validation(training)
    training.accelerator.wait_for_everyone()


def _evaluation(
    result: ValidationResult, progress: Progress, *, epoch: float, checkpoint: str | None
) -> Evaluation:
    return Evaluation(
        step=progress.step,
        epoch=epoch,
        loss=result.loss,
        bleu1=result.bleu.bleu1,
        bleu2=result.bleu.bleu2,
        bleu3=result.bleu.bleu3,
        bleu4=result.bleu.bleu4,
        seconds=result.seconds,
        checkpoint=checkpoint,
    )


def _with_weights(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Checkpoints from before the weights' hash was recorded are taken at their word."""
    resolved = before.get("resolved", {})
    weights = now["resolved"]["trained_for"]["weights"]
    marks = {"weights": weights, **resolved.get("trained_for", {})}
    return {**before, "resolved": {**resolved, "trained_for": marks}}
