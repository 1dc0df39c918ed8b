"""Begins a training or goes on with one, validates it, and says when it has had enough."""

import logging
from collections.abc import Iterator
from typing import Any

from igrag.errors import UsageError
from igrag.training_record import Evaluation, TrainingRecord
from prompt_tuning.checkpoints import Progress
from prompt_tuning.preparation import Training
from prompt_tuning.reporting import tell_validation
from prompt_tuning.validation import ValidationResult

# Settings that may change between two sittings: they do not change what is computed.
_FREE = (
    "data.dataloader_num_workers",
    "evaluation.save_total_limit",
    "output.output_dir",
    "output.report_to",
)
logger = logging.getLogger(__name__)


def begin(training: Training) -> Progress:
    """Scores the model without any prompt, and begins at step 0.

    Raises:
        UsageError: The output folder holds an earlier training.
    """
    training.folder.refuse_to_overwrite()
    with training.tuner.disabled():
        result = training.validation.score(training.tuner, title="untuned")
    progress = Progress()
    training.record.evaluations.append(_evaluation(result, progress, epoch=0.0, checkpoint=None))
    if training.accelerator.is_main_process:
        predictions = training.validation.coco_results(result.captions)
        training.folder.save_untuned(training.record, predictions)
    tell_validation(training)
    return progress


def restore(training: Training, wanted: str) -> Progress:
    """Goes back to a checkpoint; begins anew where "latest" finds none.

    Raises:
        UsageError: The checkpoint was made with other settings or data.
        CheckpointError: There is none at the path, or it is damaged.
    """
    checkpoint = training.folder.find(wanted)
    if checkpoint is None:
        logger.warning("%s: no checkpoint there yet; training begins anew", training.folder.path)
        return begin(training)
    progress, record = training.folder.restore(
        checkpoint, training.tuner, training.optimizer, training.scheduler
    )
    for what, before, now in (
        ("settings", record.config, training.record.config),
        ("data", record.data, training.record.data),
    ):
        changed = [text for key, text in _differences(before, now) if key not in _FREE]
        if changed:
            raise UsageError(
                f"{checkpoint}: was made with other {what}: {'; '.join(changed)}; "
                "go on with the same, or begin anew with another --output_dir"
            )
    record.config, record.model = training.record.config, training.record.model
    training.record = record
    if training.accelerator.is_main_process:
        training.folder.publish(record)
    return progress


def validate_and_save(training: Training, progress: Progress) -> None:
    """Scores the prompt as it is now, and writes checkpoint-N and what follows from it."""
    result = training.validation.score(training.tuner, title=f"step {progress.step}")
    record = training.record
    record.training_seconds = progress.seconds
    epoch = progress.epoch + progress.window / len(training.windows)
    name = training.folder.name_of(progress.step)
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
    training.accelerator.log(
        {"val/loss": result.loss, "val/bleu4": result.bleu.bleu4}, step=progress.step
    )
    training.accelerator.wait_for_everyone()


def has_stopped_improving(record: TrainingRecord, patience: int | None) -> bool:
    """Tells whether the last `patience` validations brought no better BLEU-4."""
    if patience is None or record.best is None:
        return False
    tuned = [evaluation for evaluation in record.evaluations if evaluation.checkpoint]
    return len(tuned) - 1 - tuned.index(record.best) >= patience


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


def _differences(
    before: dict[str, Any], now: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, str]]:
    """Yields the keys that differ, each with a text that names both values."""
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key}", f"{prefix}{key} was {old}, is {new}"
