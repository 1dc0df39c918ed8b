"""Loads and builds what the training needs, as the settings say: the border of the config."""

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedTokenizerBase, Seq2SeqTrainingArguments

from igrag.captioning.adapters import BaseModelIdentity
from igrag.captioning.generator import Decoding, prepare_decoding
from igrag.captioning.language_model import LanguageModel, load_language_model
from igrag.config import Config, portable
from igrag.data.batching import Collator
from igrag.data.checks import refuse_shared_images
from igrag.data.tokenization import tokenized_dataset
from igrag.devices import resolve_device
from igrag.errors import ConfigError, UsageError
from igrag.files import sha256_file
from igrag.training.record import ModelFacts, TrainingRecord
from igrag.training.run_metadata import library_versions
from lora_training.adapter import add_adapter, check_before_training
from lora_training.checkpoints import BEST_NAME
from lora_training.settings import LoraSettings, TrainingSettings
from lora_training.trainer import longest_first

_SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}


@dataclass(slots=True)
class Training:
    """Everything that a training works with.

    Attributes:
        model: The frozen model with its adapter.
        tokenizer: Its tokenizer.
        base: What is below the adapter.
        arguments: How the Trainer trains.
        train: The examples that train.
        val: Those that validate, the longest prompt first.
        record: What is known of the training so far.
    """

    model: PeftModel
    tokenizer: PreTrainedTokenizerBase
    base: BaseModelIdentity
    arguments: Seq2SeqTrainingArguments
    train: Dataset
    val: Dataset
    record: TrainingRecord


def prepare(settings: LoraSettings, config: Config, model_path: str) -> Training:
    """Loads model and data, adds the adapter, and checks all of it together.

    Args:
        settings: What to train, and how.
        config: What captioning uses: device and dtype.
        model_path: Folder or hub id of the base model.

    Raises:
        IgragError: Something is missing, damaged, or would train nothing.
    """
    options = settings.training
    place = _find_device(config.models.device)
    arguments = _trainer_arguments(options, place)
    language = load_language_model(
        model_path,
        device=str(place),
        dtype=config.models.dtype,
        attn_implementation=config.models.attn_implementation,
    )
    files = [settings.data.output_data / f"{name}.jsonl" for name in ("train", "val")]
    train, val = (_read_examples(path, language.tokenizer, settings) for path in files)
    refuse_shared_images(files[0], files[1], train, val)
    # What "auto" came to on this machine: it decides what is computed as the settings do.
    precision = {
        "dtype": str(language.model.dtype).removeprefix("torch."),
        "attn_implementation": config.models.attn_implementation,
        "mixed_precision": "bf16" if arguments.bf16 else "fp32",
    }
    model = _adapt(language, settings)
    _check(model, language.tokenizer, train, options)
    trainable, total = model.get_nb_trainable_parameters()
    record = TrainingRecord(
        method="lora",
        config=settings.to_plain(include={"model", "lora", "training"}) | {"precision": precision},
        versions=library_versions(),
        model=ModelFacts(portable(model_path), total, trainable),
        data=_describe_data(files, (train, val)),
        best_folder=BEST_NAME,
    )
    return Training(
        model=model,
        tokenizer=language.tokenizer,
        base=BaseModelIdentity(portable(model_path), language.weights),
        arguments=arguments,
        train=train,
        val=longest_first(val),
        record=record,
    )


def _read_examples(
    path: Path, tokenizer: PreTrainedTokenizerBase, settings: LoraSettings
) -> Dataset:
    return tokenized_dataset(
        path,
        tokenizer,
        max_source_length=settings.training.max_source_length,
        max_target_length=settings.training.max_target_length,
        skip_bad_lines=settings.data.skip_bad_lines,
    )


def _find_device(name: str) -> torch.device:
    """Finds the one device to train on: the Trainer itself would take all GPUs it sees."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            f"found WORLD_SIZE={os.environ['WORLD_SIZE']}, but an adapter is trained by one "
            "process; start it with python, without torchrun or accelerate launch"
        )
    place = resolve_device(name)
    if place.type == "cuda" and place.index:
        raise UsageError(
            f"device {name}: the Trainer takes the first GPU it sees; "
            f"set CUDA_VISIBLE_DEVICES={place.index} and use cuda"
        )
    return place


def _trainer_arguments(options: TrainingSettings, place: torch.device) -> Seq2SeqTrainingArguments:
    if options.report_to == "tensorboard" and not importlib.util.find_spec("tensorboard"):
        raise ConfigError(
            "training.report_to: tensorboard is not installed; pip install tensorboard, or set none"
        )
    strategy = "epoch" if options.eval_steps is None else "steps"
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(options.output_dir),
        num_train_epochs=options.num_train_epochs,
        per_device_train_batch_size=options.per_device_train_batch_size,
        per_device_eval_batch_size=options.per_device_eval_batch_size,
        gradient_accumulation_steps=options.gradient_accumulation_steps,
        learning_rate=options.learning_rate,
        lr_scheduler_type=_SCHEDULES[options.lr_scheduler_type],
        warmup_steps=options.warmup_ratio,  # Below 1 it is a share of all steps.
        weight_decay=options.weight_decay,
        max_grad_norm=options.max_grad_norm or 0.0,
        bf16=_uses_bf16(options, place),
        eval_strategy=strategy,
        eval_steps=options.eval_steps,
        save_strategy=strategy,
        save_steps=options.eval_steps or 0,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,  # It would hide that a training has run away.
        predict_with_generate=True,
        include_for_metrics=["loss"],
        remove_unused_columns=False,
        seed=options.seed,
        use_cpu=place.type == "cpu",
        report_to=options.report_to,
        disable_tqdm=True,
        log_level="error",
    )
    assert arguments.device.type == place.type, f"{arguments.device} instead of {place}"
    arguments._n_gpu = min(arguments.n_gpu, 1)  # More would be joined by torch's DataParallel.
    return arguments


def _uses_bf16(options: TrainingSettings, place: torch.device) -> bool:
    if options.mixed_precision == "auto":
        return place.type == "cuda" and torch.cuda.is_bf16_supported()
    return options.mixed_precision == "bf16"


def _adapt(language: LanguageModel, settings: LoraSettings) -> PeftModel:
    options, base = settings.training, language.model
    decoding = Decoding(max_new_tokens=options.max_new_tokens, num_beams=options.num_beams)
    # PEFT generates with the base model's own.
    base.generation_config = prepare_decoding(base, decoding)
    return add_adapter(
        base, name=portable(language.name), seed=options.seed, **settings.lora.model_dump()
    )


def _check(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    train: Dataset,
    options: TrainingSettings,
) -> None:
    count = min(len(train), options.per_device_train_batch_size)
    batch = Collator(tokenizer.pad_token_id)([train[place] for place in range(count)])
    check_before_training(
        model,
        {name: tensor.to(model.device) for name, tensor in batch.items()},
        source_lengths=train["source_length"][:],
        target_lengths=[len(labels) for labels in train["labels"][:]],
    )


def _describe_data(files: Sequence[Path], sets: Sequence[Dataset]) -> dict[str, Any]:
    description: dict[str, Any] = {}
    for file, rows in zip(files, sets, strict=True):
        description[f"{file.stem}_examples"] = len(rows)
        description[f"{file.stem}_sha256"] = sha256_file(file)
    return description
