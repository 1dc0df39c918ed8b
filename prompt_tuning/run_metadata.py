"""What a training's record says of its data, its model and the run."""

from pathlib import Path
from typing import Any

from accelerate import Accelerator
from datasets import Dataset

from igrag.captioning.language_model import LanguageModel
from igrag.config import portable
from igrag.files import sha256_file
from igrag.training.record import ModelFacts
from prompt_tuning.prompt_tuner import PromptTuner


def describe_data(train_file: Path, val_file: Path, train: Dataset, val: Dataset) -> dict[str, Any]:
    """Counts and hashes: other examples under the same name are other data."""
    return {
        "train_examples": len(train),
        "train_sha256": sha256_file(train_file),
        "val_examples": len(val),
        "val_sha256": sha256_file(val_file),
    }


def describe_run(
    language: LanguageModel, tuner: PromptTuner, accelerator: Accelerator
) -> dict[str, Any]:
    """What the settings came to on this machine: a training that goes on must find the same."""
    return {
        "processes": accelerator.num_processes,
        "dtype": str(language.model.dtype).removeprefix("torch."),
        "attn_implementation": language.model.config._attn_implementation,
        "mixed_precision": accelerator.mixed_precision,
        "trained_for": tuner.fingerprint.to_dict(),
    }


def describe_model(tuner: PromptTuner, language: LanguageModel) -> ModelFacts:
    """Counts parameters; tied ones once. The total is the model's with the trained ones."""
    trainable = sum(parameter.numel() for parameter in tuner.trainable_parameters())
    frozen = sum(parameter.numel() for parameter in tuner.model.parameters())
    return ModelFacts(
        name=portable(language.name),
        total_parameters=frozen + trainable,
        trainable_parameters=trainable,
    )
