"""Trains soft prompts with other settings and prints what they bring: a row for each, three seeds.

python benchmarks/sweep_prompt_tuning.py [--seeds 0 1 2] [--rows 0 1 ...] [--jobs 2] [--output DIR]

A run that is already in the output folder is not repeated, so an interrupted sweep goes on. The
rows on LoRA need the adapter: python lora_training/train_lora.py --all
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean

_ROOT = Path(__file__).resolve().parent.parent
_SCRIPT = _ROOT / "prompt_tuning" / "prompt_training.py"
Settings = Mapping[str, object]

# One epoch in most rows, so that the whole takes an hour; a row changes that in one thing.
COMMON: Settings = {"training.num_train_epochs": 1}
ROWS: dict[str, Settings] = {
    "the shipped YAML (3 epochs of 16 x 1, rate 0.03)": {"training.num_train_epochs": 3},
    "the defaults (3 epochs of 16 x 8, rate 0.03)": {
        "training.num_train_epochs": 3,
        "training.gradient_accumulation_steps": 8,
    },
    "the shipped YAML, 1 epoch": {},
    "1 epoch, rate 0.01": {"training.learning_rate": 0.01},
    "1 epoch, rate 0.1": {"training.learning_rate": 0.1},
    "1 epoch, rate 0.3": {"training.learning_rate": 0.3},
    "1 epoch, random with scale 0.02": {"prompt.init_scale": 0.02},
    "1 epoch, initialization text": {"prompt.initialization": "text"},
    "1 epoch, initialization vocab": {"prompt.initialization": "vocab"},
    "1 epoch, prompt_length 5": {"prompt.prompt_length": 5},
    "1 epoch, prompt_length 50": {"prompt.prompt_length": 50},
    "1 epoch, residual": {"prompt.reparameterization": "residual"},
    "1 epoch, superpos": {"prompt.reparameterization": "superpos"},
    "3 epochs, rate 0.3": {"training.num_train_epochs": 3, "training.learning_rate": 0.3},
    "3 epochs, initialization text": {
        "training.num_train_epochs": 3,
        "prompt.initialization": "text",
    },
    "on LoRA: the shipped YAML (3 epochs, rate 0.03)": {
        "training.num_train_epochs": 3,
        "model.lora_weights_path": "lora_training/checkpoints/best",
    },
    "on LoRA: on_lora.yaml (text, rate 0.01)": {
        "training.num_train_epochs": 3,
        "training.learning_rate": 0.01,
        "prompt.initialization": "text",
        "model.lora_weights_path": "lora_training/checkpoints/best",
    },
}


def main() -> int:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--rows", type=int, nargs="+", default=range(len(ROWS)), choices=range(len(ROWS)))
    add("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="for every run")
    add("--jobs", type=int, default=2, help="trainings at once, one thread each")
    add("--output", type=Path, default=Path(tempfile.gettempdir()) / "igrag_sweep")
    arguments = parser.parse_args()
    runs = [(number, seed) for number in arguments.rows for seed in arguments.seeds]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for number, seed in runs:
            pool.submit(_train, number, seed, arguments.output, arguments.set)
    print("| setting | updates | val BLEU-4: mean (lowest to highest) | gain |")
    print("|---|---|---|---|")
    failed = False
    for number in arguments.rows:
        records = [_record(_folder(arguments.output, number, seed)) for seed in arguments.seeds]
        failed |= None in records
        print(_row(list(ROWS)[number], [record for record in records if record]))
    return int(failed)


def _folder(output: Path, number: int, seed: int) -> Path:
    return output / f"{number:02}-{seed}"


def _record(folder: Path) -> dict | None:
    path = folder / "all_results.json"
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return record if record and record["best"] else None


def _train(number: int, seed: int, output: Path, more: list[str]) -> None:
    folder = _folder(output, number, seed)
    if _record(folder):
        return
    settings = {**COMMON, **list(ROWS.values())[number], "training.seed": seed}
    # One validation, at the end: what a run brings is not chosen among many.
    settings["evaluation.eval_steps"] = 1_000_000
    pairs = [*(f"{key}={value}" for key, value in settings.items()), *more]
    words = [word for pair in pairs for word in ("--set", pair)]
    done = subprocess.run(
        [sys.executable, str(_SCRIPT), "--train", "--output_dir", str(folder), *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print(f"{folder}: {done.stderr.splitlines()[-1]}", file=sys.stderr)


def _row(name: str, records: list[dict]) -> str:
    if not records:
        return f"| {name} | - | failed | - |"
    scores = [record["best"]["bleu4"] for record in records]
    gain = mean(record["best"]["bleu4"] - record["untuned"]["bleu4"] for record in records)
    updates = records[0]["best"]["step"]
    return (
        f"| {name} | {updates} | {mean(scores):.3f} ({min(scores):.3f} to {max(scores):.3f}) | "
        f"{gain:+.3f} |"
    )


if __name__ == "__main__":
    sys.exit(main())
