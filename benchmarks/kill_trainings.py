"""Kills trainings of the demo models at random times, and compares what they resume to.

python benchmarks/kill_trainings.py [--prompt 20] [--lora 10] [--seed 0] [--output FOLDER]

Each training is a cold process that SIGKILL ends at a random time of its whole duration, the start
included. It is resumed then by the typed command, and its weights, losses and scores must be those
of a run that nothing interrupted, bit for bit, without any temporary file left. Exit code 1 if one
differs.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(_ROOT))

from igrag.training.record import TrainingRecord

_TRAIN_LINES, _VAL_LINES = 48, 8
_WEIGHTS = ("prompt_embeddings.pt", "adapter_model.safetensors")


@dataclass(frozen=True)
class Recipe:
    """One of the two trainings: its script, and settings of six short steps.

    Attributes:
        name: Its name in the output.
        script: What a user types.
        settings: Key -> value; {data} is the folder of the examples.
    """

    name: str
    script: str
    settings: dict[str, str]

    def command(self, output: Path, data: Path) -> list[str]:
        """Returns the command that trains into a folder, or resumes there."""
        pairs = [f"{key}={value.format(data=data)}" for key, value in self.settings.items()]
        options = [word for pair in pairs for word in ("--set", pair)]
        return [
            sys.executable, str(_ROOT / self.script), "--train", "--device", "cpu",
            "--output_dir", str(output), "--resume_from_checkpoint", "latest", *options,
        ]  # fmt: skip


_COMMON = {
    "training.num_train_epochs": "2",
    "training.per_device_train_batch_size": "8",
    "training.gradient_accumulation_steps": "2",
}
PROMPT = Recipe(
    "prompt",
    "prompt_tuning/prompt_training.py",
    _COMMON
    | {
        "data.train_file": "{data}/train.jsonl",
        "data.val_file": "{data}/val.jsonl",
        "evaluation.eval_steps": "1",
    },
)
LORA = Recipe(
    "LoRA",
    "lora_training/train_lora.py",
    _COMMON | {"data.output_data": "{data}", "training.eval_steps": "1"},
)


def main(words: Sequence[str] | None = None) -> int:
    """Runs all kills, prints a line for each, and returns the exit code."""
    arguments = parse_arguments(words)
    chance = random.Random(arguments.seed)
    failures = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.output or Path(temporary)
        data = write_data(folder / "data")
        for recipe, kills in ((PROMPT, arguments.prompt), (LORA, arguments.lora)):
            if kills:
                failures += kill_and_compare(recipe, folder, data, kills, chance)
    print(f"{failures} of {arguments.prompt + arguments.lora} trainings differ")
    return 1 if failures else 0


def kill_and_compare(
    recipe: Recipe, folder: Path, data: Path, kills: int, chance: random.Random
) -> int:
    """Trains once to the end, then kills and resumes; returns how many trainings differ."""
    whole = folder / f"{recipe.name}-whole"
    started = time.perf_counter()
    run(recipe.command(whole, data))
    seconds = time.perf_counter() - started
    expected, failures = results(whole), 0
    for number in range(kills):
        output = folder / f"{recipe.name}-{number}"
        after = chance.uniform(0, seconds)
        was_running = kill_after(recipe.command(output, data), after)
        checkpoints = len(list(output.glob("checkpoint-*")))
        run(recipe.command(output, data))
        problems = differences(expected, results(output))
        problems += [f"{path.name} is left" for path in output.rglob(".*")]
        failures += bool(problems)
        state = "was running" if was_running else "had ended"
        print(
            f"{recipe.name} {number}: killed after {after:.1f} of {seconds:.1f} s ({state}, "
            f"{checkpoints} checkpoints): {'; '.join(problems) or 'equal'}",
            flush=True,
        )
    return failures


def run(command: list[str]) -> None:
    """Runs a training to its end."""
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"the training failed: {done.stderr}")


def kill_after(command: list[str], seconds: float) -> bool:
    """Starts a training and kills it after so many seconds; returns whether it still ran."""
    process = subprocess.Popen(
        command,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        process.wait(seconds)
        return False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True


def environment() -> dict[str, str]:
    """Returns the environment of a training: offline, and one thread for equal bits."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def results(output: Path) -> dict[str, Any]:
    """Returns what a training has come to, without its times."""
    record = TrainingRecord.read(output / "all_results.json")
    found: dict[str, Any] = {
        str(path.relative_to(output)): path.read_bytes()
        for name in _WEIGHTS
        for path in sorted(output.rglob(name))
    }
    found["losses"] = [step.loss for step in record.history]
    found["scores"] = [(each.step, each.loss, each.bleu4) for each in record.evaluations]
    return found


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Names what differs, is missing, or is there in addition."""
    names = sorted({*expected, *found})
    return [f"{name} differs" for name in names if expected.get(name) != found.get(name)]


def write_data(folder: Path) -> Path:
    """Writes the first examples of the demo's data, and returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", _TRAIN_LINES), ("val", _VAL_LINES)):
        source = _ROOT / "demo" / "data" / f"{name}.jsonl"
        lines = source.read_text(encoding="utf-8").splitlines(keepends=True)[:count]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--prompt", type=int, default=20, metavar="N", help="kills of prompt tuning")
    add("--lora", type=int, default=10, metavar="N", help="kills of LoRA")
    add("--seed", type=int, default=0, help="of the times")
    add("--output", type=Path, metavar="FOLDER", help="keep the trainings there")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
