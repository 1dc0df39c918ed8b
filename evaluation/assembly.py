"""Loads what the configuration names and captions a split with it: the border of the config."""

import logging
from collections.abc import Sequence
from typing import Any

from evaluation.captioning import Retriever, Written, write_captions
from evaluation.dataset import Split
from evaluation.methods import Candidate, Paths, files_of, open_writers
from evaluation.overwrite_guard import identify
from igrag import from_config
from igrag.captioning.generator import CaptionGenerator
from igrag.captioning.prompt_template import PromptTemplate
from igrag.config import Config, portable
from igrag.devices import tune_allocator

logger = logging.getLogger(__name__)


def paths_of(config: Config) -> Paths:
    """Where the configuration says that trained things are."""
    prompts = config.prompt_tuning
    return Paths(
        prompt=prompts.file_for(lora=False),
        prompt_on_lora=prompts.file_for(lora=True),
        lora=config.lora_config.weights_path,
    )


def identity_of(
    config: Config, model_path: str, candidates: Sequence[Candidate], split: Split
) -> dict[str, Any]:
    """Says what an evaluation is of, see `evaluation.overwrite_guard.identify`."""
    settings: dict[str, Any] = {
        "dtype": config.models.dtype,
        "max_source_length": config.models.max_source_length,
    }
    if not split.prompts:
        settings |= {
            "top_k": config.retrieval_config.top_k,
            "encoder": portable(config.retrieval_config.encoder),
            "knowledge_base": portable(config.knowledge_base_config.path),
            "prompts": config.prompt_config.to_plain(),
        }
    return identify(
        split,
        model=model_path,
        decoding=config.generation_config.model_dump(mode="json"),
        settings=settings,
        files=files_of(candidates, paths_of(config)),
    )


def caption_split(
    config: Config, model_path: str, candidates: Sequence[Candidate], split: Split
) -> dict[str, Written]:
    """Captions all images with all candidates, loading the model once.

    Args:
        config: What captioning uses.
        model_path: Folder or hub id of the language model.
        candidates: What to compare.
        split: The images; where they have no prompts, retrieval builds them.

    Returns:
        What each candidate wrote, by name.

    Raises:
        IgragError: A part is missing or damaged, or a image cannot be opened.
    """
    tune_allocator()
    template = from_config.build_template(config.prompt_config)
    # The knowledge base is the likelier to be missing and the quicker to open.
    retriever = None if split.prompts else _open_retriever(config, template)
    adapted = any(candidate.needs_adapter for candidate in candidates)
    lora = config.lora_config.model_copy(update={"enabled": adapted, "merge_and_unload": False})
    language = from_config.load_language(
        config.model_copy(update={"lora_config": lora}), model_path
    )
    generator = from_config.build_generator(config, language)
    writers = open_writers(language, candidates, template=template.fingerprint())
    if retriever is None:
        prompts = split.prompts
        _check_prompts(split, template, generator)
    else:
        prompts = retriever.prompts(split.images, generator)
    return write_captions(generator, writers, prompts)


def _open_retriever(config: Config, template: PromptTemplate) -> Retriever:
    encoder, knowledge_base = from_config.open_retrieval(config)
    return Retriever(
        encoder,
        knowledge_base,
        template,
        from_config.build_detector(config.prompt_config.objects, config.models.device),
        top_k=config.retrieval_config.top_k,
        batch_size=config.retrieval_config.batch_size,
    )


def _check_prompts(split: Split, template: PromptTemplate, generator: CaptionGenerator) -> None:
    """Tells of prompts that captioning would not have built."""
    prompts = split.prompts
    others = sum(not template.fits(prompt) for prompt in prompts)
    if others:
        logger.warning(
            "%s: %d of %d prompts were not made with the template of the configuration",
            split.path, others, len(prompts),
        )  # fmt: skip
    longest = generator.max_source_length
    cut = sum(generator.count_tokens(prompt) > longest for prompt in prompts)
    if cut:
        logger.warning(
            "%s: %d of %d prompts are cut to %d tokens", split.path, cut, len(prompts), longest
        )
