"""Draw training curves: of one run again, or of several runs that differ in their seed.

igrag curves prompt_tuning/checkpoints
igrag curves runs/seed0 runs/seed1 runs/seed2 --output seeds.png
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from igrag.cli import CommandParser, add_common_options, run_command
from igrag.errors import UsageError


def command(words: Sequence[str] | None = None) -> int:
    """Runs the command with the given words, else those typed; returns its exit code."""
    return run_command(parse_arguments, main, words)


def main(arguments: argparse.Namespace) -> int:
    """Draws the runs and returns the exit code."""
    from igrag.training.changes import refuse_other_training
    from igrag.training.checkpoints import CURVES_NAME, RESULTS_NAME
    from igrag.training.curves import draw_runs
    from igrag.training.record import TrainingRecord

    files = [path / RESULTS_NAME if path.is_dir() else path for path in arguments.runs]
    records = [TrainingRecord.read(file) for file in files]
    for file, record in zip(files[1:], records[1:], strict=True):
        refuse_other_training(file, record, files[0], records[0])
    output = arguments.output
    if output is None:
        if len(files) > 1:
            raise UsageError("--output: missing, expected a PNG file for the curves of all runs")
        output = files[0].parent / CURVES_NAME
    draw_runs(records, output)
    print(output)
    return 0


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = CommandParser(__doc__ or "")
    add = parser.add_argument
    add("runs", type=Path, nargs="+", metavar="RUN",
        help="output folder of a training, or its all_results.json")  # fmt: skip
    add("--output", type=Path, metavar="FILE",
        help="default for one run: training_curves.png in its folder")  # fmt: skip
    add_common_options(parser)
    return parser.parse_args(words)
