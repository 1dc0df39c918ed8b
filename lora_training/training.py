"""Trains a LoRA adapter with the library's Trainer, from its beginning or from a checkpoint."""

import sys
from pathlib import Path

from igrag.config import Config
from igrag.devices import tune_allocator
from igrag.from_config import build_template
from igrag.training.checkpoints import (
    RESULTS_NAME,
    has_stopped_improving,
    record_of,
    refuse_changes,
)
from igrag.training.summary import results_table
from lora_training.callbacks import TrainingReporter
from lora_training.checkpoints import (
    ADAPTER_WEIGHTS,
    BEST_NAME,
    CURVES_NAME,
    AdapterFolder,
)
from lora_training.settings import LoraSettings
from lora_training.setup import Training, prepare
from lora_training.trainer import AdapterTrainer

# Settings that may change between two runs: they do not change what is computed.
_FREE = ("training.save_total_limit", "training.output_dir", "training.report_to")


def train(settings: LoraSettings, config: Config, model_path: str, *, resume: str | None) -> None:
    """Prepares, trains and reports.

    Args:
        settings: What to train, and how.
        config: What captioning uses: device, dtype, template.
        model_path: Folder or hub id of the base model.
        resume: "latest" or a checkpoint's folder; None starts a new run.

    Raises:
        IgragError: Something is missing, damaged, in the way, or would train nothing.
    """
    tune_allocator()
    options = settings.training
    folder = AdapterFolder(options.output_dir, save_total_limit=options.save_total_limit)
    checkpoint = folder.checkpoint_for(resume)
    training = prepare(settings, config, model_path)
    announce(training, config)
    if checkpoint is not None:
        training.base.check(checkpoint)
        restore(training, folder, checkpoint)
    if not has_stopped_improving(training.record, options.early_stopping_patience):
        optimize(training, folder, checkpoint, patience=options.early_stopping_patience)
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
    refuse_changes(
        checkpoint,
        {"settings": settings, "data": before.data, "base model": {"name": before.model.name}},
        {"settings": now.config, "data": now.data, "base model": {"name": now.model.name}},
        free=_FREE,
    )
    before.config = now.config
    training.record = before
    folder.go_back_to(checkpoint, before)


def optimize(
    training: Training, folder: AdapterFolder, checkpoint: Path | None, *, patience: int | None
) -> None:
    """Lets the Trainer work, after a look at the untuned model where it starts a new run."""
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
