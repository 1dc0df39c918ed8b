"""Builds the parts of the pipeline from the configuration; the parts take plain arguments."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from igrag.captioning.captioner import Captioner
from igrag.captioning.generator import CaptionGenerator, Decoding, GenerativeModel
from igrag.captioning.language_model import LanguageModel, load_language_model
from igrag.captioning.objects import Detector, InstancesDetector, ModelDetector
from igrag.captioning.prompt_template import PromptTemplate
from igrag.config import Config, ObjectsConfig, PromptConfig
from igrag.errors import ConfigError
from igrag.processes import Ranks
from igrag.retrieval.image_encoder import ImageEncoder
from igrag.retrieval.knowledge_base import KnowledgeBase
from igrag.retrieval.text_encoder import TextEncoder

logger = logging.getLogger(__name__)


def for_process(config: Config, ranks: Ranks) -> Config:
    """Returns the configuration with the process's own GPU, where a machine has several."""
    models = config.models.model_copy(update={"device": ranks.device(config.models.device)})
    return config.model_copy(update={"models": models})


def build_captioner(
    config: Config,
    model_path: str,
    *,
    choose_model: Callable[[LanguageModel, PromptTemplate], GenerativeModel | None] | None = None,
) -> Captioner:
    """Loads everything the pipeline needs; cheap checks come before the models.

    Args:
        config: The whole configuration.
        model_path: Folder or hub id of the language model.
        choose_model: Prepends a soft prompt to the loaded model, or returns None for the model as
            it is. This package does not know how.

    Raises:
        ConfigError: Keys that contradict one another.
        IgragError: A part is missing or damaged.
    """
    template = build_template(config.prompt_config)
    if config.prompt_tuning.enabled and choose_model is None:
        raise ConfigError("prompt_tuning.enabled: found true, expected `choose_model` to load it")
    detector = build_detector(config.prompt_config.objects, config.models.device)
    encoder, knowledge_base = open_retrieval(config)
    if config.models.engine == "ctranslate2":
        generator = load_exported_generator(config, model_path, template)
    else:
        language = load_language(config, model_path)
        generator = build_generator(config, language)
        if choose_model is not None:
            generator.switch_to(choose_model(language, template))
    return Captioner(
        encoder,
        knowledge_base,
        template,
        generator,
        top_k=config.retrieval_config.top_k,
        detector=detector,
    )


def build_template(prompts: PromptConfig) -> PromptTemplate:
    """Makes the prompt template."""
    return PromptTemplate(
        prompts.template,
        instruction=prompts.instruction,
        caption_line=prompts.caption_line,
        captions_per_match=prompts.captions_per_match,
        object_heading=prompts.objects.heading,
        object_line=prompts.objects.line,
        object_source=describe_objects(prompts.objects),
    )


def open_retrieval(config: Config) -> tuple[ImageEncoder, KnowledgeBase]:
    """Opens the knowledge base together with the encoder it was made with."""
    # The knowledge base is the likelier to be missing and the quicker to open.
    knowledge_base = open_knowledge_base(config)
    encoder = load_image_encoder(config)
    knowledge_base.check_encoder(encoder.identity)
    logger.info("%s: %d images, encoded with %s", knowledge_base.path, len(knowledge_base),
                config.retrieval_config.encoder)  # fmt: skip
    return encoder, knowledge_base


def open_knowledge_base(config: Config) -> KnowledgeBase:
    """Opens the knowledge base with its index; see `KnowledgeBase.open`.

    Raises:
        KnowledgeBaseError: It is missing or damaged.
        UsageError: What the index needs is not installed.
    """
    wanted = config.knowledge_base_config
    return KnowledgeBase.open(wanted.path, index=wanted.index, milvus_uri=wanted.milvus_uri)


def load_image_encoder(config: Config) -> ImageEncoder:
    """Loads the image tower of the encoder.

    Raises:
        ModelError: It is missing or damaged, or not a CLIP model's.
    """
    return ImageEncoder(
        config.retrieval_config.encoder,
        device=config.models.device,
        dtype=config.retrieval_config.encoder_dtype,
    )


