"""Loads the captioner with what the configuration switches on: the border of the config."""

from igrag.captioning.captioner import Captioner
from igrag.captioning.generator import GenerativeModel
from igrag.captioning.language_model import LanguageModel
from igrag.captioning.prompt_template import PromptTemplate
from igrag.config import Config, PromptTuningConfig
from igrag.errors import CheckpointError
from igrag.from_config import build_captioner
from prompt_tuning.methods import (
    METHODS,
    Described,
    find_trained,
    open_methods,
    open_prompt,
    position,
)
from prompt_tuning.prompt_file import load_prompt


def load_captioner(config: Config, model_path: str) -> Captioner:
    """Loads the pipeline, behind a soft prompt where one is enabled.

    Args:
        config: The whole configuration.
        model_path: Folder or hub id of the language model.

    Raises:
        IgragError: A part is missing or damaged, or belongs to something else.
    """
    prompts = config.prompt_tuning
    path = prompts.file_for(lora=config.lora_config.enabled)

    def choose_model(language: LanguageModel, template: PromptTemplate) -> GenerativeModel | None:
        if not prompts.enabled:
            return None
        return open_prompt(
            language, path, template=template.fingerprint(), described=_described(prompts)
        )

    _check_enabled_prompt(config)
    return build_captioner(config, model_path, choose_model=choose_model)


def load_comparison(
    config: Config, model_path: str
) -> tuple[Captioner, dict[str, GenerativeModel], list[str]]:
    """Loads the pipeline once for every method that is trained.

    Args:
        config: The whole configuration; what it switches on must be there, and writes.
        model_path: Folder or hub id of the language model.

    Returns:
        The captioner, a writer for each method, and what the user should know of the others.

    Raises:
        IgragError: A part is missing or damaged, or belongs to something else.
    """
    prompts, lora = config.prompt_tuning, config.lora_config
    _check_enabled_prompt(config)
    trained = find_trained(
        prompts.file_for(lora=False), prompts.file_for(lora=True), lora.weights_path
    )
    chosen = chosen_method(config)
    methods: dict[str, GenerativeModel] = {}

    def choose_model(language: LanguageModel, template: PromptTemplate) -> GenerativeModel:
        methods.update(
            open_methods(
                language, trained, template=template.fingerprint(), described=_described(prompts)
            )
        )
        if chosen not in methods:
            raise CheckpointError(trained.refused[chosen])
        return methods[chosen]

    # The adapter stays beside the weights, to be switched off and on.
    adapted = {"enabled": trained.has_lora or lora.enabled, "merge_and_unload": False}
    captioner = build_captioner(
        config.model_copy(update={"lora_config": lora.model_copy(update=adapted)}),
        model_path,
        choose_model=choose_model,
    )
    notes = [f"{name}: {reason}" for name, reason in trained.refused.items()]
    missing = [name for name in METHODS if name not in {*methods, *trained.refused}]
    if missing:
        notes.append(f"not trained: {', '.join(missing)}")
    return captioner, methods, notes


def chosen_method(config: Config) -> str:
    """Names the method that the configuration switches on."""
    return position(prompt=config.prompt_tuning.enabled, lora=config.lora_config.enabled)


def _described(prompts: PromptTuningConfig) -> Described:
    # The two keys describe weights_path, not the file for an adapted model.
    return Described(prompts.weights_path, prompts.prompt_length, prompts.initialization)


def _check_enabled_prompt(config: Config) -> None:
    """A missing or damaged file is told before the models are loaded."""
    if config.prompt_tuning.enabled:
        load_prompt(config.prompt_tuning.file_for(lora=config.lora_config.enabled))
