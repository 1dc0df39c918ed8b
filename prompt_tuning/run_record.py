"""The record of a training run: what it starts with, and whether a checkpoint fits."""

from pathlib import Path
from typing import Any

from accelerate import Accelerator
from datasets import Dataset

from igrag.captioning.language_model import LanguageModel
from igrag.config import portable
from igrag.training.changes import refuse_changes
from igrag.training.checkpoints import record_of
from igrag.training.record import TrainingRecord
from igrag.training.run_metadata import count_parameters, describe_data, library_versions
from igrag.training.summary import run_header
from prompt_tuning.checkpoints import CheckpointFolder
from prompt_tuning.example_vectors import (
    TRAIN,
    ExampleVectors,
)
from prompt_tuning.global_batches import GlobalBatches
from prompt_tuning.prompt_tuner import PromptTuner
from prompt_tuning.settings import PromptTrainingSettings

# Settings that do not change what is computed: a resumed run may have others.
_FREE = (
    "data.dataloader_num_workers",
    "data.image_vectors",  # Their hashes are compared.
    "evaluation.save_total_limit",
    "output.output_dir",
    "output.report_to",
    "output.report_images",
    "prompt_tuning.weights_path",
    "resolved.image_encoder.name",
    "training.shard_model",
)


def new_record(
    settings: PromptTrainingSettings,
    language_model: LanguageModel,
    tuner: PromptTuner,
    train: Dataset,
    val: Dataset,
    accelerator: Accelerator,
    vectors: ExampleVectors,
) -> TrainingRecord:
    """Makes the record of a new run: settings, versions, model and data."""
    resolved = {
        "processes": accelerator.num_processes,
        "dtype": str(language_model.model.dtype).removeprefix("torch."),
        "attn_implementation": language_model.model.config._attn_implementation,
        "mixed_precision": accelerator.mixed_precision,
        "trained_for": tuner.fingerprint.to_dict(),
    }
    if vectors:
        resolved["image_encoder"] = vectors[TRAIN].encoder.to_json()
    name = portable(language_model.name)
    config = settings.to_plain() | {"resolved": resolved}
    # The files, where null chose them.
    config["data"] |= {
        "train_file": portable(settings.train_file),
        "val_file": portable(settings.val_file),
    }
    data = describe_data(settings.train_file, settings.val_file, train, val)
    data |= {f"{split}_vectors_sha256": found.sha256() for split, found in vectors.items()}
    return TrainingRecord(
        method="prompt_tuning",
        config=config,
        versions=library_versions(),
        model=count_parameters(name, tuner, tuner.trainable_parameters()),
        data=data,
    )


def print_run(
    settings: PromptTrainingSettings,
    record: TrainingRecord,
    batches: GlobalBatches,
    accelerator: Accelerator,
) -> None:
    """Prints what is trained, and on what."""
    if not accelerator.is_main_process:
        return
    processes = accelerator.num_processes
    devices = f"{accelerator.device}" + (f", {processes} processes" if processes > 1 else "")
    print(run_header(record, portable(settings.train_file), portable(settings.val_file)))
    print(f"{len(batches)} optimizer steps per epoch on {devices}", flush=True)


def resume_record(
    checkpoint: Path, record: TrainingRecord, folder: CheckpointFolder
) -> TrainingRecord:
    """Returns the record of a checkpoint, once it is known to be of the same training.

    Args:
        checkpoint: The checkpoint to resume from.
        record: The record that a new run would start with.
        folder: The output folder.

    Raises:
        UsageError: It was made with other settings or data, or of another model.
        CheckpointError: Its record is damaged.
    """
    saved = record_of(checkpoint)
    refuse_changes(
        checkpoint,
        {"settings": _current_settings(saved.config, record.config), "data": saved.data},
        {"settings": record.config, "data": record.data},
        free=_FREE,
    )
    folder.refuse_to_lose_best(checkpoint, saved)
    saved.config, saved.model = record.config, record.model
    return saved


def _current_settings(saved: dict[str, Any], current: dict[str, Any]) -> dict[str, Any]:
    """Renames the keys of settings that an earlier version recorded.

    Keys that it does not have take the current value: they were added with a default that
    computes what was computed before.
    """
    renamed = {PromptTrainingSettings.renamed.get(key, key): value for key, value in saved.items()}
    return _filled(renamed, current)


def _filled(saved: dict[str, Any], current: dict[str, Any]) -> dict[str, Any]:
    filled = {**current, **saved}
    for key, value in saved.items():
        if isinstance(value, dict) and isinstance(current.get(key), dict):
            filled[key] = _filled(value, current[key])
    return filled
