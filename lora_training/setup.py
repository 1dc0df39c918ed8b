"""Builds model, data and training arguments from the settings."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather, send_to_device
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedTokenizerBase, Seq2SeqTrainingArguments

from igrag.captioning.adapters import BaseModelIdentity
from igrag.captioning.generator import Decoding, prepare_decoding
from igrag.captioning.language_model import LanguageModel, load_language_model
from igrag.captioning.prompt_template import count_other_prompts
from igrag.config import PromptConfig, portable
from igrag.config.choices import AUTO
from igrag.config.schema import ModelConfig
from igrag.data.batching import Collator, target_lengths
from igrag.data.checks import refuse_shared_images
from igrag.data.images import list_images
from igrag.data.tokenization import tokenized_dataset
from igrag.devices import resolve_device
from igrag.errors import ImageError, UsageError
from igrag.from_config import build_template
from igrag.memory import explain_out_of_memory
from igrag.training import batch_size
from igrag.training.changes import refuse_changes
from igrag.training.checkpoints import record_of
from igrag.training.precision import resolve_mixed_precision
from igrag.training.record import TrainingRecord
from igrag.training.run_metadata import count_parameters, describe_data, library_versions
from igrag.training.schedules import SCHEDULES
from igrag.training.self_check import check_reporter
from igrag.training.trackers import SAMPLES, Sample, choose_samples
from lora_training.adapter import add_adapter, check_before_training, enter_training
from lora_training.checkpoints import BEST_NAME
from lora_training.settings import LoraSettings, TrainingSettings
from lora_training.trainer import longest_first

# Settings that may change when a run is resumed: they do not change what is computed.
_FREE = (
    "training.save_total_limit",
    "training.output_dir",
    "training.report_to",
    "training.report_images",
    "processes",
)

# Seconds that processes wait for each other, such as for the one that tokenizes a large file.
_TIMEOUT = 24 * 60 * 60

# Trackers that the library's Trainer does not know, which bring a callback for it.
_OWN_CALLBACK = {"aim": "none"}


def find_device(name: str) -> torch.device:
    """Returns the one device to train on; the Trainer itself would take all GPUs it sees.

    Of several processes each gets its own GPU from the Trainer.

    Raises:
        UsageError: The Trainer would take another GPU.
    """
    device = resolve_device(name)
    if device.type == "cuda" and device.index:
        raise UsageError(
            f"device {name}: the Trainer takes the first GPU it sees; "
            f"set CUDA_VISIBLE_DEVICES={device.index} and use cuda"
        )
    return device


def trainer_arguments(
    options: TrainingSettings, device: torch.device, *, validate_first: bool
) -> Seq2SeqTrainingArguments:
    """Makes the Trainer's arguments.

    Args:
        options: The settings.
        device: What `find_device` returned.
        validate_first: Validate the untuned model before the first step.

    Raises:
        ConfigError: What `report_to` names is not installed.
    """
    check_reporter(options.report_to, key="training.report_to")
    strategy = "epoch" if options.eval_steps is None else "steps"
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(options.output_dir),
        num_train_epochs=options.num_train_epochs,
        per_device_train_batch_size=options.micro_batch_size,
        per_device_eval_batch_size=options.per_device_eval_batch_size,
        gradient_accumulation_steps=options.gradient_accumulation_steps,
        learning_rate=options.learning_rate,
        lr_scheduler_type=SCHEDULES[options.lr_scheduler_type],
        warmup_steps=options.warmup_ratio,  # Below 1 it is a share of all steps.
        weight_decay=options.weight_decay,
        max_grad_norm=options.max_grad_norm or 0.0,
        bf16=resolve_mixed_precision(options.mixed_precision, device) == "bf16",
        eval_on_start=validate_first,
        eval_strategy=strategy,
        eval_steps=options.eval_steps,
        save_strategy=strategy,
        save_steps=options.eval_steps or 0,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,  # It would hide a loss that is not finite.
        remove_unused_columns=False,
        seed=options.seed,
        use_cpu=device.type == "cpu",
        ddp_find_unused_parameters=False,  # `check_before_training` makes sure that there are none.
        ddp_timeout=_TIMEOUT,
        report_to=_OWN_CALLBACK.get(options.report_to, options.report_to),
        disable_tqdm=True,
        log_level="error",
        log_level_replica="error",
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # More would be joined by torch's DataParallel.
    return arguments


def load_base_model(models: ModelConfig, path: str, device: torch.device) -> LanguageModel:
    """Loads the frozen model, see `load_language_model`."""
    return load_language_model(
        path,
        device=str(device),
        dtype=models.dtype,
        attn_implementation=models.attn_implementation,
    )


def load_examples(
    files: tuple[Path, Path], tokenizer: PreTrainedTokenizerBase, settings: LoraSettings
) -> tuple[Dataset, Dataset]:
    """Returns the tokenized training and validation examples, see `tokenized_dataset`.

    Validation examples are sorted by length, the longest prompt first.

    Raises:
        DataError: A file is missing or invalid, or an image is in both.
    """
    train, val = (
        tokenized_dataset(
            path,
            tokenizer,
            max_source_length=settings.training.max_source_length,
            max_target_length=settings.training.max_target_length,
            skip_bad_lines=settings.data.skip_bad_lines,
        )
        for path in files
    )
    refuse_shared_images(*files, train, val)
    return train, longest_first(val)


def reported_samples(settings: LoraSettings, val: Dataset) -> list[Sample]:
    """Returns the validation examples whose captions a tracker gets; none without a tracker.

    Args:
        settings: The settings; by default the images are those that the data were built from.
        val: The validation examples, in the order of the Trainer.

    Raises:
        ImageError: The folder of images in the settings is missing or holds none.
    """
    if settings.training.report_to == "none":
        return []
    folder, data = settings.training.report_images, settings.data
    if folder is None:
        built_from = data.val_images_path or data.images_path
        with suppress(ImageError):  # The machine that trains need not have them.
            list_images(built_from)
            folder = built_from
    return choose_samples(val["image_id"][:SAMPLES], val["references"][:SAMPLES], folder)


def tracker_callbacks(options: TrainingSettings) -> list[Any]:
    """Returns the Trainer's callbacks of a tracker that it does not know by name."""
    if options.report_to not in _OWN_CALLBACK:
        return []
    from aim.hugging_face import AimCallback

    return [AimCallback(repo=str(options.output_dir), experiment="igrag")]


