"""Search the settings of prompt tuning with Optuna.

igrag sweep --config sweep.yaml --output_dir runs/sweep --trials 50 --minutes 120 --jobs 2

The same command continues an interrupted sweep; started several times, it runs trials side by
side. --set changes the training configuration of every trial. Settings are chosen by the BLEU-4 of
the validation examples, never on a test split.
"""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from igrag.cli import (
    CommandParser,
    add_common_options,
    add_config_options,
    at_least,
    run_command,
    setup_logging,
)
from igrag.config import Config, find_model
from igrag.errors import UsageError


def command(words: Sequence[str] | None = None) -> int:
    """Runs the command with the given words, else those typed; returns its exit code."""
    return run_command(parse_arguments, main, words)


def main(arguments: argparse.Namespace) -> int:
    """Runs the sweep, writes its results, and returns the exit code."""
    from prompt_tuning.sweep.settings import load_sweep

    sweep = load_sweep(arguments.config, arguments.set, trials=arguments.trials)
    config = Config.load(sweep.training.model.main_config)
    find_model(config.models, sweep.training.model.name, option="model.name")
    if importlib.util.find_spec("optuna") is None:
        raise UsageError(
            'igrag sweep needs Optuna, which is not installed; pip install "optuna>=5,<6"'
        )
    setup_logging(config.log_config.level, verbose=arguments.verbose)

    from prompt_tuning.sweep.results import save_results, table_text
    from prompt_tuning.sweep.runs import describe_training
    from prompt_tuning.sweep.study import SweepStudy
    from prompt_tuning.sweep.trials import run_trials

    description = {
        "search_space": sweep.settings.to_plain(include={"search_space"})["search_space"],
        "training": describe_training(sweep.training),
    }
    study = SweepStudy(arguments.output_dir, sweep, description)
    options = _training_options(arguments)
    try:
        run_trials(study, sweep, jobs=arguments.jobs, minutes=arguments.minutes, options=options)
    finally:  # What there is can be looked at, however the sweep ended.
        files = save_results(study, sweep)
    print(table_text(study))
    print("\n".join(map(str, files)))
    return 0


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    from prompt_tuning.sweep.settings import DEFAULT_OUTPUT, DEFAULT_SWEEP

    parser = CommandParser(__doc__ or "")
    add = parser.add_argument
    add("--config", type=Path, default=DEFAULT_SWEEP, metavar="FILE",
        help="the search space; default: prompt_tuning/sweep/sweep.yaml")  # fmt: skip
    add("--output_dir", type=Path, default=DEFAULT_OUTPUT, metavar="FOLDER",
        help="for study and results; default: prompt_tuning/checkpoints/sweep")  # fmt: skip
    add("--trials", type=at_least(1), metavar="N",
        help="trials of the study, earlier calls included; default: as the file")  # fmt: skip
    add("--minutes", type=float, metavar="N",
        help="time budget; trials that are not finished continue with the next call")  # fmt: skip
    add("--jobs", type=at_least(1), default=1, metavar="N", help="trainings at a time; default: 1")
    add_config_options(parser)
    add_common_options(parser)
    return parser.parse_args(words)


def _training_options(arguments: argparse.Namespace) -> list[str]:
    pairs = {"--device": arguments.device, "--dtype": arguments.dtype}
    return [word for name, value in pairs.items() if value for word in (name, value)]


if __name__ == "__main__":
    sys.exit(command())
