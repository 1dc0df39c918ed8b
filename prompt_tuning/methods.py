"""Soft prompt and LoRA on and off, around a model that is loaded once."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import GenerationConfig

from igrag.captioning.adapters import ADAPTER_WEIGHTS
from igrag.captioning.generator import GenerativeModel
from igrag.captioning.language_model import LanguageModel
from prompt_tuning.fingerprint import NO_ADAPTER, adapter_hash, fingerprint_of
from prompt_tuning.prompt_file import load_prompt
from prompt_tuning.prompt_tuner import PromptTuner

BASE, PROMPT, LORA, BOTH = "base", "prompt", "lora", "lora+prompt"
METHODS = (BASE, PROMPT, LORA, BOTH)
logger = logging.getLogger(__name__)


class WithoutAdapter:
    """Writes with the adapter switched off.

    Args:
        model: A PeftModel.
        writer: The model itself, or a PromptTuner around it.
    """

    def __init__(self, model: Any, writer: GenerativeModel) -> None:
        self._model = model
        self._writer = writer

    def generate(
        self, *, input_ids: Tensor, attention_mask: Tensor, generation_config: GenerationConfig
    ) -> Tensor:
        """Returns token ids [B, L] for ids and mask [B, T]."""
        try:
            with self._model.disable_adapter():
                return self._writer.generate(
                    input_ids=input_ids,
                    attention_mask=attention_mask,
                    generation_config=generation_config,
                )
        finally:
            self._model.requires_grad_(False)  # PEFT unfreezes an adapter that it switches on.


@dataclass(frozen=True, slots=True)
class Described:
    """What the configuration says of a prompt's file; a warning tells where the file differs.

    Attributes:
        path: The file that it describes, and no other.
        prompt_length: P.
        initialization: How its training began.
    """

    path: Path
    prompt_length: int
    initialization: str


def open_prompt(
    language: LanguageModel,
    path: Path,
    *,
    template: str,
    adapted: bool | None = None,
    described: Described | None = None,
) -> PromptTuner:
    """Puts the soft prompt of a file before the model, if it belongs there.

    Args:
        language: The model, with or without its adapter.
        path: prompt_embeddings.pt.
        template: The prompt template's fingerprint.
        adapted: Whether the prompt works on the adapted model; None: if there is an adapter.
        described: What the configuration says of a file; None: nothing.

    Raises:
        CheckpointError: The file is missing or damaged, or belongs to something else.
    """
    adapter = language.lora_path if adapted is None or adapted else None
    fingerprint = fingerprint_of(
        language.model,
        language.tokenizer,
        template=template,
        lora=adapter_hash(adapter) if adapter else NO_ADAPTER,
        weights=language.weights,
    )
    tuner = PromptTuner.from_file(language.model, language.tokenizer, path, fingerprint=fingerprint)
    if described is not None and described.path == path:
        _tell_contradictions(described, tuner)
    logger.info("%s: %d soft tokens before the source", path, tuner.prompt_length)
    return tuner.eval()


@dataclass(frozen=True, slots=True)
class Trained:
    """What there is to switch on.

    Attributes:
        prompt: File of a soft prompt for the base model, None where there is none.
        prompt_on_lora: The same for the adapted model.
        has_lora: Whether there is an adapter.
        refused: By method: why a prompt that lies there is not for it.
    """

    prompt: Path | None
    prompt_on_lora: Path | None
    has_lora: bool
    refused: dict[str, str] = field(default_factory=dict, compare=False)


def position(*, prompt: bool, lora: bool) -> str:
    """Names the method that two switches choose."""
    if prompt:
        return BOTH if lora else PROMPT
    return LORA if lora else BASE


def find_trained(prompt: Path, prompt_on_lora: Path, lora: Path) -> Trained:
    """Looks which of the files are there, and which model each prompt belongs to.

    Args:
        prompt: prompt_embeddings.pt for the base model.
        prompt_on_lora: The one for the adapted model; may be the same file.
        lora: The adapter's folder.

    Raises:
        CheckpointError: A file is damaged.
    """
    has_lora = (lora / ADAPTER_WEIGHTS).is_file()
    refused: dict[str, str] = {}
    adapters = {PROMPT: NO_ADAPTER} | ({BOTH: adapter_hash(lora)} if has_lora else {})
    found: dict[str, Path] = {}
    for method, path in ((PROMPT, prompt), (BOTH, prompt_on_lora)):
        if method not in adapters or not path.exists():
            continue
        reason = _why_not_for(path, adapters[method])
        if reason is None:
            found[method] = path
        else:
            refused[method] = reason
    return Trained(found.get(PROMPT), found.get(BOTH), has_lora=has_lora, refused=refused)


def open_methods(
    language: LanguageModel,
    trained: Trained,
    *,
    template: str,
    described: Described | None = None,
) -> dict[str, GenerativeModel]:
    """Makes a writer for each switch position that can be had.

    Args:
        language: The model, its adapter loaded but not merged, or without one.
        trained: What there is.
        template: The prompt template's fingerprint.
        described: See `open_prompt`.

    Returns:
        Writers by method, in the order of `METHODS`.

    Raises:
        CheckpointError: A prompt belongs to something else.
    """
    model: Any = language.model
    writers: dict[str, GenerativeModel] = {BASE: model}
    if trained.prompt is not None:
        writers[PROMPT] = open_prompt(
            language, trained.prompt, template=template, adapted=False, described=described
        )
    if language.lora_path is None:
        return writers
    writers = {name: WithoutAdapter(model, writer) for name, writer in writers.items()}
    writers[LORA] = model
    if trained.prompt_on_lora is not None:
        writers[BOTH] = open_prompt(
            language, trained.prompt_on_lora, template=template, adapted=True, described=described
        )
    return writers


def _tell_contradictions(described: Described, tuner: PromptTuner) -> None:
    for key in ("prompt_length", "initialization"):
        said, found = getattr(described, key), getattr(tuner, key)
        if said != found:
            logger.warning(
                "prompt_tuning.%s: the configuration says %s, but %s has %s; the file is used",
                key, said, described.path, found,
            )  # fmt: skip


def _why_not_for(path: Path, lora: str) -> str | None:
    """Tells why a prompt is not for this adapter; None if it is, or does not say it."""
    fingerprint = load_prompt(path).fingerprint
    if fingerprint is None or fingerprint.lora in (None, lora):
        return None
    if lora == NO_ADAPTER:
        return f"{path}: was trained on a LoRA adapter; train one without"
    if fingerprint.lora == NO_ADAPTER:
        return f"{path}: was trained without a LoRA adapter; train one on top of it"
    return f"{path}: was trained on another LoRA adapter; train it again on this one"