def adapt(language: LanguageModel, settings: LoraSettings) -> PeftModel:
    """Adds a new adapter to the model."""
    options, base = settings.training, language.model
    decoding = Decoding(max_new_tokens=options.max_new_tokens, num_beams=options.num_beams)
    # PEFT generates with the base model's own configuration.
    base.generation_config = prepare_decoding(base, decoding)
    model = add_adapter(
        base, name=portable(language.name), seed=options.seed, **settings.lora.model_dump()
    )
    enter_training(model, model_dropout=options.model_dropout)
    return model


def fit_batch_size(
    settings: LoraSettings,
    arguments: Seq2SeqTrainingArguments,
    model: PeftModel,
    train: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    checkpoint: Path | None,
) -> LoraSettings:
    """Replaces `per_device_train_batch_size: auto`, in the Trainer's arguments too.

    See `igrag.training.batch_size`. The Trainer sets its seeds afterwards.
    """
    options = settings.training
    if options.per_device_train_batch_size != AUTO:
        return settings

    def step(batch: dict[str, torch.Tensor]) -> None:
        with torch.autocast(model.device.type, torch.bfloat16, enabled=arguments.bf16):
            loss = model(**send_to_device(batch, model.device)).loss
        loss.backward()
        model.zero_grad()

    def smallest(size: int) -> int:
        return int(gather(torch.tensor([size], device=model.device)).min())

    size, micro_batches = batch_size.fit_batch_size(
        step,
        train,
        Collator(tokenizer.pad_token_id),
        size=options.micro_batch_size,
        micro_batches=options.gradient_accumulation_steps,
        checkpoint=checkpoint,
        agree=smallest,
    )
    arguments.per_device_train_batch_size = size
    arguments.gradient_accumulation_steps = micro_batches
    return settings.model_copy(update={"training": options.with_batch_size(size, micro_batches)})


