"""A model for each method and prompt, around one language model that is loaded once."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from igrag.captioning.captioner import Captioner
from igrag.captioning.generator import GenerativeModel
from igrag.captioning.language_model import LanguageModel
from igrag.captioning.prompt_template import PromptTemplate
from igrag.config import Config, find_model
from igrag.errors import CheckpointError
from igrag.from_config import build_captioner, check_engine
from igrag.retrieval.image_encoder import EncoderIdentity
from igrag.retrieval.storage import read_encoder, read_manifest
from prompt_tuning.available_prompts import (
    BASE,
    BOTH,
    LORA,
    METHODS,
    PROMPT,
    AvailablePrompts,
    available_prompts,
    checked_prompt,
    configured_method,
    enabled_prompt,
)
from prompt_tuning.ensemble import PromptEnsemble
from prompt_tuning.fingerprint import NO_ADAPTER, fingerprint_of
from prompt_tuning.prompt_tuner import DEFAULT_NAME, PromptTuner
from prompt_tuning.without_adapter import WithoutAdapter

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConfiguredPrompt:
    """What the configuration states about a prompt file; differences are logged.

    Attributes:
        path: The file that it describes, and no other.
        prompt_length: P.
        initialization: How the prompt was initialized.
    """

    path: Path
    prompt_length: int
    initialization: str


def load_captioner(
    config: Config, model_path: str | None = None, *, named: Mapping[str, Path] | None = None
) -> Captioner:
    """Loads the pipeline, with a soft prompt where one is enabled.

    Examples:
        >>> from igrag import Config, open_image
        >>> captioner = load_captioner(Config.load())
        >>> result = captioner.caption([open_image("input/802.jpg")])[0]
        >>> result.caption, result.prompt, result.matches

    Args:
        config: The whole configuration.
        model_path: Folder or hub id of the language model; None: the configuration's default.
        named: Files of more soft prompts by name, for `Captioner.caption_with_prompts`; it takes
            them under these names, and what the configuration enables as `name_in_tuner`.

    Raises:
        IgragError: A part is missing or damaged, or belongs to something else.
    """
    check_engine(config)
    path = enabled_prompt(config)
    named = {name: checked_prompt(config, file) for name, file in (named or {}).items()}

    def choose_model(language: LanguageModel, template: PromptTemplate) -> GenerativeModel | None:
        files = [path] if path is not None else [*named.values()]
        if not files:
            return None
        tuner = open_prompt(
            language,
            files[0],
            template=template.fingerprint(),
            lora=None if config.lora_config.enabled else NO_ADAPTER,
            configured=_configured(config),
            encoder=knowledge_base_encoder(config),
        )
        for name, file in named.items():
            tuner.load_prompt(file, name)
        return tuner

    path_or_id = model_path or find_model(config.models, None).path
    return build_captioner(config, path_or_id, choose_model=choose_model)


def name_in_tuner(config: Config, name: str | None) -> str | None:
    """Returns what a PromptTuner calls a prompt; None, what is enabled, may be no prompt at all."""
    return DEFAULT_NAME if name is None and config.prompt_tuning.enabled else name


def load_comparison(
    config: Config, model_path: str
) -> tuple[Captioner, dict[str, GenerativeModel], list[str]]:
    """Loads the pipeline once for every method that is trained.

    Args:
        config: The whole configuration; the method that it selects must be available.
        model_path: Folder or hub id of the language model.

    Returns:
        The captioner, a model for each method, and notes on the methods for the user.

    Raises:
        IgragError: A part is missing or damaged, or belongs to something else.
    """
    enabled_prompt(config, warn=False)
    available = available_prompts(config)
    selected = configured_method(config)
    methods: dict[str, GenerativeModel] = {}

    def choose_model(language: LanguageModel, template: PromptTemplate) -> GenerativeModel:
        methods.update(
            open_methods(
                language,
                available,
                template=template.fingerprint(),
                configured=_configured(config),
                encoder=knowledge_base_encoder(config),
            )
        )
        if selected not in methods:
            raise CheckpointError(available.notes[selected])
        return methods[selected]

    # The adapter stays unmerged, so that it can be disabled and enabled.
    lora = config.lora_config
    unmerged = {"enabled": available.has_lora or lora.enabled, "merge_and_unload": False}
    captioner = build_captioner(
        config.model_copy(update={"lora_config": lora.model_copy(update=unmerged)}),
        model_path,
        choose_model=choose_model,
    )
    notes = [f"{name}: {note}" for name, note in available.notes.items()]
    missing = [name for name in METHODS if name not in {*methods, *available.notes}]
    if missing:
        notes.append(f"not trained: {', '.join(missing)}")
    return captioner, methods, notes


def knowledge_base_encoder(config: Config) -> EncoderIdentity:
    """Returns what the knowledge base is encoded with, and so the query images, too.

    Raises:
        KnowledgeBaseError: It is missing or damaged.
    """
    path = config.knowledge_base_config.path
    return read_encoder(path, read_manifest(path))


def open_methods(
    language: LanguageModel,
    available: AvailablePrompts,
    *,
    template: str,
    configured: ConfiguredPrompt | None = None,
    encoder: EncoderIdentity | None = None,
) -> dict[str, GenerativeModel]:
    """Returns a model for each available method.

    Args:
        language: The model, its adapter loaded but not merged, or without one.
        available: The prompts.
        template: The prompt template's fingerprint.
        configured: See `open_prompt`.
        encoder: See `open_prompt`.

    Returns:
        Models by method, in the order of `METHODS`.

    Raises:
        CheckpointError: A prompt belongs to something else.
    """
    model: Any = language.model
    methods: dict[str, GenerativeModel] = {BASE: model}
    if available.prompt is not None:
        methods[PROMPT] = open_prompt(
            language,
            available.prompt,
            template=template,
            lora=NO_ADAPTER,
            configured=configured,
            encoder=encoder,
        )
    if language.lora_path is None:
        return methods
    base = language.base_weights
    methods = {name: WithoutAdapter(model, each, base) for name, each in methods.items()}
    methods[LORA] = model
    if available.prompt_on_lora is not None:
        methods[BOTH] = open_prompt(
            language,
            available.prompt_on_lora,
            template=template,
            lora=None,
            configured=configured,
            encoder=encoder,
        )
    return methods


def open_prompt(
    language: LanguageModel,
    path: Path,
    *,
    template: str,
    lora: str | None,
    configured: ConfiguredPrompt | None = None,
    encoder: EncoderIdentity | None = None,
) -> PromptTuner:
    """Prepends the prompt of a file to the model, if it belongs to it.

    Args:
        language: The model, with or without its adapter.
        path: prompt_embeddings.pt.
        template: The prompt template's fingerprint.
        lora: `adapter_hash` of the adapter that it must have been trained on, or `NO_ADAPTER`;
            None takes any: `find_prompts` has looked at it.
        configured: What the configuration states about a file; None: nothing.
        encoder: What makes the vectors of images; None takes any.

    Raises:
        CheckpointError: The file is missing or damaged, or belongs to something else.
    """
    fingerprint = fingerprint_of(
        language.model,
        language.tokenizer,
        template=template,
        lora=lora or NO_ADAPTER,
        weights=language.weights,
    )
    if lora is None:
        fingerprint = replace(fingerprint, lora=None)
    tuner = PromptTuner.from_pretrained(
        language.model, path, fingerprint=fingerprint, encoder=encoder
    )
    if configured is not None and configured.path == path:
        _log_differences(configured, tuner)
    logger.info("%s: %d soft tokens prepended", path, tuner.prompt_length)
    if tuner.image_prompt is not None:
        logger.info("%s: and %d of each image", path, tuner.image_prompt.image_tokens)
    return tuner.eval()


def open_ensemble(
    language: LanguageModel, paths: Sequence[Path], *, template: str, on_lora: bool
) -> GenerativeModel:
    """Returns the model with several prompts whose logits are averaged.

    Args:
        language: The model, its adapter loaded but not merged, or without one.
        paths: Files of the prompts.
        template: The prompt template's fingerprint.
        on_lora: The prompts are used with the adapter; otherwise it is disabled.

    Raises:
        CheckpointError: A prompt belongs to something else.
    """
    tuner = open_prompt(language, paths[0], template=template, lora=None if on_lora else NO_ADAPTER)
    names = [DEFAULT_NAME, *map(str, range(1, len(paths)))]
    for name, path in zip(names[1:], paths[1:], strict=True):
        tuner.load_prompt(path, name)
    ensemble = PromptEnsemble(tuner, names)
    if language.lora_path is None or on_lora:
        return ensemble
    return WithoutAdapter(language.model, ensemble, language.base_weights)


def _configured(config: Config) -> ConfiguredPrompt:
    # The two keys describe weights_path, not the file for an adapted model.
    prompts = config.prompt_tuning
    return ConfiguredPrompt(prompts.weights_path, prompts.prompt_length, prompts.initialization)


def _log_differences(configured: ConfiguredPrompt, tuner: PromptTuner) -> None:
    for key in ("prompt_length", "initialization"):
        expected, found = getattr(configured, key), getattr(tuner, key)
        if expected != found:
            logger.warning(
                "prompt_tuning.%s: the configuration has %s, but %s has %s; the file is used",
                key, expected, configured.path, found,
            )  # fmt: skip
