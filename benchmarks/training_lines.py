"""Times the same training steps on files of 1,000 and of 100,000 examples.

    python benchmarks/training_lines.py [--lines 1000 100000] [--pairs 3]

Each is a process of its own, in turn. The model is tiny, so that reading and batching the examples
would be seen beside the arithmetic, and all examples are of one length, so that batches are alike.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(_ROOT))

from benchmarks.measurement import Measured
from benchmarks.shapes import save_model, write_examples

_SHAPE, _CAPTIONS = "tiny", 8


def main(words: Sequence[str] | None = None) -> int:
    """Trains on every file in turn, and prints the time per sample."""
    arguments = parse_arguments(words)
    taken: dict[int, list[float]] = {lines: [] for lines in arguments.lines}
    with tempfile.TemporaryDirectory(prefix="igrag_lines_") as name:
        folders = [_folder(Path(name), lines) for lines in arguments.lines]
        for _ in range(arguments.pairs):
            for lines, folder in zip(arguments.lines, folders, strict=True):
                taken[lines].append(_milliseconds(folder, arguments.steps))
    print(table(taken))
    return 0


def table(taken: dict[int, list[float]]) -> str:
    """Returns the medians of milliseconds per sample, and the ratios to the first file's."""
    first, *_ = taken.values()
    lines = ["| lines | ms of CPU a sample | against the first |", "|---:|---:|---:|"]
    for count, runs in taken.items():
        ratios = [run / base for run, base in zip(runs, first, strict=True)]
        spread = f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append(f"| {count:,} | {statistics.median(runs):.2f} | {spread} |")
    return "\n".join(lines)


def _folder(parent: Path, lines: int) -> Path:
    folder = parent / str(lines)
    folder.mkdir()
    save_model(folder / "model", _SHAPE)
    write_examples(folder / "train.jsonl", lines, seed=1, spread=False)
    write_examples(folder / "val.jsonl", _CAPTIONS, seed=2)
    return folder


def _milliseconds(folder: Path, steps: int) -> float:
    """Returns the CPU milliseconds per sample of the steps after the first."""
    words = [
        sys.executable, str(_ROOT / "benchmarks" / "training.py"), "--worker", "ours",
        "--folder", str(folder), "--steps", str(steps), "--captions", str(_CAPTIONS),
        "--device", "cpu",
    ]  # fmt: skip
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    found = Measured(**json.loads(done.stdout.splitlines()[-1]))
    return 1000 * found.train_cpu / found.samples


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--lines", type=int, nargs="+", default=[1000, 100_000], help="examples of each file")
    add("--pairs", type=int, default=3, help="runs of each (default: 3)")
    add("--steps", type=int, default=7, help="optimizer steps of 128 examples, the first not timed")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
