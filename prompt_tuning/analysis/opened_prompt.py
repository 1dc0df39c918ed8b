"""Opens a trained prompt with its model and validation examples, as its training did."""

import argparse
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from igrag.cli import add_common_options, add_config_options, config_overrides, setup_logging
from igrag.config import Config
from igrag.errors import UsageError
from igrag.files import exists
from igrag.output_lock import lock_folder
from prompt_tuning.settings import DEFAULT_SETTINGS, PromptTrainingSettings

if TYPE_CHECKING:  # torch and transformers take seconds to load: --help must not wait for them.
    from accelerate import Accelerator

    from igrag.captioning.language_model import LanguageModel
    from prompt_tuning.prompt_tuner import PromptTuner
    from prompt_tuning.validation import Validation


@dataclass(frozen=True, slots=True)
class OpenedPrompt:
    """A prompt with everything that it is measured with.

    Attributes:
        path: Its file.
        settings: Those of its training.
        config: The configuration of captioning.
        language: The frozen model.
        tuner: The model with the prompt prepended.
        accelerator: The device, and the precision of the training.
    """

    path: Path
    settings: PromptTrainingSettings
    config: Config
    language: "LanguageModel"
    tuner: "PromptTuner"
    accelerator: "Accelerator"

    def validation(self, examples: int) -> "Validation":
        """Returns the validation on the first examples of the settings' file."""
        from prompt_tuning.example_vectors import VAL, ExampleVectors
        from prompt_tuning.setup import build_validation
        from prompt_tuning.setup_examples import find_vectors_of, tokenize_examples

        file = self.settings.val_file
        dataset = tokenize_examples(self.settings, file, self.language.tokenizer)
        first = dataset.select(range(min(examples, len(dataset))))
        vectors: ExampleVectors = {}
        if self.tuner.encoder is not None:  # that of its image tokens
            files = {VAL: (file, first)}
            vectors = find_vectors_of(self.settings, self.config, files, encoder=self.tuner.encoder)
        return build_validation(self.settings, first, self.language, self.accelerator, vectors)


def add_options(parser: argparse.ArgumentParser, *, output: str) -> None:
    """Adds the options that the commands of this package share; see `load_settings`."""
    add = parser.add_argument
    add("--output", type=Path, required=True, metavar="FOLDER", help=output)
    add("--overwrite_output_dir", action="store_true",
        help="replace what an earlier call wrote there")  # fmt: skip
    add("--config", type=Path, default=DEFAULT_SETTINGS, metavar="FILE",
        help="the training's configuration: the model, the validation examples (default: "
        "prompt_tuning/config/prompt_tuning.yaml)")  # fmt: skip
    add_config_options(parser)
    add_common_options(parser)


def load_settings(arguments: argparse.Namespace) -> tuple[PromptTrainingSettings, Config]:
    """Loads the settings of the training and the configuration of captioning, and logs as it asks.

    Raises:
        ConfigError: One of them is wrong.
    """
    settings = PromptTrainingSettings.load(arguments.config, arguments.set)
    options = argparse.Namespace(set=[], device=arguments.device, dtype=arguments.dtype)
    config = Config.load(settings.model.main_config, config_overrides(options))
    log = config.log_config
    setup_logging(log.level, verbose=arguments.verbose, file=log.file)
    return settings, config


@contextmanager
def held_output(folder: Path, names: Collection[str], *, overwrite: bool) -> Iterator[None]:
    """Holds an output folder, which must not have files of these names yet.

    Args:
        folder: The folder.
        names: What is written there.
        overwrite: They may exist, and are replaced.

    Raises:
        UsageError: One of them exists.
        OutputError: Another process holds the folder.
    """
    with lock_folder(folder, option="--output"):
        found = [name for name in names if exists(folder / name)]
        if found and not overwrite:
            raise UsageError(
                f"{folder / found[0]}: exists already; --overwrite_output_dir replaces it"
            )
        yield


def open_prompt_file(path: Path, settings: PromptTrainingSettings, config: Config) -> OpenedPrompt:
    """Loads the frozen model and prepends the prompt, if it belongs to it.

    Args:
        path: prompt_embeddings.pt, or the folder or hub id that holds it.
        settings: Those of its training: which model, with which adapter.
        config: The configuration of captioning.

    Raises:
        IgragError: A part is missing or damaged, or belongs to something else.
    """
    from igrag.devices import tune_allocator
    from igrag.from_config import build_template
    from prompt_tuning import setup
    from prompt_tuning.fingerprint import NO_ADAPTER, adapter_hash
    from prompt_tuning.methods import open_prompt
    from prompt_tuning.prompt_file import load_prompt

    load_prompt(path)  # A missing or damaged file is an error before the model is loaded.
    tune_allocator()
    accelerator = setup.start_accelerator(settings, config.models.device)
    language = setup.load_frozen_model(settings, config, accelerator)
    adapter = language.lora_path
    tuner = open_prompt(
        language,
        path,
        template=build_template(config.prompt_config).fingerprint(),
        lora=adapter_hash(adapter) if adapter else NO_ADAPTER,
    )
    return OpenedPrompt(path, settings, config, language, tuner, accelerator)
