"""Every method and every soft prompt by name around one loaded model, for `igrag serve`.

Soft prompts of one batch may differ; the adapter is enabled or disabled for a whole batch. So there
are at most two models that generate: one without the adapter and one with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from igrag.captioning.captioner import Captioner
from igrag.captioning.generator import GenerativeModel
from igrag.captioning.language_model import LanguageModel
from igrag.captioning.prompt_template import PromptTemplate
from igrag.config import Config
from igrag.errors import CheckpointError
from igrag.from_config import build_captioner, require_torch
from igrag.retrieval.image_encoder import EncoderIdentity
from prompt_tuning.available_prompts import (
    AvailablePrompts,
    available_prompts,
    configured_method,
    enabled_prompt,
    find_prompts,
    method_name,
)
from prompt_tuning.fingerprint import NO_ADAPTER
from prompt_tuning.methods import knowledge_base_encoder, open_prompt
from prompt_tuning.prompt_file import load_prompt
from prompt_tuning.prompt_tuner import DEFAULT_NAME
from prompt_tuning.without_adapter import WithoutAdapter

# Name in the PromptTuner -> file.
PromptFiles = dict[str, Path]


@dataclass(frozen=True, slots=True)
class ServedMethods:
    """What a loaded model can caption with.

    Attributes:
        models: By whether the adapter is enabled, the model that generates.
        prompts: By whether the adapter is enabled, the names of the soft prompts that it has.
        notes: By method or name: why it is missing, or what to know about it.
    """

    models: Mapping[bool, GenerativeModel]
    prompts: Mapping[bool, tuple[str, ...]]
    notes: Mapping[str, str]

    @property
    def methods(self) -> dict[str, tuple[bool, str | None]]:
        """The methods that can be used: whether the adapter is enabled, and the soft prompt."""
        return {
            method_name(prompt=prompt is not None, lora=lora): (lora, prompt)
            for lora in self.models
            for prompt in (None, DEFAULT_NAME)
            if prompt is None or prompt in self.prompts[lora]
        }

    @property
    def names(self) -> dict[bool, list[str]]:
        """The soft prompts by name, by whether the adapter is enabled."""
        return {
            lora: [name for name in names if name != DEFAULT_NAME]
            for lora, names in self.prompts.items()
        }


def load_served_methods(config: Config, model_path: str) -> tuple[Captioner, ServedMethods]:
    """Loads the pipeline once, with every soft prompt of the configuration and the adapter.

    Args:
        config: The whole configuration; the method that it selects must be available.
        model_path: Folder or hub id of the language model.

    Raises:
        IgragError: A part is missing or damaged, or belongs to something else.
    """
    require_torch(config)
    enabled_prompt(config, warn=False)
    available = available_prompts(config)
    notes = dict(available.notes)
    has_lora = available.has_lora or config.lora_config.enabled
    files = {lora: _prompt_files(config, available, notes, lora=lora) for lora in _flags(has_lora)}
    models: dict[bool, GenerativeModel] = {}

    def choose_model(language: LanguageModel, template: PromptTemplate) -> GenerativeModel:
        encoder = knowledge_base_encoder(config)
        for lora, names in files.items():
            models[lora] = _open_model(
                language, names, template=template.fingerprint(), lora=lora, encoder=encoder
            )
        if config.prompt_tuning.enabled and DEFAULT_NAME not in files[config.lora_config.enabled]:
            raise CheckpointError(notes[configured_method(config)])
        return models[config.lora_config.enabled]

    # The adapter stays unmerged, so that it can be disabled and enabled.
    unmerged = {"enabled": has_lora, "merge_and_unload": False}
    captioner = build_captioner(
        config.model_copy(update={"lora_config": config.lora_config.model_copy(update=unmerged)}),
        model_path,
        choose_model=choose_model,
    )
    prompts = {lora: tuple(names) for lora, names in files.items()}
    return captioner, ServedMethods(models, prompts, notes)


def _flags(has_lora: bool) -> tuple[bool, ...]:
    return (False, True) if has_lora else (False,)


def _prompt_files(
    config: Config, available: AvailablePrompts, notes: dict[str, str], *, lora: bool
) -> PromptFiles:
    """Lists the soft prompts that can be used with or without the adapter; notes are added."""
    chosen = available.prompt_on_lora if lora else available.prompt
    files = {} if chosen is None else {DEFAULT_NAME: chosen}
    for name, path in config.prompt_tuning.prompts.items():
        load_prompt(path)  # One that is missing is an error, though nobody may ask for it.
        found = find_prompts(path, path, config.lora_config.weights_path)
        usable = found.prompt_on_lora if lora else found.prompt
        if usable is not None:
            files[name] = usable
        elif found.prompt is None and found.prompt_on_lora is None:
            notes[name] = "; ".join(found.notes.values())
    return files


def _open_model(
    language: LanguageModel,
    files: PromptFiles,
    *,
    template: str,
    lora: bool,
    encoder: EncoderIdentity,
) -> GenerativeModel:
    """Returns the model with or without the adapter, all soft prompts loaded."""
    # The library's base class does not declare `generate`.
    model = cast(GenerativeModel, language.model)
    if files:
        tuner = open_prompt(
            language,
            next(iter(files.values())),
            template=template,
            lora=None if lora else NO_ADAPTER,
            encoder=encoder,
        )
        for name, path in files.items():
            if name != DEFAULT_NAME:
                tuner.load_prompt(path, name)
        model = tuner
    if lora or language.lora_path is None:
        return model
    return WithoutAdapter(language.model, model, language.base_weights)
