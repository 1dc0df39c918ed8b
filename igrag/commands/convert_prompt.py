"""Convert soft prompts to and from PEFT's prompt-tuning adapter format.

python scripts/convert_prompt.py --to_peft prompt_embeddings.pt --output FOLDER
python scripts/convert_prompt.py --from_peft FOLDER --output prompt_embeddings.pt
"""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from igrag.cli import CommandParser, add_common_options, run_command, setup_logging
from igrag.config import DEFAULT_CONFIG, Config, find_model
from igrag.errors import UsageError
from igrag.output_lock import lock_beside

# The files of an adapter's folder; PEFT itself also writes a README.md.
_ADAPTER_FILES = {"adapter_config.json", "adapter_model.safetensors", "README.md"}
logger = logging.getLogger(__name__)


def command(words: Sequence[str] | None = None) -> int:
    """Runs the command with the given words, else those typed; returns its exit code."""
    return run_command(parse_arguments, main, words)


def main(arguments: argparse.Namespace) -> int:
    """Converts one prompt and returns the exit code."""
    config = Config.load(arguments.config)
    setup_logging(config.log_config.level, verbose=arguments.verbose)
    output, overwrite = arguments.output, arguments.overwrite_output_dir
    with lock_beside(output, option="--output"):
        _check_output(output, is_folder=arguments.to_peft is not None, overwrite=overwrite)
        if arguments.to_peft:
            _to_peft(arguments.to_peft, output, find_model(config.models, arguments.model).path)
        else:
            _from_peft(arguments.from_peft, output)
    print(f"{output}: written")
    return 0


def _check_output(path: Path, *, is_folder: bool, overwrite: bool) -> None:
    """Refuses to replace what is at the output, unless it is an earlier one and asked for.

    Raises:
        UsageError: Something is there that the user may want to keep.
    """
    if not path.exists():
        return
    if not overwrite:
        raise UsageError(f"{path}: exists already; --overwrite_output_dir replaces it")
    if path.is_dir() != is_folder:
        found = "a folder" if path.is_dir() else "a file"
        raise UsageError(
            f"{path}: is {found}, which --overwrite_output_dir does not replace; "
            "name another output"
        )
    # The whole folder goes, with whatever else it holds.
    foreign = sorted({e.name for e in path.iterdir()} - _ADAPTER_FILES) if is_folder else []
    if foreign:
        raise UsageError(
            f"{path}: holds {foreign[0]!r} next to an adapter, which would be lost; "
            "move it away, or name another output"
        )


def _to_peft(path: Path, folder: Path, model: str) -> None:
    """Writes the prompt of a file as an adapter for `model`, which it must belong to."""
    from igrag.captioning.language_model import embedding_weight, load_language_model
    from prompt_tuning.fingerprint import NO_ADAPTER, fingerprint_of
    from prompt_tuning.peft_format import export_peft
    from prompt_tuning.prompt_file import load_prompt

    load_prompt(path)  # A missing or damaged file is an error before the model is loaded.
    language = load_language_model(model, device="cpu")
    # PEFT's folder cannot record a LoRA adapter between the prompt and its model.
    marks = fingerprint_of(language.model, language.tokenizer, weights=language.weights)
    expected = replace(marks, lora=None)
    width = embedding_weight(language.model).shape[1]
    prompt = load_prompt(path, expected=expected, embedding_dim=width)
    if prompt.fingerprint is not None and prompt.fingerprint.lora not in (None, NO_ADAPTER):
        logger.warning("%s: was trained on a LoRA adapter; PEFT needs that one, too", path)
    export_peft(prompt, folder, base_model=model, model_config=language.model.config)


def _from_peft(folder: Path, path: Path) -> None:
    """Writes the prompt of an adapter's folder as a prompt file."""
    from igrag.captioning.adapters import find_adapter
    from prompt_tuning.peft_format import import_peft
    from prompt_tuning.prompt_file import save_prompt

    save_prompt(path, import_peft(find_adapter(folder)))


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    earlier = {"--force": "--overwrite_output_dir"}
    parser = CommandParser(__doc__ or "", earlier=earlier)
    source = parser.add_mutually_exclusive_group(required=True)
    add = source.add_argument
    add("--to_peft", type=Path, metavar="FILE", help="prompt_embeddings.pt, or its hub id")
    add("--from_peft", type=Path, metavar="FOLDER", help="PEFT's adapter, or its hub id")
    add = parser.add_argument
    add("--output", type=Path, required=True, metavar="PATH", help="the folder, or the file")
    add("--model", metavar="NAME|PATH", help="for --to_peft; default: the config's default model")
    add("--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE",
        help="default: configs/config.yaml")  # fmt: skip
    add("--overwrite_output_dir", action="store_true", help="replace an existing output")
    add_common_options(parser)
    return parser.parse_args(words)
