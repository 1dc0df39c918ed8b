"""The methods base, prompt, lora and lora+prompt, around one model that is loaded once."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from igrag.captioning.adapters import find_adapter
from igrag.captioning.captioner import Captioner
from igrag.captioning.generator import GenerativeModel
from igrag.captioning.language_model import LanguageModel
from igrag.captioning.prompt_template import PromptTemplate
from igrag.config import Config, find_model
from igrag.errors import CheckpointError
from igrag.files import ADAPTER_WEIGHTS
from igrag.from_config import build_captioner, check_engine
from igrag.retrieval.image_encoder import EncoderIdentity
from igrag.retrieval.storage import read_encoder, read_manifest
from prompt_tuning.ensemble import PromptEnsemble
from prompt_tuning.fingerprint import NO_ADAPTER, adapter_hash, fingerprint_of
from prompt_tuning.prompt_file import find_prompt, load_prompt
from prompt_tuning.prompt_tuner import DEFAULT_NAME, PromptTuner
from prompt_tuning.without_adapter import WithoutAdapter

BASE, PROMPT, LORA, BOTH = "base", "prompt", "lora", "lora+prompt"
METHODS = (BASE, PROMPT, LORA, BOTH)
_ON_LORA = "prompt_tuning/config/on_lora.yaml"
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


@dataclass(frozen=True, slots=True)
class AvailablePrompts:
    """Which prompts can be used, with and without the LoRA adapter.

    Attributes:
        prompt: File of the prompt for the base model; None if there is none.
        prompt_on_lora: File of the prompt for the adapted model: one that was trained on top of
            the adapter, else the one for the base model.
        has_lora: Whether there is an adapter.
        notes: By method: why a prompt is not used, or that it was trained without the adapter.
    """

    prompt: Path | None
    prompt_on_lora: Path | None
    has_lora: bool
    notes: dict[str, str] = field(default_factory=dict, compare=False)


def method_name(*, prompt: bool, lora: bool) -> str:
    """Returns the method that two switches select."""
    if prompt:
        return BOTH if lora else PROMPT
    return LORA if lora else BASE


def configured_method(config: Config) -> str:
    """Returns the method that the configuration selects."""
    return method_name(prompt=config.prompt_tuning.enabled, lora=config.lora_config.enabled)


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
    named = {name: _checked_prompt(config, file) for name, file in (named or {}).items()}

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


def enabled_prompt(config: Config, *, warn: bool = True) -> Path | None:
    """Returns the prompt file to use, before any model is loaded; None if none is enabled.

    Args:
        config: The whole configuration.
        warn: Log where the prompt was trained without the adapter that is enabled, too.

    Raises:
        CheckpointError: It is missing or damaged, or was trained on another adapter.
    """
    prompts = config.prompt_tuning
    if not prompts.enabled:
        return None
    path = prompts.weights_path
    if config.lora_config.enabled:
        available = available_prompts(config)
        if available.prompt_on_lora is not None:
            path = available.prompt_on_lora
            if warn and BOTH in available.notes:
                logger.warning(available.notes[BOTH])
        elif available.has_lora and available.notes:
            raise CheckpointError("; ".join(dict.fromkeys(available.notes.values())))
    load_prompt(path)
    return path


def _checked_prompt(config: Config, path: Path) -> Path:
    """Returns a prompt's file, checked as that of the enabled prompt."""
    only = {"enabled": True, "weights_path": path, "weights_path_with_lora": None}
    prompts = config.prompt_tuning.model_copy(update=only)
    enabled_prompt(config.model_copy(update={"prompt_tuning": prompts}))
    return path


def available_prompts(config: Config) -> AvailablePrompts:
    """Looks up which of the configuration's prompts can be used."""
    prompts = config.prompt_tuning
    return find_prompts(
        prompts.file_for(lora=False),
        prompts.file_for(lora=True),
        config.lora_config.weights_path,
    )


def find_prompts(prompt: Path, prompt_on_lora: Path, lora: Path) -> AvailablePrompts:
    """Looks up which files exist, and which model each prompt was trained for.

    Prompt and adapter are independent: without a prompt that was trained on top of the adapter,
    the one for the base model is used with it.

    Args:
        prompt: prompt_embeddings.pt for the base model, or its hub id.
        prompt_on_lora: The one for the adapted model; may be the same file.
        lora: The adapter's folder or hub id.

    Raises:
        CheckpointError: A file is damaged.
    """
    notes: dict[str, str] = {}
    try:
        lora = find_adapter(lora)
    except CheckpointError as error:
        notes[LORA] = str(error)
    has_lora = (lora / ADAPTER_WEIGHTS).is_file()
    base_model_prompt = _usable(prompt, NO_ADAPTER, notes, PROMPT)
    adapted_prompt = None
    if has_lora:
        adapter = adapter_hash(lora)
        adapted_prompt = _usable(prompt_on_lora, adapter, notes, BOTH)
        if adapted_prompt is None and base_model_prompt is not None:
            adapted_prompt = base_model_prompt
            reason = f"{notes[BOTH]}; " if BOTH in notes else ""
            notes[BOTH] = reason + (
                f"{prompt}: was trained without the LoRA adapter that it is used with; train one "
                f"on top of it: python prompt_tuning/prompt_training.py --train --config {_ON_LORA}"
            )
    return AvailablePrompts(base_model_prompt, adapted_prompt, has_lora, notes)


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


def _usable(path: Path, lora: str, notes: dict[str, str], method: str) -> Path | None:
    """Returns the file if it exists and was trained with this adapter; else notes why not."""
    try:
        path = find_prompt(path)
    except CheckpointError as error:
        notes[method] = str(error)
        return None
    if not path.exists():
        return None
    fingerprint = load_prompt(path).fingerprint
    trained_with = fingerprint.lora if fingerprint else None
    if trained_with in (None, lora):
        return path
    if lora == NO_ADAPTER:
        notes[method] = f"{path}: was trained on a LoRA adapter; train one without"
    elif trained_with == NO_ADAPTER:
        notes[method] = f"{path}: was trained without a LoRA adapter; train one on top of it"
    else:
        notes[method] = f"{path}: was trained on another LoRA adapter; train it again on this one"
    return None
