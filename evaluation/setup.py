"""From the configuration to captions: the only module of the evaluation that reads its keys."""

import logging
from collections.abc import Sequence
from typing import Any

from evaluation.captioning import GeneratedCaptions, build_prompts, generate_captions
from evaluation.dataset import EvaluationDataset
from evaluation.methods import Method, TrainedPaths, method_files, open_models
from evaluation.overwrite_guard import evaluation_identity
from igrag import from_config
from igrag.captioning.generator import CaptionGenerator
from igrag.captioning.prompt_template import PromptTemplate
from igrag.captioning.retrieval_prompts import RetrievalPrompts
from igrag.config import Config, portable
from igrag.devices import tune_allocator

logger = logging.getLogger(__name__)


def trained_paths(config: Config) -> TrainedPaths:
    """Returns the paths of the soft prompts and the adapter."""
    prompts = config.prompt_tuning
    return TrainedPaths(
        prompt=prompts.file_for(lora=False),
        prompt_on_lora=prompts.file_for(lora=True),
        lora=config.lora_config.weights_path,
    )


def config_identity(
    config: Config, model_path: str, methods: Sequence[Method], dataset: EvaluationDataset
) -> dict[str, Any]:
    """Returns what the captions depend on, see `evaluation.overwrite_guard.evaluation_identity`."""
    settings: dict[str, Any] = {
        "dtype": config.models.dtype,
        "max_source_length": config.models.max_source_length,
    }
    if not dataset.prompts:
        settings |= {
            "top_k": config.retrieval_config.top_k,
            "encoder": portable(config.retrieval_config.encoder),
            "knowledge_base": portable(config.knowledge_base_config.path),
            "prompts": config.prompt_config.to_plain(),
        }
    return evaluation_identity(
        dataset,
        model=model_path,
        decoding=config.generation_config.model_dump(mode="json"),
        settings=settings,
        files=method_files(methods, trained_paths(config)),
    )


def caption_dataset(
    config: Config, model_path: str, methods: Sequence[Method], dataset: EvaluationDataset
) -> dict[str, GeneratedCaptions]:
    """Captions all images by all methods, loading the model once.

    Args:
        config: The configuration of captioning.
        model_path: Folder or hub id of the language model.
        methods: The methods to compare.
        dataset: The images; if they have no prompts, retrieval builds them.

    Returns:
        The captions by method.

    Raises:
        IgragError: A part is missing or damaged, or an image cannot be opened.
    """
    tune_allocator()
    template = from_config.build_template(config.prompt_config)
    # Before the model: the knowledge base is missing more often, and opens faster.
    retrieval = None if dataset.prompts else _open_retrieval(config, template)
    adapted = any(method.needs_adapter for method in methods)
    lora = config.lora_config.model_copy(update={"enabled": adapted, "merge_and_unload": False})
    language = from_config.load_language(
        config.model_copy(update={"lora_config": lora}), model_path
    )
    generator = from_config.build_generator(config, language)
    models = open_models(language, methods, template=template.fingerprint())
    if retrieval is None:
        prompts = dataset.prompts
        _check_prompts(dataset, template, generator)
    else:
        batch_size = config.retrieval_config.batch_size
        prompts = build_prompts(retrieval, dataset.images, generator, batch_size=batch_size)
    return generate_captions(generator, models, prompts)


def _open_retrieval(config: Config, template: PromptTemplate) -> RetrievalPrompts:
    encoder, knowledge_base = from_config.open_retrieval(config)
    return RetrievalPrompts(
        encoder,
        knowledge_base,
        template,
        top_k=config.retrieval_config.top_k,
        detector=from_config.build_detector(config.prompt_config.objects, config.models.device),
    )


def _check_prompts(
    dataset: EvaluationDataset, template: PromptTemplate, generator: CaptionGenerator
) -> None:
    """Warns about prompts that captioning would not have built."""
    prompts, path = dataset.prompts, dataset.path
    others = sum(not template.fits(prompt) for prompt in prompts)
    if others:
        logger.warning(
            "%s: %d of %d prompts were not made with the template of the configuration",
            path, others, len(prompts),
        )  # fmt: skip
    longest = generator.max_source_length
    truncated = sum(generator.count_tokens(prompt) > longest for prompt in prompts)
    if truncated:
        logger.warning(
            "%s: %d of %d prompts are truncated to %d tokens",
            path, truncated, len(prompts), longest,
        )  # fmt: skip
