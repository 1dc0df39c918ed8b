"""Builds model, data, optimizer and validation from the settings."""

import logging
import os
import sys
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from datasets import Dataset
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedTokenizerBase

from igrag.captioning.generator import Decoding, prepare_decoding
from igrag.captioning.language_model import LanguageModel, embedding_weight, load_language_model
from igrag.captioning.prompt_template import PromptTemplate, count_other_prompts
from igrag.config import Config, PromptConfig, find_model, portable
from igrag.config.choices import AUTO
from igrag.data.checks import refuse_shared_images
from igrag.data.retrieved import retrieved_dataset
from igrag.data.tokenization import tokenized_dataset
from igrag.devices import resolve_device
from igrag.errors import ConfigError, DataError
from igrag.from_config import build_template, load_image_encoder
from igrag.memory import explain_out_of_memory
from igrag.retrieval.image_encoder import EncoderIdentity
from igrag.retrieval.vector_lookup import at
from igrag.training import batch_size
from igrag.training.checkpoints import record_of, refuse_changes
from igrag.training.precision import resolve_mixed_precision
from igrag.training.record import TrainingRecord
from igrag.training.run_metadata import count_parameters, describe_data, library_versions
from igrag.training.self_check import check_reporter
from igrag.training.summary import run_header
from prompt_tuning import optimization
from prompt_tuning.caption_sampling import CaptionSampler
from prompt_tuning.checkpoints import CheckpointFolder
from prompt_tuning.example_vectors import (
    TRAIN,
    VAL,
    ExampleVectors,
    collator_of,
    find_example_vectors,
    with_rows,
)
from prompt_tuning.fingerprint import NO_ADAPTER, Fingerprint, adapter_hash, fingerprint_of
from prompt_tuning.global_batches import GlobalBatches, target_lengths
from prompt_tuning.image_prompt import make_image_prompt
from prompt_tuning.initialization import make_initial_prompt
from prompt_tuning.prompt_tuner import PromptTuner
from prompt_tuning.reparameterization import make_parametrization
from prompt_tuning.self_check import check_before_training
from prompt_tuning.settings import PromptTrainingSettings
from prompt_tuning.validation import Validation

logger = logging.getLogger(__name__)
# Settings that do not change what is computed: a resumed run may have others.
_FREE = (
    "data.dataloader_num_workers",
    "data.image_vectors",  # Their hashes are compared.
    "evaluation.save_total_limit",
    "output.output_dir",
    "output.report_to",
    "prompt_tuning.weights_path",
    "resolved.image_encoder.name",
)


def open_folder(settings: PromptTrainingSettings) -> CheckpointFolder:
    """Opens the output folder, which need not exist yet."""
    return CheckpointFolder(
        settings.output_dir,
        best_prompt=settings.best_prompt,
        save_total_limit=settings.evaluation.save_total_limit,
    )


def start_accelerator(settings: PromptTrainingSettings, device_name: str) -> Accelerator:
    """Joins the other processes, if torchrun or accelerate launch started any."""
    report_to = settings.output.report_to
    check_reporter(report_to, key="output.report_to")
    device = resolve_device(device_name)
    if device_name.startswith("cuda:"):
        os.environ["ACCELERATE_TORCH_DEVICE"] = device_name
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision=resolve_mixed_precision(settings.training.mixed_precision, device),
        log_with=None if report_to == "none" else report_to,
        project_dir=settings.output_dir,
    )


def load_frozen_model(
    settings: PromptTrainingSettings, config: Config, accelerator: Accelerator
) -> LanguageModel:
    """Loads the language model, with its LoRA adapter merged where one is configured."""
    return load_language_model(
        find_model(config.models, settings.model.name, option="model.name").path,
        device=str(accelerator.device),
        dtype=config.models.dtype,
        attn_implementation=config.models.attn_implementation,
        lora_path=settings.model.lora_weights_path,
        merge_lora=True,
    )


def load_examples(
    settings: PromptTrainingSettings, tokenizer: PreTrainedTokenizerBase, accelerator: Accelerator
) -> tuple[Dataset, Dataset]:
    """Tokenizes the training and validation examples; no image may be in both.

    Raises:
        DataError: A file is missing or wrong, or both hold the same image.
    """
    # The processes of a machine share the cache: the first one fills it.
    with accelerator.main_process_first():
        train, val = (
            tokenized_dataset(
                path,
                tokenizer,
                max_source_length=settings.data.max_source_length,
                max_target_length=settings.data.max_target_length,
                skip_bad_lines=settings.data.skip_bad_lines,
            )
            for path in (settings.train_file, settings.val_file)
        )
    refuse_shared_images(settings.train_file, settings.val_file, train, val)
    return train, val


