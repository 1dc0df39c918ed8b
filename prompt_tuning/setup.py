"""Loads and builds what the training loop needs, as the settings say: the border of the config."""

import importlib.util
import logging
import os
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from datasets import Dataset
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from igrag.captioning.generator import Decoding, prepare_decoding
from igrag.captioning.language_model import LanguageModel, load_language_model
from igrag.captioning.prompt_template import PromptTemplate, count_other_prompts
from igrag.config import Config, find_model
from igrag.data.checks import refuse_shared_images
from igrag.data.tokenization import Collator, tokenized_dataset
from igrag.devices import resolve_device
from igrag.errors import ConfigError
from igrag.from_config import build_template
from igrag.training.library_versions import library_versions
from igrag.training.record import TrainingRecord
from prompt_tuning.checkpoints import CheckpointFolder
from prompt_tuning.fingerprint import NO_ADAPTER, adapter_hash, fingerprint_of
from prompt_tuning.global_batches import AccumulationWindows, target_lengths
from prompt_tuning.optimization import WindowGradient, build_optimizer, build_scheduler
from prompt_tuning.prompt_tuner import PromptTuner
from prompt_tuning.run_metadata import describe_data, describe_model, describe_run
from prompt_tuning.self_check import check_before_training
from prompt_tuning.settings import EvaluationSettings, PromptTrainingSettings, TrainingSettings
from prompt_tuning.validation import Validation

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Training:
    """Everything that the loop works with."""

    accelerator: Accelerator
    tuner: PromptTuner
    optimizer: Optimizer
    scheduler: LRScheduler
    gradient: WindowGradient
    windows: AccumulationWindows
    validation: Validation
    folder: CheckpointFolder
    record: TrainingRecord
    notes: list[str]


def prepare(settings: PromptTrainingSettings, config: Config, folder: CheckpointFolder) -> Training:
    """Builds all parts and checks them together.

    Args:
        settings: What to train, and how.
        config: What captioning uses: the model and the prompt template.
        folder: Where it writes to.

    Raises:
        IgragError: Something is missing, damaged, or would train nothing.
    """
    accelerator = start_accelerator(settings, config.models.device)
    language = _load_model(settings, config, accelerator)
    # Processes of one machine share the cache: the first one fills it.
    with accelerator.main_process_first():
        train, val = (
            tokenized_dataset(
                path,
                language.tokenizer,
                max_source_length=settings.data.max_source_length,
                max_target_length=settings.data.max_target_length,
                skip_bad_lines=settings.data.skip_bad_lines,
            )
            for path in (settings.data.train_file, settings.data.val_file)
        )
    refuse_shared_images(settings.data.train_file, settings.data.val_file, train, val)
    template = build_template(config.prompt_config)
    notes = _other_prompts(settings, template, train, val)
    tuner = _build_tuner(settings, language, template, is_tied=not notes)
    record = TrainingRecord(
        method="prompt_tuning",
        config=settings.to_plain() | {"resolved": describe_run(language, tuner, accelerator)},
        versions=library_versions(),
        model=describe_model(tuner, language),
        data=describe_data(settings.data.train_file, settings.data.val_file, train, val),
    )
    training = _assemble(settings, accelerator, tuner, train, val, record, folder)
    training.notes += notes
    _check(training, train)
    return training


def start_accelerator(settings: PromptTrainingSettings, device: str) -> Accelerator:
    """Joins the other processes, if torchrun or accelerate launch started any."""
    if settings.output.report_to == "tensorboard" and not importlib.util.find_spec("tensorboard"):
        raise ConfigError(
            "output.report_to: tensorboard is not installed; pip install tensorboard, or set none"
        )
    place = resolve_device(device)
    if device.startswith("cuda:"):
        os.environ["ACCELERATE_TORCH_DEVICE"] = device
    precision = settings.training.mixed_precision
    if precision == "auto":
        has_bf16 = place.type == "cuda" and torch.cuda.is_bf16_supported()
        precision = "bf16" if has_bf16 else "fp32"
    return Accelerator(
        cpu=place.type == "cpu",
        mixed_precision="bf16" if precision == "bf16" else "no",
        log_with=None if settings.output.report_to == "none" else settings.output.report_to,
        project_dir=settings.output.output_dir,
    )


def _load_model(
    settings: PromptTrainingSettings, config: Config, accelerator: Accelerator
) -> LanguageModel:
    return load_language_model(
        find_model(config.models, settings.model.name).path,
        device=str(accelerator.device),
        dtype=config.models.dtype,
        attn_implementation=config.models.attn_implementation,
        lora_path=settings.model.lora_weights_path,
        merge_lora=True,
    )


