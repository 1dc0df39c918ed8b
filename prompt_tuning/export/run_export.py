"""Export a soft prompt with its model, for runtimes that take no soft prompt.

igrag export prompt_tuning/checkpoints/best_model --format transformers --output exported
igrag export prompt_tuning/checkpoints/best_model --format ctranslate2 --output fast

The soft tokens become special tokens of the model, and its tokenizer puts them before each text.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from igrag.captioning.exported_model import EXPORT_NAME, ExportedModel
from igrag.cli import (
    CommandParser,
    add_common_options,
    add_config_options,
    at_least,
    config_overrides,
    run_command,
    setup_logging,
)
from igrag.config import DEFAULT_CONFIG, Config, find_model, portable
from igrag.errors import CheckpointError, UsageError
from igrag.files import atomic_directory, exists, is_file
from igrag.output_lock import lock_beside
from prompt_tuning.settings import DEFAULT_SETTINGS, PromptTrainingSettings

if TYPE_CHECKING:  # torch and transformers take seconds to load: --help must not wait for them.
    from igrag.captioning.language_model import LanguageModel
    from prompt_tuning.export.comparison import Sample
    from prompt_tuning.prompt_tuner import PromptTuner

_FORMATS = ("transformers", "ctranslate2", "onnx")
_QUANTIZATIONS = ("float32", "int8")
_README = "README.md"
_TEXT = "The text that the model was trained for"  # in the lines that run the export


def command(words: Sequence[str] | None = None) -> int:
    """Runs the command with the given words, else those typed; returns its exit code."""
    return run_command(parse_arguments, main, words)


def main(arguments: argparse.Namespace) -> int:
    """Exports one prompt, once it generates what it did before, and returns the exit code."""
    config = Config.load(arguments.config, config_overrides(arguments))
    log = config.log_config
    setup_logging(log.level, verbose=arguments.verbose, file=log.file)
    # After the log is set up: transformers reads its verbosity when it is imported.
    from prompt_tuning.export.comparison import Sample
    from prompt_tuning.export.exporter import check_format

    check_format(arguments.format, arguments.quantization)
    _check_prompt(arguments.prompt)
    output: Path = arguments.output
    with lock_beside(output, option="--output"):
        _check_output(output, overwrite=arguments.overwrite_output_dir)
        examples = arguments.examples or PromptTrainingSettings.load(DEFAULT_SETTINGS, []).val_file
        sample = Sample.read(examples, arguments.samples)
        language, tuner = _open_model(arguments, config)
        exported = _describe(arguments, config, language, tuner)
        with atomic_directory(output) as folder:
            result = _export(exported, language, tuner, sample, folder, arguments)
    print(f"{result}\n\n{output}: written; it runs by")
    print(f"\n{_lines(exported, str(output))}", end="")
    if exported.format == "ctranslate2":
        print(f"\nor by\n\npython main.py --i IMAGE --engine ctranslate2 --model {output}")
    return 0


def _check_prompt(path: Path) -> None:
    """Checks the prompt's file before the model is loaded.

    Raises:
        CheckpointError: It is missing or damaged, or depends on the image.
    """
    from prompt_tuning.prompt_file import load_prompt

    image_prompt = load_prompt(path).image_prompt
    if image_prompt is not None:
        raise CheckpointError(
            f"{path}: found {image_prompt.image_tokens} soft tokens that are made of each image's "
            "vector, which no fixed tokens of a model can be; expected a prompt trained with "
            "prompt_tuning.image_tokens: 0; this one works in main.py (model_config.engine: torch)"
        )


def _check_output(path: Path, *, overwrite: bool) -> None:
    """Refuses to replace what is at the output, unless it is an earlier export and asked for.

    Raises:
        UsageError: Something is there that the user may want to keep.
    """
    if not exists(path):
        return
    if not overwrite:
        raise UsageError(f"{path}: exists already; --overwrite_output_dir replaces it")
    if not is_file(path / EXPORT_NAME):
        raise UsageError(
            f"{path}: has no {EXPORT_NAME}, so that it is no export, which alone "
            "--overwrite_output_dir replaces; name another output"
        )


def _open_model(
    arguments: argparse.Namespace, config: Config
) -> "tuple[LanguageModel, PromptTuner]":
    """Loads the model in float32 on the CPU, merges the adapter, and prepends the prompt.

    Raises:
        IgragError: A part is missing or damaged, belongs to something else, or cannot be merged.
    """
    from igrag.captioning.adapters import find_adapter
    from igrag.captioning.language_model import load_language_model
    from igrag.devices import tune_allocator
    from igrag.from_config import build_template
    from prompt_tuning.fingerprint import NO_ADAPTER, adapter_hash
    from prompt_tuning.methods import open_prompt

    tune_allocator()
    lora: Path | None = None if arguments.lora is None else find_adapter(arguments.lora)
    adapter = NO_ADAPTER if lora is None else adapter_hash(lora)
    name = find_model(config.models, arguments.model).path
    language = load_language_model(name, device="cpu", dtype="float32", lora_path=lora)
    if hasattr(language.model, "peft_config"):
        raise CheckpointError(
            f"{lora}: cannot be merged into {name}, as an export needs it; expected an adapter "
            "without lora_bias, on layers that share no weights"
        )
    template = build_template(config.prompt_config).fingerprint()
    return language, open_prompt(language, arguments.prompt, template=template, lora=adapter)


def _describe(
    arguments: argparse.Namespace,
    config: Config,
    language: "LanguageModel",
    tuner: "PromptTuner",
) -> ExportedModel:
    from prompt_tuning.prompt_file import load_prompt

    marks = load_prompt(arguments.prompt).fingerprint
    return ExportedModel(
        format=arguments.format,
        quantization=arguments.quantization,
        prompt_length=tuner.prompt_length,
        max_source_length=config.models.max_source_length + tuner.prompt_length,
        base_model=portable(language.name),
        lora=language.lora_path is not None,
        template=None if marks is None else marks.template,
        decoding=config.generation_config.model_dump(exclude={"batch_size", "seed"}),
    )


def _export(
    exported: ExportedModel,
    language: "LanguageModel",
    tuner: "PromptTuner",
    sample: "Sample",
    folder: Path,
    arguments: argparse.Namespace,
) -> str:
    """Writes the folder and its README; returns the result of the comparison in words."""
    from prompt_tuning.export.exporter import export_model
    from prompt_tuning.export.readme import readme, table

    before, after = export_model(tuner, language.tokenizer, exported, folder, sample=sample)
    result = table(exported, before, after)
    text = readme(exported, _lines(exported, arguments.output.name), result)
    (folder / _README).write_text(text, encoding="utf-8")
    return result


def _lines(exported: ExportedModel, folder: str) -> str:
    from prompt_tuning.export.readme import lines_for

    return lines_for(exported, folder, _TEXT)


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = CommandParser(__doc__ or "")
    add = parser.add_argument
    add("prompt", type=Path, metavar="PROMPT",
        help="prompt_embeddings.pt, a folder that holds it, or its hub id")  # fmt: skip
    add("--format", required=True, choices=_FORMATS, help="what the folder is for")
    add("--output", type=Path, required=True, metavar="FOLDER", help="where it goes")
    add("--overwrite_output_dir", action="store_true", help="replace an earlier export")
    add("--lora", type=Path, metavar="FOLDER",
        help="the LoRA adapter that the prompt was trained on (or its hub id), merged")  # fmt: skip
    add("--quantization", choices=_QUANTIZATIONS, default="float32",
        help="of the weights, for ctranslate2 (default: %(default)s)")  # fmt: skip
    add("--model", metavar="NAME|PATH", help="default: the config's default model")
    add("--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE",
        help="its decoding is exported, too; default: configs/config.yaml")  # fmt: skip
    add("--examples", type=Path, metavar="FILE",
        help="JSONL of examples to compare on; default: prompt tuning's val_file")  # fmt: skip
    add("--samples", type=at_least(1), default=40, metavar="N",
        help="how many of them (default: %(default)s)")  # fmt: skip
    add_config_options(parser, dtype=False)
    add_common_options(parser)
    return parser.parse_args(words)