def find_image_vectors(
    settings: PromptTrainingSettings,
    config: Config,
    train: Dataset,
    val: Dataset,
    accelerator: Accelerator,
) -> ExampleVectors:
    """Finds the vectors of all images, if the prompt has image tokens.

    They lie next to the files of examples, or where data.image_vectors names.

    Returns:
        Those of "train" and "val"; nothing without image tokens.

    Raises:
        DataError: (file:line) There is none of an image; or they are of different encoders.
    """
    if not settings.prompt_tuning.image_tokens:
        return {}
    files = {TRAIN: (settings.train_file, train), VAL: (settings.val_file, val)}
    with accelerator.main_process_first():  # The first one fills the cache.
        return find_vectors_of(settings, config, files)


def find_vectors_of(
    settings: PromptTrainingSettings,
    config: Config,
    files: Mapping[str, tuple[Path, Dataset]],
    *,
    encoder: EncoderIdentity | None = None,
) -> ExampleVectors:
    """Finds the vectors of the images of some files of examples, see `find_example_vectors`."""
    get_encoder = cache(partial(load_image_encoder, config))
    size = config.retrieval_config.batch_size
    sources = [
        at(path, get_encoder=get_encoder, batch_size=size, cache=None)
        for path in settings.data.image_vectors
    ]
    return find_example_vectors(
        files, sources, encoder=encoder, skip_bad_lines=settings.data.skip_bad_lines
    )


def matching_template(
    settings: PromptTrainingSettings, prompts: PromptConfig, train: Dataset, val: Dataset
) -> PromptTemplate | None:
    """Returns the prompt template that built all examples, or None with a note on stderr.

    A soft prompt that was trained on other prompts than captioning builds is not tied to the
    template.
    """
    template = build_template(prompts)
    counts = {
        path: (count_other_prompts(template, dataset), len(dataset))
        for path, dataset in ((settings.train_file, train), (settings.val_file, val))
    }
    for path, (count, total) in counts.items():
        if count:
            print(
                f"note: {path}: {count} of {total} prompts were not made with the template of "
                f"{settings.model.main_config}; the soft prompt will not be tied to a template",
                file=sys.stderr,
            )
    return None if any(count for count, _ in counts.values()) else template


def build_tuner(
    settings: PromptTrainingSettings,
    prompts: PromptConfig,
    language_model: LanguageModel,
    template: PromptTemplate | None,
    vectors: ExampleVectors,
) -> PromptTuner:
    """Makes the initial prompt and prepends it to the frozen model, in training mode."""
    options, model, tokenizer = (
        settings.prompt_tuning,
        language_model.model,
        language_model.tokenizer,
    )
    embeddings = embedding_weight(model).detach()  # [V, H]
    # One random state for the prompt and then the parametrization: one seed gives one training.
    generator = torch.Generator().manual_seed(settings.training.seed)
    text = options.init_text
    try:
        initial_prompt = make_initial_prompt(
            options.initialization,
            embeddings,
            tokenizer,
            options.prompt_length,
            scale=options.init_scale,
            text=prompts.instruction if text is None else text,
            file=options.init_file,
            generator=generator,
        )
        parametrization = make_parametrization(
            options.reparameterization,
            embeddings,
            tokenizer,
            bottleneck=options.bottleneck,
            sampled_embeddings=options.sampled_embeddings,
            generator=generator,
        )
    except ValueError as error:
        raise ConfigError(f"prompt_tuning: {error}") from None
    image_prompt = None
    if vectors:  # Drawn last: without image tokens, the same is drawn as ever.
        image_prompt = make_image_prompt(
            vectors[TRAIN],
            embeddings,
            image_tokens=options.image_tokens,
            hidden=options.image_hidden,
            generator=generator,
        )
    return PromptTuner(
        model,
        initial_prompt,
        initialization=options.initialization,
        parametrization=parametrization,
        model_dropout=settings.training.model_dropout,
        fingerprint=_fingerprint(language_model, template),
        image_prompt=image_prompt,
    ).train()


def fit_batch_size(
    settings: PromptTrainingSettings,
    tuner: PromptTuner,
    train: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    accelerator: Accelerator,
    checkpoint: Path | None,
    vectors: ExampleVectors,
) -> PromptTrainingSettings:
    """Replaces `per_device_train_batch_size: auto`, see `igrag.training.batch_size`."""
    options = settings.training
    if options.per_device_train_batch_size != AUTO:
        return settings
    parameters, device = tuner.trainable_parameters(), accelerator.device

    def step(batch: dict[str, torch.Tensor]) -> None:
        with accelerator.autocast():
            loss = optimization.summed_loss(tuner, send_to_device(batch, device))
        torch.autograd.grad(loss, parameters)

    def smallest(size: int) -> int:
        return int(accelerator.gather(torch.tensor([size], device=device)).min())

    size, micro_batches = batch_size.fit_batch_size(
        step,
        with_rows(train, vectors, TRAIN),
        collator_of(tokenizer, vectors, TRAIN),
        size=options.micro_batch_size,
        micro_batches=options.gradient_accumulation_steps,
        checkpoint=checkpoint,
        agree=smallest,
    )
    return settings.model_copy(update={"training": options.with_batch_size(size, micro_batches)})