def _other_prompts(
    settings: PromptTrainingSettings, template: PromptTemplate, train: Dataset, val: Dataset
) -> list[str]:
    """Tells of prompts that captioning would not show the model."""
    files = {settings.data.train_file: train, settings.data.val_file: val}
    counts = {path: count_other_prompts(template, rows) for path, rows in files.items()}
    return [
        f"{path}: {count} of {len(files[path])} prompts were not made with the template of "
        f"{settings.model.main_config}; the soft prompt will not be tied to a template"
        for path, count in counts.items()
        if count
    ]


def _build_tuner(
    settings: PromptTrainingSettings,
    language: LanguageModel,
    template: PromptTemplate,
    *,
    is_tied: bool,
) -> PromptTuner:
    prompt = settings.prompt
    try:
        tuner = PromptTuner(
            language.model,
            language.tokenizer,
            prompt.prompt_length,
            prompt.initialization,
            init_scale=prompt.init_scale,
            init_text=template.instruction if prompt.init_text is None else prompt.init_text,
            init_file=prompt.init_file,
            reparameterization=prompt.reparameterization,
            bottleneck=prompt.bottleneck,
            sampled_embeddings=prompt.sampled_embeddings,
            model_dropout=settings.training.model_dropout,
            seed=settings.training.seed,
            fingerprint=fingerprint_of(
                language.model,
                language.tokenizer,
                template=template.fingerprint() if is_tied else None,
                lora=adapter_hash(language.lora_path) if language.lora_path else NO_ADAPTER,
                weights=language.weights,
            ),
        )
    except ValueError as error:
        raise ConfigError(f"prompt: {error}") from None
    return tuner.train()


def _assemble(
    settings: PromptTrainingSettings,
    accelerator: Accelerator,
    tuner: PromptTuner,
    train: Dataset,
    val: Dataset,
    record: TrainingRecord,
    folder: CheckpointFolder,
) -> Training:
    windows = _build_windows(settings, accelerator, tuner, train)
    optimizer, scheduler = _build_optimizer(settings.training, tuner, per_epoch=len(windows))
    return Training(
        accelerator=accelerator,
        tuner=tuner,
        optimizer=optimizer,
        scheduler=scheduler,
        gradient=WindowGradient(tuner.trainable_parameters(), accelerator),
        windows=windows,
        validation=_build_validation(settings.evaluation, accelerator, tuner, val),
        folder=folder,
        record=record,
        notes=[],
    )


def _build_windows(
    settings: PromptTrainingSettings, accelerator: Accelerator, tuner: PromptTuner, train: Dataset
) -> AccumulationWindows:
    options, processes = settings.training, accelerator.num_processes
    return AccumulationWindows(
        train,
        Collator(tuner.tokenizer.pad_token_id),
        micro_batch_size=options.per_device_train_batch_size,
        micro_batches=options.gradient_accumulation_steps * processes,
        rank=accelerator.process_index,
        processes=processes,
        seed=options.seed,
        workers=settings.data.dataloader_num_workers,
        device=accelerator.device,
    )


def _build_optimizer(
    options: TrainingSettings, tuner: PromptTuner, *, per_epoch: int
) -> tuple[Optimizer, LRScheduler]:
    optimizer = build_optimizer(
        tuner.trainable_parameters(),
        options.optimizer,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
    )
    scheduler = build_scheduler(
        optimizer,
        options.lr_scheduler_type,
        warmup_ratio=options.warmup_ratio,
        total_steps=per_epoch * options.num_train_epochs,
    )
    return optimizer, scheduler


def _build_validation(
    options: EvaluationSettings, accelerator: Accelerator, tuner: PromptTuner, val: Dataset
) -> Validation:
    decoding = Decoding(max_new_tokens=options.max_new_tokens, num_beams=options.num_beams)
    return Validation(
        val,
        Collator(tuner.tokenizer.pad_token_id),
        prepare_decoding(tuner.model, decoding),
        batch_size=options.per_device_eval_batch_size,
        accelerator=accelerator,
    )


def _check(training: Training, train: Dataset) -> None:
    first = next(next(training.windows.of_epoch(0)).batches, None)
    if first is None:
        # This process has no part in the first window; the others check the same things.
        return
    with training.accelerator.autocast():
        check_before_training(
            training.tuner,
            training.optimizer,
            first,
            source_lengths=train["source_length"][:],
            target_lengths=target_lengths(train),
        )
    logger.info("self-check: the prompt alone is optimized, gets a gradient and changes the logits")
