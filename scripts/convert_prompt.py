"""Converts soft prompts to and from PEFT's prompt-tuning adapter format.

python scripts/convert_prompt.py --to-peft prompt_embeddings.pt --output FOLDER
python scripts/convert_prompt.py --from-peft FOLDER --output prompt_embeddings.pt
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# Python puts this script's folder on the path, not the repository's root.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from igrag.cli import run, setup_logging
from igrag.config import DEFAULT_CONFIG, Config, find_model
from igrag.errors import CheckpointError, UsageError


def main(arguments: argparse.Namespace) -> int:
    """Converts one prompt and returns the exit code."""
    config = Config.load(arguments.config)
    setup_logging(config.log_config.level, verbose=False)
    output = arguments.output
    if output.exists() and not arguments.force:
        raise UsageError(f"{output}: is there already; --force replaces it")
    if arguments.to_peft:
        to_peft(arguments.to_peft, output, find_model(config.models, arguments.model).path)
    else:
        from_peft(arguments.from_peft, output)
    print(f"{output}: written")
    return 0


def to_peft(path: Path, folder: Path, model: str) -> None:
    """Writes the prompt of a file as an adapter for `model`, whose width it must have."""
    from transformers import AutoConfig

    from igrag.language_model import load_tokenizer
    from prompt_tuning.peft_format import export_peft
    from prompt_tuning.prompt_file import load_prompt

    prompt = load_prompt(path)
    load_tokenizer(model)  # Names the model if it cannot be had.
    model_config = AutoConfig.from_pretrained(model)
    if prompt.embedding_dim != model_config.hidden_size:
        raise CheckpointError(
            f"{path}: found embeddings of width {prompt.embedding_dim}, expected "
            f"{model_config.hidden_size}, that of {model}; choose another --model"
        )
    export_peft(prompt, folder, base_model=model, model_config=model_config)


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