def build_sampler(
    settings: PromptTrainingSettings,
    config: Config,
    train: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate | None,
    accelerator: Accelerator,
    vectors: ExampleVectors,
) -> CaptionSampler | None:
    """Builds what draws the captions in the prompts, None where it is off.

    Raises:
        ConfigError: Fewer images are drawn from than a prompt shows.
        DataError: The examples list too few similar images, or are of another template, or objects
            stand in their prompts.
    """
    count, shown = settings.data.sample_retrieved, config.retrieval_config.top_k
    if count is None:
        return None
    if count < shown:
        raise ConfigError(
            f"data.sample_retrieved: found {count}, expected at least retrieval_config.top_k "
            f"({shown}) of {settings.model.main_config}"
        )
    if template is None or config.prompt_config.objects.source != "none":
        raise DataError(
            f"{settings.train_file}: data.sample_retrieved builds prompts with the template of "
            f"{settings.model.main_config}, expected examples of this template, without objects, "
            "here and in data.val_file; build them with it, or set data.sample_retrieved to null"
        )
    with accelerator.main_process_first():
        retrieved = retrieved_dataset(
            settings.train_file, count=count, skip_bad_lines=settings.data.skip_bad_lines
        )
    return CaptionSampler(
        with_rows(train, vectors, TRAIN),
        retrieved,
        template,
        tokenizer,
        shown=shown,
        max_source_length=settings.data.max_source_length,
        seed=settings.training.seed,
    )


def build_batches(
    settings: PromptTrainingSettings,
    train: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    accelerator: Accelerator,
    vectors: ExampleVectors,
    sampler: CaptionSampler | None = None,
) -> GlobalBatches:
    """Cuts the training examples into global batches and this process's micro-batches."""
    options, processes = settings.training, accelerator.num_processes
    return GlobalBatches(
        with_rows(train, vectors, TRAIN),
        collator_of(tokenizer, vectors, TRAIN),
        micro_batch_size=options.micro_batch_size,
        micro_batches=options.gradient_accumulation_steps * processes,
        rank=accelerator.process_index,
        processes=processes,
        seed=options.seed,
        workers=settings.data.dataloader_num_workers,
        device=accelerator.device,
        sampler=sampler,
    )


def build_optimizer(
    settings: PromptTrainingSettings, tuner: PromptTuner, *, steps_per_epoch: int
) -> tuple[Optimizer, LRScheduler]:
    """Builds the optimizer of the prompt and its learning rate schedule."""
    options = settings.training
    optimizer = optimization.build_optimizer(
        tuner.trainable_parameters(),
        options.optimizer,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        image_parameters=tuner.image_prompt.parameters() if tuner.image_prompt else (),
        image_learning_rate=settings.prompt_tuning.image_learning_rate,
    )
    scheduler = optimization.build_scheduler(
        optimizer,
        options.lr_scheduler_type,
        warmup_ratio=options.warmup_ratio,
        total_steps=options.total_steps(steps_per_epoch),
    )
    return optimizer, scheduler


def build_validation(
    settings: PromptTrainingSettings,
    val: Dataset,
    language_model: LanguageModel,
    accelerator: Accelerator,
    vectors: ExampleVectors,
) -> Validation:
    """Builds the validation on the held-out examples."""
    options = settings.evaluation
    decoding = Decoding(max_new_tokens=options.max_new_tokens, num_beams=options.num_beams)
    return Validation(
        with_rows(val, vectors, VAL),
        language_model.tokenizer,
        prepare_decoding(language_model.model, decoding),
        batch_size=options.per_device_eval_batch_size,
        accelerator=accelerator,
        collator=collator_of(language_model.tokenizer, vectors, VAL),
    )


def run_self_check(
    tuner: PromptTuner,
    optimizer: Optimizer,
    batches: GlobalBatches,
    train: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    accelerator: Accelerator,
) -> None:
    """Runs the self-check on the first micro-batch; see `check_before_training`."""
    first = next(next(batches.of_epoch(0)).micro_batches, None)
    if first is None:  # No share of the first global batch: the other processes check the same.
        return
    size = batches.micro_batch_size
    with accelerator.autocast(), explain_out_of_memory(batch_size.KEY, size):
        check_before_training(
            tuner,
            optimizer,
            first,
            eos_token_id=tokenizer.eos_token_id,
            source_lengths=train["source_length"][:],
            target_lengths=target_lengths(train),
        )
    logger.info("self-check: the prompt alone is trained, gets a gradient and changes the output")


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


def _fingerprint(language_model: LanguageModel, template: PromptTemplate | None) -> Fingerprint:
    adapter = language_model.lora_path
    return fingerprint_of(
        language_model.model,
        language_model.tokenizer,
        template=template.fingerprint() if template else None,
        lora=adapter_hash(adapter) if adapter else NO_ADAPTER,
        weights=language_model.weights,
    )


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
