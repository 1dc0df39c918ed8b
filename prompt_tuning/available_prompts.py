"""The methods base, prompt, lora and lora+prompt, and which files of the configuration they use."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

from igrag.captioning.adapters import find_adapter
from igrag.config import Config
from igrag.errors import CheckpointError
from igrag.files import ADAPTER_WEIGHTS
from prompt_tuning.fingerprint import NO_ADAPTER, adapter_hash
from prompt_tuning.prompt_file import find_prompt, load_prompt

BASE, PROMPT, LORA, BOTH = "base", "prompt", "lora", "lora+prompt"
METHODS = (BASE, PROMPT, LORA, BOTH)
_ON_LORA = "prompt_tuning/config/on_lora.yaml"
logger = logging.getLogger(__name__)


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


def checked_prompt(config: Config, path: Path) -> Path:
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