def load_text_encoder(config: Config) -> TextEncoder:
    """Loads the text tower of the encoder, for CLIPScore.

    Raises:
        ModelError: It has none, or it is damaged.
    """
    return TextEncoder(config.retrieval_config.encoder, device=config.models.device)


def load_language(config: Config, model_path: str) -> LanguageModel:
    """Loads the language model in torch, with the LoRA adapter where one is enabled.

    Raises:
        ConfigError: The configuration selects another engine.
        IgragError: The model or the adapter is missing or damaged.
    """
    require_torch(config)
    lora = config.lora_config
    language = load_language_model(
        model_path,
        device=config.models.device,
        dtype=config.models.dtype,
        attn_implementation=config.models.attn_implementation,
        lora_path=lora.weights_path if lora.enabled else None,
        merge_lora=lora.merge_and_unload,
    )
    model = language.model
    adapter = f", with {language.lora_path}" if language.lora_path else ""
    logger.info("%s: %s on %s%s", model_path, model.dtype, model.device, adapter)
    return language


def require_torch(config: Config) -> None:
    """Checks that the configuration selects no other engine.

    Raises:
        ConfigError: It does.
    """
    if config.models.engine != "torch":
        raise ConfigError(
            f"model_config.engine: found {config.models.engine}, which main.py alone can use, "
            "expected torch"
        )


def check_engine(config: Config) -> None:
    """Checks that no soft prompt or adapter is enabled in addition to an exported model's own.

    Raises:
        ConfigError: One is.
    """
    if config.models.engine == "torch":
        return
    for section, enabled in (("prompt_tuning", config.prompt_tuning.enabled),
                             ("lora_config", config.lora_config.enabled)):  # fmt: skip
        if enabled:
            raise ConfigError(
                f"{section}.enabled: found true with model_config.engine: ctranslate2, expected "
                "false: an exported model has its soft prompt and adapter already"
            )


def load_exported_generator(
    config: Config, folder: str, template: PromptTemplate
) -> CaptionGenerator:
    """Opens a model that igrag export has made, in CTranslate2.

    Raises:
        ConfigError: A soft prompt or an adapter is enabled, too.
        IgragError: The folder is missing or damaged, or CTranslate2 is not installed.
    """
    from igrag.captioning.ctranslate2_model import load_ctranslate2

    check_engine(config)
    language, exported = load_ctranslate2(
        folder, template=template.fingerprint(), device=config.models.device
    )
    logger.info("%s: %s with %d soft tokens, in CTranslate2", folder, exported.base_model,
                exported.prompt_length)  # fmt: skip
    longest = config.models.max_source_length + exported.prompt_length
    return build_generator(config, language, max_source_length=longest)


def build_generator(
    config: Config, language: LanguageModel, *, max_source_length: int | None = None
) -> CaptionGenerator:
    """Makes the generator around a loaded model.

    Args:
        config: The whole configuration.
        language: The model.
        max_source_length: Longest input in tokens; None: the configuration's.
    """
    options = config.generation_config.model_dump(exclude={"batch_size", "seed"})
    return CaptionGenerator(
        language.model,
        language.tokenizer,
        decoding=Decoding(**options),
        max_source_length=max_source_length or config.models.max_source_length,
        batch_size=config.generation_config.batch_size,
        seed=config.generation_config.seed,
    )


def describe_objects(objects: ObjectsConfig) -> dict[str, Any] | None:
    """Returns how objects are found, without paths of this machine; None when they are off.

    The instances file is not part of it: train and val images have one each.
    """
    if objects.source == "none":
        return None
    if objects.source == "instances" or objects.detector is None:
        return {"source": objects.source}
    folder = Path(objects.detector)
    name = folder.name if folder.is_absolute() else objects.detector
    return {"source": objects.source, "detector": name, "threshold": objects.threshold}


def build_detector(objects: ObjectsConfig, device: str) -> Detector | None:
    """Makes the detector of the objects block, None when it is off."""
    if objects.source == "instances":
        assert objects.instances_path is not None  # the schema checks it
        return InstancesDetector(objects.instances_path)
    if objects.source == "detector":
        from igrag.devices import resolve_device

        assert objects.detector is not None  # the schema checks it
        torch_device = str(resolve_device(device))
        return ModelDetector(objects.detector, device=torch_device, threshold=objects.threshold)
    return None
