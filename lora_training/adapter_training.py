"""Trains a LoRA adapter with the library's Trainer, from its beginning or from a checkpoint."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from igrag.assembly import build_template
from igrag.config import Config
from igrag.errors import UsageError
from igrag.runtime import tune_allocator
from igrag.training_record import results_table
from lora_training.adapter_checkpoints import (
    ADAPTER_WEIGHTS,
    BEST_NAME,
    CURVES_NAME,
    RESULTS_NAME,
    AdapterFolder,
    record_of,
)
from lora_training.adapter_preparation import Training, prepare
from lora_training.adapter_trainer import AdapterTrainer
from lora_training.settings import LoraSettings
from lora_training.training_reporter import TrainingReporter, has_stopped_improving

# Settings that may change between two sittings: they do not change what is computed.
_FREE = ("training.save_total_limit", "training.output_dir", "training.report_to")
logger = logging.getLogger(__name__)


def train(settings: LoraSettings, config: Config, model_path: str, *, resume: str | None) -> None:
    """Prepares, trains and reports.

    Args:
        settings: What to train, and how.
        config: What captioning uses: device, dtype, template.
        model_path: Folder or hub id of the base model.
        resume: "latest" or a checkpoint's folder; None begins anew.

    Raises:
        IgragError: Something is missing, damaged, in the way, or would train nothing.
    """
    tune_allocator()
    options = settings.training
    folder = AdapterFolder(options.output_dir, save_total_limit=options.save_total_limit)
    checkpoint = _find_checkpoint(folder, resume)
    training = prepare(settings, config, model_path)
    announce(training, config)
    if checkpoint is not None:
        training.base.check(checkpoint)
        restore(training, folder, checkpoint)
    if not has_stopped_improving(training.record, options.early_stopping_patience):
        optimise(training, folder, checkpoint, patience=options.early_stopping_patience)
    conclude(training, folder)


def announce(training: Training, config: Config) -> None:
    """Prints what will be trained, and on what."""
    facts, data = training.record.model, training.record.data
    if not build_template(config.prompt_config).fits(training.train["prompt"][0]):
        print(
            "note: the prompts that train were not made with the template of the main config; "
            "captioning will show the adapter other ones",
            file=sys.stderr,
        )
    print(
        f"{facts.name}: {facts.trainable_parameters:,} of {facts.total_parameters:,} parameters "
        f"are trained ({facts.trainable_percent:.4f}%)"
    )
    print(
        f"{data['train_examples']:,} examples train, {data['val_examples']:,} validate, "
        f"on {training.model.device}",
        flush=True,
    )


def restore(training: Training, folder: AdapterFolder, checkpoint: Path) -> None:
    """Takes up the record of a checkpoint, whose state the Trainer itself takes up.

    Raises:
        UsageError: It was made with other settings, precision or data, or of another model.
    """
    before, now = record_of(checkpoint), training.record
    # Checkpoints from before it was recorded are taken at their word.
    settings = {"precision": now.config["precision"], **before.config}
    for what, old, new in (
        ("settings", settings, now.config),
        ("data", before.data, now.data),
        ("base model", {"name": before.model.name}, {"name": now.model.name}),
    ):
        changed = [text for key, text in _differences(old, new) if key not in _FREE]
        if changed:
            raise UsageError(
                f"{checkpoint}: was made with other {what}: {'; '.join(changed)}; "
                "go on with the same, or begin anew with another --output_dir"
            )
    before.config = now.config
    training.record = before
    folder.go_back_to(checkpoint, before)


def optimise(
    training: Training, folder: AdapterFolder, checkpoint: Path | None, *, patience: int | None
) -> None:
    """Lets the Trainer work, after a look at the untuned model where it begins anew."""
    training.arguments.eval_on_start = checkpoint is None
    with TrainingReporter(training.record, folder, patience=patience) as reporter:
        trainer = AdapterTrainer(
            training.model,
            training.arguments,
            train=training.train,
            val=training.val,
            tokenizer=training.tokenizer,
            base=training.base,
            callback=reporter,
        )
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def conclude(training: Training, folder: AdapterFolder) -> None:
    """Prints the table of validations and where everything is."""
    print(results_table(training.record))
    print(f"best:    {folder.path / BEST_NAME / ADAPTER_WEIGHTS}")
    print(f"results: {folder.path / RESULTS_NAME}, {folder.path / CURVES_NAME}")


def _find_checkpoint(folder: AdapterFolder, resume: str | None) -> Path | None:
    if resume is None:
        folder.refuse_to_overwrite()
        return None
    checkpoint = folder.find(resume)
    if checkpoint is None:
        logger.warning("%s: no checkpoint there yet; training begins anew", folder.path)
    return checkpoint


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