def check_examples(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    train: Dataset,
    options: TrainingSettings,
) -> None:
    """Checks model and data together with the first batch, see `check_before_training`."""
    count = min(len(train), options.micro_batch_size)
    batch = Collator(tokenizer.pad_token_id)([train[index] for index in range(count)])
    with explain_out_of_memory(batch_size.KEY, options.micro_batch_size):
        check_before_training(
            model,
            send_to_device(batch, model.device),
            source_lengths=train["source_length"][:],
            target_lengths=target_lengths(train),
        )


def new_record(
    settings: LoraSettings,
    language: LanguageModel,
    model: PeftModel,
    arguments: Seq2SeqTrainingArguments,
    files: tuple[Path, Path],
    train: Dataset,
    val: Dataset,
) -> TrainingRecord:
    """Returns the record of a run before its first step."""
    # What "auto" was resolved to on this machine decides what is computed, as the settings do.
    precision = {
        "dtype": str(language.model.dtype).removeprefix("torch."),
        "attn_implementation": language.model.config._attn_implementation,
        "mixed_precision": "bf16" if arguments.bf16 else "fp32",
    }
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    config = settings.to_plain(include={"model", "lora", "training"}) | {"precision": precision}
    if arguments.world_size > 1:
        config["processes"] = arguments.world_size
    return TrainingRecord(
        method="lora",
        config=config,
        versions=library_versions(),
        model=count_parameters(portable(language.name), model, trainable),
        data=describe_data(*files, train, val),
        best_folder=BEST_NAME,
    )


def identify(language: LanguageModel) -> BaseModelIdentity:
    """Returns the identity of the base model, which is saved next to the adapter."""
    return BaseModelIdentity(portable(language.name), language.weights)


def begun_settings(settings: LoraSettings, checkpoint: Path, *, notes: bool) -> LoraSettings:
    """Returns the settings with `model_dropout`, if an earlier version began a checkpoint's run.

    It always trained with dropout in the frozen model, and did not record that.

    Args:
        settings: Those of the command.
        checkpoint: What the run resumes from.
        notes: Print a note where they change.
    """
    training = settings.training
    if "model_dropout" in record_of(checkpoint).config["training"] or training.model_dropout:
        return settings
    if notes:
        print(
            f"note: {portable(checkpoint)}: was begun by an earlier version, with dropout in the "
            "frozen model; continues with training.model_dropout: true",
            file=sys.stderr,
        )
    training = training.model_copy(update={"model_dropout": True})
    return settings.model_copy(update={"training": training})


def resume_record(new: TrainingRecord, checkpoint: Path) -> TrainingRecord:
    """Returns the record of a checkpoint; its state is restored by the Trainer.

    Another number of processes may resume it, if an optimizer step has as many micro-batches.

    Raises:
        UsageError: It was made with other settings, precision or data, or of another model.
    """
    record = record_of(checkpoint)
    # Checkpoints of earlier versions record neither the precision nor the dropout.
    settings = {"precision": new.config["precision"], **record.config}
    settings["training"] = {"model_dropout": True, **settings["training"]}
    refuse_changes(
        checkpoint,
        {
            "settings": _of_whole_steps(settings),
            "data": record.data,
            "base model": {"name": record.model.name},
        },
        {
            "settings": _of_whole_steps(new.config),
            "data": new.data,
            "base model": {"name": new.model.name},
        },
        free=_FREE,
    )
    record.config = new.config
    return record


def _of_whole_steps(config: dict[str, Any]) -> dict[str, Any]:
    """Returns settings that count the micro-batches of an optimizer step over all processes."""
    training = config["training"]
    count = training["gradient_accumulation_steps"] * config.get("processes", 1)
    return {**config, "training": {**training, "gradient_accumulation_steps": count}}


def note_other_prompts(train: Dataset, file: Path, prompts: PromptConfig) -> None:
    """Prints a note if captioning would show the adapter other prompts than it is trained on."""
    count = count_other_prompts(build_template(prompts), train)
    if count:
        print(
            f"note: {portable(file)}: {count} of {len(train)} prompts were not made with the "
            "template of the main config; captioning will show the adapter other ones",
            file=sys.stderr,
        )
