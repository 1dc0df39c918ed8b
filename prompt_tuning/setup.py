"""Builds model, data, optimizer and validation from the settings."""

import logging
import os
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, send_to_device
from datasets import Dataset
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedTokenizerBase

from igrag.captioning.generator import Decoding, prepare_decoding
from igrag.captioning.language_model import LanguageModel, embedding_weight, load_language_model
from igrag.captioning.prompt_template import PromptTemplate
from igrag.config import Config, PromptConfig, find_model
from igrag.config.choices import AUTO
from igrag.data.batching import target_lengths
from igrag.devices import resolve_device, resolve_dtype
from igrag.errors import ConfigError
from igrag.memory import explain_out_of_memory
from igrag.training import batch_size
from igrag.training.precision import resolve_mixed_precision
from igrag.training.self_check import check_reporter
from prompt_tuning import compilation, optimization
from prompt_tuning.checkpoints import CheckpointFolder
from prompt_tuning.example_vectors import (
    TRAIN,
    VAL,
    ExampleVectors,
    collator_of,
    with_rows,
)
from prompt_tuning.fingerprint import NO_ADAPTER, Fingerprint, adapter_hash, fingerprint_of
from prompt_tuning.global_batches import Batch, GlobalBatches
from prompt_tuning.image_prompt import make_image_prompt
from prompt_tuning.initialization import make_initial_prompt
from prompt_tuning.prompt_tuner import PromptTuner
from prompt_tuning.reparameterization import make_parametrization
from prompt_tuning.self_check import check_before_training
from prompt_tuning.settings import PromptSettings, PromptTrainingSettings
from prompt_tuning.sharding import check_sharding, shard_model
from prompt_tuning.validation import Validation

# For how long processes wait for each other, such as for the one that tokenizes a large file.
_TIMEOUT = timedelta(days=1)
logger = logging.getLogger(__name__)


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
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_TIMEOUT)],
        cpu=device.type == "cpu",
        mixed_precision=resolve_mixed_precision(settings.training.mixed_precision, device),
        log_with=None if report_to == "none" else report_to,
        project_dir=settings.output_dir,
    )


def load_frozen_model(
    settings: PromptTrainingSettings, config: Config, accelerator: Accelerator
) -> LanguageModel:
    """Loads the language model, with its LoRA adapter merged where one is configured."""
    options = settings.training
    dtype: str = config.models.dtype
    if options.shard_model:
        check_sharding(accelerator.num_processes, options.per_device_train_batch_size)
        dtype = str(resolve_dtype(dtype, accelerator.device)).removeprefix("torch.")
    language = load_language_model(
        find_model(config.models, settings.model.name, option="model.name").path,
        device="cpu" if options.shard_model else str(accelerator.device),
        dtype=dtype,
        attn_implementation=config.models.attn_implementation,
        lora_path=settings.model.lora_weights_path,
        merge_lora=True,
    )
    if options.shard_model:
        shard_model(language.model, accelerator)
    return language


def build_tuner(
    settings: PromptTrainingSettings,
    prompts: PromptConfig,
    language_model: LanguageModel,
    template: PromptTemplate | None,
    vectors: ExampleVectors,
) -> PromptTuner:
    """Makes the initial prompt and prepends it to the frozen model, in training mode."""
    options, model = settings.prompt_tuning, language_model.model
    embeddings = embedding_weight(model).detach()  # [V, H]
    # One random state for the prompt and then the parametrization: one seed gives one training.
    generator = torch.Generator().manual_seed(settings.training.seed)
    try:
        initial_prompt, parametrization = _make_prompt(
            options, prompts.instruction, embeddings, language_model.tokenizer, generator
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


def _make_prompt(
    options: PromptSettings,
    instruction: str,
    embeddings: Tensor,
    tokenizer: PreTrainedTokenizerBase,
    generator: torch.Generator,
) -> tuple[Tensor, nn.Module | None]:
    """Makes the initial prompt [P, H] and its parametrization."""
    initial_prompt = make_initial_prompt(
        options.initialization,
        embeddings,
        tokenizer,
        options.prompt_length,
        scale=options.init_scale,
        text=instruction if options.init_text is None else options.init_text,
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
    return initial_prompt, parametrization


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
    device = accelerator.device

    def step(batch: dict[str, torch.Tensor]) -> None:
        _forward_and_backward(tuner, send_to_device(batch, device), accelerator)

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
        workers=settings.data.dataloader_num_workers,
        is_sharded=settings.training.shard_model,
    )


def compile_model(
    settings: PromptTrainingSettings,
    tuner: PromptTuner,
    batches: GlobalBatches,
    accelerator: Accelerator,
) -> None:
    """Compiles the frozen model's encoder where `training.compile` asks for it."""
    options = settings.training
    steps = options.total_steps(len(batches))
    if options.shard_model or not compilation.is_worthwhile(
        options.compile,
        accelerator.device,
        micro_batches=steps * options.gradient_accumulation_steps,
    ):
        return
    first = _first_micro_batch(batches)

    def first_step() -> None:
        if first is not None:
            _forward_and_backward(tuner, first, accelerator)

    compilation.compile_encoder(tuner.model, first_step, required=options.compile is True)


def run_self_check(
    tuner: PromptTuner,
    optimizer: Optimizer,
    batches: GlobalBatches,
    train: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    accelerator: Accelerator,
) -> None:
    """Runs the self-check on the first micro-batch; see `check_before_training`."""
    first = _first_micro_batch(batches)
    if first is None:  # The other processes check the same.
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


def _first_micro_batch(batches: GlobalBatches) -> Batch | None:
    """Returns the first micro-batch; None: the first global batch is for other processes alone."""
    return next(next(batches.of_epoch(0)).micro_batches, None)


def _forward_and_backward(tuner: PromptTuner, batch: Batch, accelerator: Accelerator) -> None:
    """Computes the gradient of a micro-batch, and drops it."""
    with accelerator.autocast():
        loss = optimization.summed_loss(tuner, batch)
    torch.autograd.grad(loss, tuner.trainable_parameters())


def _fingerprint(language_model: LanguageModel, template: PromptTemplate | None) -> Fingerprint:
    adapter = language_model.lora_path
    return fingerprint_of(
        language_model.model,
        language_model.tokenizer,
        template=template.fingerprint() if template else None,
        lora=adapter_hash(adapter) if adapter else NO_ADAPTER,
        weights=language_model.weights,
    )
