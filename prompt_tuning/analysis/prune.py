"""Shorten a soft prompt: drop the soft tokens that matter least, and retrain it if asked.

igrag prune prompt_tuning/checkpoints/best_model --to 10 --output pruned
igrag prune prompt_tuning/checkpoints/best_model --to 10 --output pruned --retrain 50
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from igrag.cli import CommandParser, at_least, run_command
from igrag.config import Config, portable, quote
from igrag.errors import UsageError
from igrag.files import atomic_path
from igrag.processes import Ranks
from igrag.training.summary import aligned
from prompt_tuning.analysis.opened_prompt import (
    OpenedPrompt,
    add_options,
    held_output,
    load_settings,
    open_prompt_file,
)
from prompt_tuning.settings import PromptTrainingSettings

if TYPE_CHECKING:  # torch and transformers take seconds to load: --help must not wait for them.
    from prompt_tuning.analysis.ablation import PromptScore, PromptScorer, PruningStep

JSON_NAME, CHART_NAME = "pruning.json", "pruning.png"
PROMPT_NAME, RETRAINED = "prompt_embeddings.pt", "retrained"
_EXAMPLES = 100  # Greedy pruning from P to N costs (P - N)(P + N + 1) / 2 passes over them.


def command(words: Sequence[str] | None = None) -> int:
    """Runs the command with the given words, else those typed; returns its exit code."""
    return run_command(parse_arguments, main, words)


def main(arguments: argparse.Namespace) -> int:
    """Writes the shorter prompt with the curve of its quality, and returns the exit code."""
    settings, config = load_settings(arguments)
    # After the log is set up: transformers reads its verbosity when it is imported.
    from prompt_tuning.prompt_file import load_prompt

    names = [PROMPT_NAME, JSON_NAME, CHART_NAME, *([RETRAINED] if arguments.retrain else [])]
    output: Path = arguments.output
    prompt = load_prompt(arguments.prompt)
    length = prompt.prompt_length
    if arguments.retrain and prompt.image_prompt is not None:
        raise UsageError(
            f"--retrain: {arguments.prompt} has image tokens, which a new training would draw "
            "again; expected a prompt without"
        )
    if arguments.to >= length:
        raise UsageError(f"--to {arguments.to}: expected fewer than the {length} of the prompt")
    with held_output(output, names, overwrite=arguments.overwrite_output_dir):
        opened = open_prompt_file(arguments.prompt, settings, config)
        prune(opened, arguments, config)
    for name in names:
        print(output / name)
    return 0


def prune(opened: OpenedPrompt, arguments: argparse.Namespace, config: Config) -> None:
    """Prunes, retrains if asked, prints the table, and writes everything."""
    from dataclasses import replace

    from igrag.files import write_json
    from prompt_tuning.analysis.ablation import PromptScorer, pruning_path
    from prompt_tuning.analysis.charts import draw_pruning
    from prompt_tuning.prompt_file import load_prompt, save_prompt

    output: Path = arguments.output
    scorer = PromptScorer(opened.tuner, opened.validation(arguments.examples))
    steps = pruning_path(scorer, arguments.to, greedy=not arguments.one_shot)
    scores = [score_of(scorer, step) for step in steps]
    shorter = scorer.prompt[list(steps[-1].kept)]
    save_prompt(output / PROMPT_NAME, replace(load_prompt(opened.path), embeddings=shorter))
    retrained = None
    if arguments.retrain:
        best = retrain(arguments, config, output / PROMPT_NAME)
        retrained = scorer.score_file(load_prompt(best), title="retrained")
        with atomic_path(output / PROMPT_NAME) as temporary:
            shutil.copyfile(best, temporary)
    content = _describe(opened, arguments, steps, scores, retrained)
    print(_table(content))
    write_json(output / JSON_NAME, content)
    draw_pruning(
        [(len(step.kept), score) for step, score in zip(steps, scores, strict=True)],
        output / CHART_NAME,
        title=f"Soft prompt pruned from {len(scorer.prompt)} to {arguments.to} tokens",
        subtitle=f"{content['order']}, {arguments.examples} validation examples at most",
        retrained=None if retrained is None else (arguments.to, retrained),
    )


def score_of(scorer: "PromptScorer", step: "PruningStep") -> "PromptScore":
    """Returns the score of one length."""
    return scorer.score(step.kept, title=f"{len(step.kept)} soft tokens")


def retrain(arguments: argparse.Namespace, config: Config, prompt: Path) -> Path:
    """Trains from the shorter prompt with the training's own settings.

    Returns:
        The file of the best prompt, by validation BLEU-4 as in every training.
    """
    from prompt_tuning.prompt_training import lock_training, train

    keys = {
        "prompt_tuning.enabled": "true",
        "prompt_tuning.initialization": "file",
        "prompt_tuning.init_file": quote(str(prompt.absolute())),
        "prompt_tuning.prompt_length": str(arguments.to),
        "prompt_tuning.reparameterization": "none",
        "prompt_tuning.weights_path": "null",
        "output.output_dir": quote(str((arguments.output / RETRAINED).absolute())),
        "training.max_steps": str(arguments.retrain),
        # An epoch has a step at least.
        "training.num_train_epochs": str(arguments.retrain),
    }
    settings = PromptTrainingSettings.load(
        arguments.config, [*arguments.set, *(f"{key}={value}" for key, value in keys.items())]
    )
    with lock_training(settings, Ranks.from_environment()):
        train(settings, config, overwrite=arguments.overwrite_output_dir)
    return settings.best_prompt


def _describe(
    opened: OpenedPrompt,
    arguments: argparse.Namespace,
    steps: "Sequence[PruningStep]",
    scores: "Sequence[PromptScore]",
    retrained: "PromptScore | None",
) -> dict[str, Any]:
    """Returns the result as JSON data; soft tokens are numbered from 1, as in explained.json."""
    lengths = [
        {
            "prompt_length": len(step.kept),
            "dropped": None if step.dropped is None else step.dropped + 1,
            "loss": score.loss,
            "bleu_4": score.bleu_4,
        }
        for step, score in zip(steps, scores, strict=True)
    ]
    content: dict[str, Any] = {
        "prompt": portable(opened.path),
        "model": portable(opened.language.name),
        "val_file": portable(opened.settings.val_file),
        "examples": arguments.examples,
        "order": "one-shot" if arguments.one_shot else "greedy",
        "kept": [index + 1 for index in steps[-1].kept],
        "lengths": lengths,
    }
    if retrained is not None:
        content["retrained"] = {
            "steps": arguments.retrain, "loss": retrained.loss, "bleu_4": retrained.bleu_4,
        }  # fmt: skip
    return content


def _table(content: dict[str, Any]) -> str:
    rows = [["soft tokens", "dropped", "val loss", "BLEU-4"]]
    for each in content["lengths"]:
        dropped = "" if each["dropped"] is None else str(each["dropped"])
        rows.append(_row(str(each["prompt_length"]), dropped, each))
    if "retrained" in content:
        after = content["retrained"]
        rows.append(_row(rows[-1][0], f"retrained, {after['steps']} steps", after))
    return aligned(rows)


def _row(length: str, dropped: str, scores: dict[str, Any]) -> list[str]:
    return [length, dropped, f"{scores['loss']:.4f}", f"{scores['bleu_4']:.4f}"]


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = CommandParser(__doc__ or "")
    add = parser.add_argument
    add("prompt", type=Path, metavar="PROMPT",
        help="prompt_embeddings.pt, a folder that holds it, or its hub id")  # fmt: skip
    add("--to", type=at_least(1), required=True, metavar="N", help="soft tokens to keep")
    add("--one_shot", action="store_true",
        help="measure once what the prompt loses without each soft token; default: again after "
        "each one that is dropped (greedy)")  # fmt: skip
    add("--examples", type=at_least(1), default=_EXAMPLES, metavar="N",
        help="validation examples to measure on (default: %(default)s)")  # fmt: skip
    add("--retrain", type=at_least(1), metavar="STEPS",
        help="train the shorter prompt for so many optimizer steps, into retrained/")  # fmt: skip
    add_options(parser, output="where prompt_embeddings.pt, pruning.json and pruning.png go")
    return parser.parse_args(words)
