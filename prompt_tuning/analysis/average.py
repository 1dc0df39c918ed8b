"""Average soft prompts: the mean of prompts that started from the same initial prompt.

igrag average runs/seed0/best_model runs/seed1/best_model --output averaged
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from igrag.cli import CommandParser, add_common_options, run_command, setup_logging
from igrag.errors import CheckpointError, UsageError
from prompt_tuning.analysis.opened_prompt import held_output

if TYPE_CHECKING:
    from prompt_tuning.prompt_file import PromptFile


def command(words: Sequence[str] | None = None) -> int:
    """Runs the command with the given words, else those typed; returns its exit code."""
    return run_command(parse_arguments, main, words)


def main(arguments: argparse.Namespace) -> int:
    """Writes the mean of the prompts and returns the exit code."""
    from prompt_tuning.prompt_file import PROMPT_NAME, save_prompt

    setup_logging("warning", verbose=arguments.verbose)
    if len(arguments.prompts) < 2:
        raise UsageError("found one prompt, expected two or more to average")
    output = arguments.output / PROMPT_NAME
    overwrite = arguments.overwrite_output_dir
    with held_output(arguments.output, [PROMPT_NAME], overwrite=overwrite):
        save_prompt(output, average_prompts(arguments.prompts))
    print(output)
    return 0


def average_prompts(paths: Sequence[Path]) -> "PromptFile":
    """Returns the mean of prompts.

    Args:
        paths: Their files, or the folders that hold them.

    Raises:
        CheckpointError: One is missing or damaged, has another shape, or belongs to another model,
            tokenizer, template or adapter.
    """
    import torch

    from prompt_tuning.prompt_file import PromptFile, load_prompt

    first = load_prompt(paths[0])
    prompts = [first, *(load_prompt(path, expected=first.fingerprint) for path in paths[1:])]
    for path, prompt in zip(paths, prompts, strict=True):
        if prompt.image_prompt is not None:
            raise CheckpointError(
                f"{path}: has image tokens, which have no mean; combine such prompts by "
                "run_evaluation.py --ensemble"
            )
        if prompt.embeddings.shape != first.embeddings.shape:
            found, expected = list(prompt.embeddings.shape), list(first.embeddings.shape)
            raise CheckpointError(
                f"{path}: found shape {found}, expected {expected} as in {paths[0]}; prompts of "
                "different lengths are combined by run_evaluation.py --ensemble"
            )
    # In float64: the mean does not depend on the order of the files.
    mean = torch.stack([prompt.embeddings.double() for prompt in prompts]).mean(dim=0)
    initializations = dict.fromkeys(prompt.initialization for prompt in prompts)
    return PromptFile(mean.float(), " + ".join(initializations), first.fingerprint)


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = CommandParser(__doc__ or "")
    add = parser.add_argument
    add("prompts", type=Path, nargs="+", metavar="PROMPT",
        help="prompt_embeddings.pt, a folder that holds it, or its hub id")  # fmt: skip
    add("--output", type=Path, required=True, metavar="FOLDER",
        help="where prompt_embeddings.pt is written")  # fmt: skip
    add("--overwrite_output_dir", action="store_true", help="replace an existing output")
    add_common_options(parser)
    return parser.parse_args(words)
