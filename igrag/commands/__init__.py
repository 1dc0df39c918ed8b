"""The installed command `igrag`: one subcommand for each typed script, imported when it is run."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from igrag.cli import CommandParser, add_version_option, completed_subcommand, quiet_start

# Each module has `command(words) -> exit code`.
SUBCOMMANDS = {
    "caption": ("igrag.commands.caption", "caption images"),
    "train-prompt": ("prompt_tuning.prompt_training", "train a soft prompt"),
    "train-lora": ("lora_training.train_lora", "build training data, and train a LoRA adapter"),
    "build-data": ("lora_training.data_builder", "build training data from captioned images"),
    "build-knowledge-base": (
        "igrag.commands.build_knowledge_base",
        "encode captioned images for retrieval",
    ),
    "index": ("igrag.commands.index", "make a knowledge base fast to search"),
    "evaluate": ("evaluation.run_evaluation", "compare methods on a split, with a report"),
    "sweep": ("prompt_tuning.sweep.run_sweep", "search the settings of prompt tuning"),
    "explain": ("prompt_tuning.analysis.explain", "look into a soft prompt, token by token"),
    "prune": ("prompt_tuning.analysis.prune", "shorten a soft prompt"),
    "average": ("prompt_tuning.analysis.average", "average several soft prompts"),
    "export": (
        "prompt_tuning.export.run_export",
        "export a soft prompt with its model, for other runtimes",
    ),
    "curves": ("igrag.commands.curves", "draw the training curves of one or several runs"),
    "convert-prompt": (
        "igrag.commands.convert_prompt",
        "convert soft prompts to and from PEFT's format",
    ),
    "push": ("igrag.commands.push", "upload a soft prompt or a LoRA adapter to the hub"),
    "app": ("igrag.commands.app", "open a page to try captions in the browser"),
    "serve": ("igrag.commands.serve", "caption images that programs send over HTTP"),
    "doctor": ("igrag.commands.doctor", "show versions, devices, precision and optional parts"),
}


def main(words: Sequence[str] | None = None) -> int:
    """Runs the subcommand that is named first, with the words after it, and returns its code."""
    quiet_start()  # before the imports that take a while
    words = sys.argv[1:] if words is None else words
    # Everything after the name is the subcommand's, --help included.
    name = completed_subcommand(SUBCOMMANDS) or _parse(words[:1]).subcommand
    sys.argv[0] = f"igrag {name}"  # as usage lines show it
    command = import_module(SUBCOMMANDS[name][0]).command
    code: int = command(words[1:])
    return code


def _parse(words: Sequence[str]) -> argparse.Namespace:
    width = max(map(len, SUBCOMMANDS))
    listed = "\n".join(f"  {name:<{width}}  {text}" for name, (_, text) in SUBCOMMANDS.items())
    parser = CommandParser(
        f"Image captions by retrieval, with soft prompts and LoRA.\n\n{listed}",
        prog="igrag",
        epilog="igrag SUBCOMMAND --help shows the options of one.",
    )
    parser.add_argument("subcommand", choices=list(SUBCOMMANDS), metavar="SUBCOMMAND")
    add_version_option(parser)
    return parser.parse_args(words)
