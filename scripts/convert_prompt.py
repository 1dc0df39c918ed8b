"""Converts soft prompts to and from PEFT's prompt-tuning adapter format.

python scripts/convert_prompt.py --to-peft prompt_embeddings.pt --output FOLDER
python scripts/convert_prompt.py --from-peft FOLDER --output prompt_embeddings.pt
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

# Python puts this script's folder on the path, not the repository's root.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from igrag.cli import quiet_start, run, setup_logging

if __name__ == "__main__":
    quiet_start()  # before the imports that take a while

from igrag.config import DEFAULT_CONFIG, Config, find_model
from igrag.errors import UsageError

# What an adapter's folder holds; PEFT itself also writes a README.md.
ADAPTER_FILES = {"adapter_config.json", "adapter_model.safetensors", "README.md"}
logger = logging.getLogger("scripts.convert_prompt")


def main(arguments: argparse.Namespace) -> int:
    """Converts one prompt and returns the exit code."""
    config = Config.load(arguments.config)
    setup_logging(config.log_config.level, verbose=False)
    output = arguments.output
    check_output(output, is_folder=arguments.to_peft is not None, force=arguments.force)
    if arguments.to_peft:
        to_peft(arguments.to_peft, output, find_model(config.models, arguments.model).path)
    else:
        from_peft(arguments.from_peft, output)
    print(f"{output}: written")
    return 0


def check_output(path: Path, *, is_folder: bool, force: bool) -> None:
    """Refuses to replace what stands at the output, unless it is one of a kind and asked for.

    Raises:
        UsageError: Something is there that the user may want to keep.
    """
    if not path.exists():
        return
    if not force:
        raise UsageError(f"{path}: is there already; --force replaces it")
    if path.is_dir() != is_folder:
        kind = "a folder" if path.is_dir() else "a file"
        raise UsageError(f"{path}: is {kind}, which --force does not replace; name another output")
    # The whole folder goes, with whatever else it holds.
    if is_folder and (foreign := sorted({entry.name for entry in path.iterdir()} - ADAPTER_FILES)):
        raise UsageError(
            f"{path}: holds {foreign[0]!r} beside an adapter, which would be lost; "
            "move it away, or name another output"
        )


def to_peft(path: Path, folder: Path, model: str) -> None:
    """Writes the prompt of a file as an adapter for `model`, which it must belong to."""
    from igrag.captioning.language_model import load_language_model
    from prompt_tuning.fingerprint import NO_ADAPTER, fingerprint_of
    from prompt_tuning.peft_format import export_peft
    from prompt_tuning.prompt_file import load_prompt

    load_prompt(path)  # A missing or damaged file is told before the model is loaded.
    language = load_language_model(model, device="cpu")
    # Whether there is a LoRA adapter between them is not for the folder to say.
    marks = fingerprint_of(language.model, language.tokenizer, weights=language.weights)
    expected = replace(marks, lora=None)
    width = language.model.get_input_embeddings().weight.shape[1]
    prompt = load_prompt(path, expected=expected, embedding_dim=width)
    if prompt.fingerprint is not None and prompt.fingerprint.lora not in (None, NO_ADAPTER):
        logger.warning("%s: was trained on a LoRA adapter; PEFT needs that one beside it", path)
    export_peft(prompt, folder, base_model=model, model_config=language.model.config)


def from_peft(folder: Path, path: Path) -> None:
    """Writes the prompt of an adapter's folder as a prompt file."""
    from prompt_tuning.peft_format import import_peft
    from prompt_tuning.prompt_file import save_prompt

    save_prompt(path, import_peft(folder))


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="convert_prompt.py", description="Convert soft prompts to and from PEFT's format."
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--to-peft", type=Path, metavar="FILE", help="prompt_embeddings.pt")
    source.add_argument("--from-peft", type=Path, metavar="FOLDER", help="PEFT's adapter")
    add = parser.add_argument
    add("--output", type=Path, required=True, metavar="PATH", help="the folder, or the file")
    add("--model", metavar="NAME|PATH", help="for --to-peft; default: the config's default model")
    add("--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE")
    add("--force", action="store_true", help="replace what stands at --output")
    add("--debug", action="store_true", help="show tracebacks")
    return parser.parse_args(words)


if __name__ == "__main__":
    arguments = parse_arguments()
    sys.exit(run(lambda: main(arguments), debug=arguments.debug))
