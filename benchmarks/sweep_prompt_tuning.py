"""Trains soft prompts with other settings and prints what they bring: a row for each, three seeds.

python benchmarks/sweep_prompt_tuning.py [--seeds 0 1 2] [--rows 0 1 ...] [--jobs 2] [--output DIR]

A run that is already in the output folder is not repeated, so an interrupted sweep goes on; with
other settings, data or models it is another run. The output folder also has the curves of each
row, its seeds as a band.

These rows compare fixed settings. A search for data of your own is igrag sweep, here too:
python benchmarks/sweep_prompt_tuning.py --config prompt_tuning/sweep/sweep.yaml
"""

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

_ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(_ROOT))

from igrag.errors import IgragError
from igrag.training.curves import draw_runs
from igrag.training.record import TrainingRecord
from prompt_tuning.settings import DEFAULT_SETTINGS, PromptTrainingSettings
from prompt_tuning.sweep import run_sweep
from prompt_tuning.sweep.runs import TrainingProcess, describe_training, read_record

_POLL = 0.2  # seconds
Settings = Mapping[str, object]

# One epoch in most rows, so that the whole takes an hour; a row changes that in one thing.
COMMON: Settings = {"training.num_train_epochs": 1}
ROWS: dict[str, Settings] = {
    "the shipped YAML, 1 epoch": {},
    "the defaults (3 epochs of 16 x 8, learning rate 0.03)": {
        "training.num_train_epochs": 3,
        "training.gradient_accumulation_steps": 8,
        "training.learning_rate": 0.03,
    },
    "1 epoch, learning rate 0.03": {"training.learning_rate": 0.03},
    "1 epoch, learning rate 0.1": {"training.learning_rate": 0.1},
    "1 epoch, learning rate 0.3": {"training.learning_rate": 0.3},
    "1 epoch, initialization text": {"prompt_tuning.initialization": "text"},
    "1 epoch, initialization vocab": {"prompt_tuning.initialization": "vocab"},
    "1 epoch, prompt_length 5": {"prompt_tuning.prompt_length": 5},
    "1 epoch, prompt_length 50": {"prompt_tuning.prompt_length": 50},
    "1 epoch, residual": {"prompt_tuning.reparameterization": "residual"},
    "1 epoch, superpos": {"prompt_tuning.reparameterization": "superpos"},
    "the shipped YAML, 3 epochs": {"training.num_train_epochs": 3},
    "the shipped YAML, 2 epochs": {"training.num_train_epochs": 2},
    "1 epoch, learning rate 0.6": {"training.learning_rate": 0.6},
}


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        number: Index of its row in the table.
        seed: Its seed.
        more: --set options of every run.
    """

    number: int
    seed: int
    more: tuple[str, ...]

    def overrides(self) -> list[str]:
        """Lists its settings as --set takes them, those of the command line last."""
        settings = {**COMMON, **list(ROWS.values())[self.number], "training.seed": self.seed}
        # One validation, at the end: what a run brings is not chosen among many.
        settings["evaluation.eval_steps"] = 1_000_000
        return [*(f"{key}={value}" for key, value in settings.items()), *self.more]

    def folder(self, output: Path) -> Path:
        """Names its folder by everything that decides its result."""
        settings = PromptTrainingSettings.load(DEFAULT_SETTINGS, self.overrides())
        text = json.dumps(describe_training(settings), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return output / f"{self.number:02}-{self.seed}-{digest[:12]}"


def main(words: Sequence[str] | None = None) -> int:
    """Runs what is missing and prints the table."""
    words = sys.argv[1:] if words is None else words
    if any(word.partition("=")[0] == "--config" for word in words):
        return run_sweep.command(words)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--rows", type=int, nargs="+", default=range(len(ROWS)), choices=range(len(ROWS)))
    add("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="for every run")
    add("--jobs", type=int, default=2, help="trainings at once, one thread each")
    add("--output", type=Path, default=Path(tempfile.gettempdir()) / "igrag_sweep")
    add("--config", metavar="FILE", help="a search space: igrag sweep, with its options")
    arguments = parser.parse_args(words)
    more = tuple(arguments.set)
    runs = [Run(number, seed, more) for number in arguments.rows for seed in arguments.seeds]
    found = train_all(runs, arguments.output, jobs=arguments.jobs)
    print("| setting | steps | val BLEU-4: mean (lowest to highest) | gain |")
    print("|---|---|---|---|")
    for number in arguments.rows:
        records = [found[run] for run in runs if run.number == number and run in found]
        print(_row(list(ROWS)[number], records))
        if records:
            draw_runs(records, arguments.output / f"{number:02}.png")
    return int(len(found) < len(runs))


def train_all(runs: Sequence[Run], output: Path, *, jobs: int) -> dict[Run, TrainingRecord]:
    """Makes the runs that are not there yet, several at a time.

    Returns:
        The record of each run; a run that failed is reported, and has none.
    """
    found: dict[Run, TrainingRecord] = {}
    waiting, running = list(runs), dict[Run, TrainingProcess]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                run = waiting.pop(0)
                try:
                    folder = run.folder(output)
                    record = _finished(folder)
                    if record is None:
                        running[run] = _start(run, folder)
                    else:
                        found[run] = record
                except (IgragError, OSError) as error:
                    _report(run, str(error))
            time.sleep(_POLL if running else 0)
            for run, process in list(running.items()):
                if process.poll() is None:
                    continue
                del running[run]
                record = _finished(process.folder) if process.poll() == 0 else None
                if record:
                    found[run] = record
                else:
                    _report(run, process.failure())
                process.stop()
    finally:
        for process in running.values():
            process.stop()
    return found


def _start(run: Run, folder: Path) -> TrainingProcess:
    words = [word for pair in run.overrides() for word in ("--set", pair)]
    return TrainingProcess(folder, words, threads=1)


def _finished(folder: Path) -> TrainingRecord | None:
    """Returns the record of a run that has come to its end, which is its only validation."""
    record = read_record(folder)
    return record if record and record.best else None


def _report(run: Run, message: str) -> None:
    print(f"row {run.number}, seed {run.seed}: {message}", file=sys.stderr)


def _row(name: str, records: Sequence[TrainingRecord]) -> str:
    best = [record.best for record in records if record.best]
    if not best:
        return f"| {name} | - | failed | - |"
    scores = [evaluation.bleu4 for evaluation in best]
    untuned = [record.untuned.bleu4 for record in records if record.untuned]
    return (
        f"| {name} | {best[0].step} | {mean(scores):.3f} ({min(scores):.3f} to "
        f"{max(scores):.3f}) | {mean(scores) - mean(untuned):+.3f} |"
    )


if __name__ == "__main__":
    sys.exit(main())
