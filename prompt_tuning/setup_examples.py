"""Settings -> training and validation examples, their images' vectors, and global batches."""

import sys
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path

from accelerate import Accelerator
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from igrag.captioning.prompt_template import PromptTemplate, count_other_prompts
from igrag.config import Config, PromptConfig
from igrag.data.checks import refuse_shared_images
from igrag.data.retrieved import retrieved_dataset
from igrag.data.tokenization import tokenized_dataset
from igrag.errors import ConfigError, DataError
from igrag.from_config import build_template, load_image_encoder
from igrag.retrieval.image_encoder import EncoderIdentity
from igrag.retrieval.vector_lookup import at
from igrag.training.trackers import SAMPLES, Sample, choose_samples
from prompt_tuning.caption_sampling import CaptionSampler
from prompt_tuning.example_vectors import (
    TRAIN,
    VAL,
    ExampleVectors,
    collator_of,
    find_example_vectors,
    with_rows,
)
from prompt_tuning.global_batches import CPU_PASS_TOKENS, GlobalBatches
from prompt_tuning.settings import PromptTrainingSettings


def load_examples(
    settings: PromptTrainingSettings, tokenizer: PreTrainedTokenizerBase, accelerator: Accelerator
) -> tuple[Dataset, Dataset]:
    """Tokenizes the training and validation examples; no image may be in both.

    Raises:
        DataError: A file is missing or wrong, or both hold the same image.
    """
    # The processes of a machine share the cache: the first one fills it.
    with accelerator.local_main_process_first():
        train, val = (
            tokenize_examples(settings, path, tokenizer)
            for path in (settings.train_file, settings.val_file)
        )
        refuse_shared_images(settings.train_file, settings.val_file, train, val)
    return train, val


def reported_samples(settings: PromptTrainingSettings, val: Dataset) -> list[Sample]:
    """Returns the validation examples whose captions a tracker gets; none without a tracker.

    Raises:
        ImageError: The folder of images in the settings is missing or holds none.
    """
    if settings.output.report_to == "none":
        return []
    return choose_samples(
        val["image_id"][:SAMPLES], val["references"][:SAMPLES], settings.output.report_images
    )


def tokenize_examples(
    settings: PromptTrainingSettings, path: Path, tokenizer: PreTrainedTokenizerBase
) -> Dataset:
    """Tokenizes a file of examples as the settings ask, see `tokenized_dataset`."""
    data = settings.data
    return tokenized_dataset(
        path,
        tokenizer,
        max_source_length=data.max_source_length,
        max_target_length=data.max_target_length,
        skip_bad_lines=data.skip_bad_lines,
    )


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
    with accelerator.local_main_process_first():  # The first one fills the cache.
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
    settings: PromptTrainingSettings,
    prompts: PromptConfig,
    train: Dataset,
    val: Dataset,
    accelerator: Accelerator,
) -> PromptTemplate | None:
    """Returns the prompt template that built all examples, or None with a note on stderr.

    A soft prompt that was trained on other prompts than captioning builds is not tied to the
    template.
    """
    template = build_template(prompts)
    with accelerator.local_main_process_first():
        counts = {
            path: (count_other_prompts(template, dataset), len(dataset))
            for path, dataset in ((settings.train_file, train), (settings.val_file, val))
        }
    for path, (count, total) in counts.items():
        if count and accelerator.is_main_process:
            print(
                f"note: {path}: {count} of {total} prompts were not made with the template of "
                f"{settings.model.main_config}; the soft prompt will not be tied to a template",
                file=sys.stderr,
            )
    return None if any(count for count, _ in counts.values()) else template


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
    with accelerator.local_main_process_first():
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
        pass_tokens=None
        if options.shard_model or accelerator.device.type != "cpu"
        else CPU_PASS_TOKENS,
        is_sharded=options.shard_model,
    )
