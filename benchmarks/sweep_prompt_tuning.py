"""Trains soft prompts with other settings and prints what they bring: a row for each, three seeds.

python benchmarks/sweep_prompt_tuning.py [--seeds 0 1 2] [--rows 0 1 ...] [--jobs 2] [--output DIR]

A run that is already in the output folder is not repeated, so an interrupted sweep goes on; with
other settings, data or models it is another run. The rows on LoRA need the adapter:
python lora_training/train_lora.py --all
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(_ROOT))

from igrag.config import Config, find_model
from igrag.files import sha256_file
from prompt_tuning.settings import DEFAULT_SETTINGS, PromptTrainingSettings

_SCRIPT = _ROOT / "prompt_tuning" / "prompt_training.py"
Settings = Mapping[str, object]

# One epoch in most rows, so that the whole takes an hour; a row changes that in one thing.
COMMON: Settings = {"training.num_train_epochs": 1}
ROWS: dict[str, Settings] = {
    "the shipped YAML (3 epochs of 16 x 1, learning rate 0.03)": {"training.num_train_epochs": 3},
    "the defaults (3 epochs of 16 x 8, learning rate 0.03)": {
        "training.num_train_epochs": 3,
        "training.gradient_accumulation_steps": 8,
    },
    "the shipped YAML, 1 epoch": {},
    "1 epoch, learning rate 0.01": {"training.learning_rate": 0.01},
    "1 epoch, learning rate 0.1": {"training.learning_rate": 0.1},
    "1 epoch, learning rate 0.3": {"training.learning_rate": 0.3},
    "1 epoch, random with scale 0.02": {"prompt_tuning.init_scale": 0.02},
    "1 epoch, initialization text": {"prompt_tuning.initialization": "text"},
    "1 epoch, initialization vocab": {"prompt_tuning.initialization": "vocab"},
    "1 epoch, prompt_length 5": {"prompt_tuning.prompt_length": 5},
    "1 epoch, prompt_length 50": {"prompt_tuning.prompt_length": 50},
    "1 epoch, residual": {"prompt_tuning.reparameterization": "residual"},
    "1 epoch, superpos": {"prompt_tuning.reparameterization": "superpos"},
    "3 epochs, learning rate 0.3": {"training.num_train_epochs": 3, "training.learning_rate": 0.3},
    "3 epochs, initialization text": {
        "training.num_train_epochs": 3,
        "prompt_tuning.initialization": "text",
    },
    "on LoRA: on_lora.yaml (3 epochs, learning rate 0.03)": {
        "training.num_train_epochs": 3,
        "model.lora_weights_path": "lora_training/checkpoints/best",
    },
    "on LoRA: 3 epochs, text, learning rate 0.01": {
        "training.num_train_epochs": 3,
        "training.learning_rate": 0.01,
        "prompt_tuning.initialization": "text",
        "model.lora_weights_path": "lora_training/checkpoints/best",
    },
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
        content = settings.to_plain(
            include={"model", "data", "prompt_tuning", "training", "evaluation"}
        )
        files = {str(path): _content_hash(path) for path in _files_of(settings)}
        text = json.dumps([content, files], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return output / f"{self.number:02}-{self.seed}-{digest[:12]}"


def main(words: Sequence[str] | None = None) -> int:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--rows", type=int, nargs="+", default=range(len(ROWS)), choices=range(len(ROWS)))
    add("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="for every run")
    add("--jobs", type=int, default=2, help="trainings at once, one thread each")
    add("--output", type=Path, default=Path(tempfile.gettempdir()) / "igrag_sweep")
    arguments = parser.parse_args(words)
    more = tuple(arguments.set)
    runs = [Run(number, seed, more) for number in arguments.rows for seed in arguments.seeds]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        records = pool.map(lambda run: _train(run, arguments.output), runs)
        found = dict(zip(runs, records, strict=True))
    print("| setting | steps | val BLEU-4: mean (lowest to highest) | gain |")
    print("|---|---|---|---|")
    for number in arguments.rows:
        those = (found[Run(number, seed, more)] for seed in arguments.seeds)
        print(_row(list(ROWS)[number], [record for record in those if record]))
    return int(not all(found.values()))


def _train(run: Run, output: Path) -> dict[str, Any] | None:
    """Makes a run, unless it is there, and returns its record; None after telling why not."""
    try:
        folder = run.folder(output)
        if _record(folder) is None:
            _train_in(folder, run.overrides())
        record = _record(folder)
        if record is None:
            raise RuntimeError(f"{folder}: no result there, though training ended well")
    except Exception as error:  # In a thread of its own it would be lost.
        name = f"row {run.number}, seed {run.seed}"
        print(f"{name}: {error or type(error).__name__}", file=sys.stderr)
        return None
    return record


def _train_in(folder: Path, overrides: Sequence[str]) -> None:
    words = [word for pair in overrides for word in ("--set", pair)]
    done = subprocess.run(
        [sys.executable, str(_SCRIPT), "--train", "--output_dir", str(folder), *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        *_, last = ["nothing on stderr", *done.stderr.splitlines()]
        raise RuntimeError(f"{folder}: exit code {done.returncode}: {last}")


def _record(folder: Path) -> dict[str, Any] | None:
    path = folder / "all_results.json"
    record: dict[str, Any] | None = (
        json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    )
    return record if record and record["best"] else None


def _files_of(settings: PromptTrainingSettings) -> Iterator[Path]:
    """Yields the files a training reads: data, configuration, model, adapter, initial prompt."""
    model, init_file = settings.model, settings.prompt_tuning.init_file
    yield from (settings.train_file, settings.val_file, model.main_config)
    if init_file is not None:
        yield init_file
    # A hub id is no folder; it stands for itself.
    base = Path(find_model(Config.load(model.main_config).models, model.name).path)
    for folder in (base, model.lora_weights_path):
        if folder is not None and folder.is_dir():
            yield from sorted(path for path in folder.iterdir() if path.is_file())


@cache
def _content_hash(path: Path) -> str | None:
    return sha256_file(path) if path.is_file() else None


def _row(name: str, records: list[dict[str, Any]]) -> str:
    if not records:
        return f"| {name} | - | failed | - |"
    scores = [record["best"]["bleu4"] for record in records]
    gain = mean(record["best"]["bleu4"] - record["untuned"]["bleu4"] for record in records)
    steps = records[0]["best"]["step"]
    return (
        f"| {name} | {steps} | {mean(scores):.3f} ({min(scores):.3f} to {max(scores):.3f}) | "
        f"{gain:+.3f} |"
    )


if __name__ == "__main__":
    sys.exit(main())
