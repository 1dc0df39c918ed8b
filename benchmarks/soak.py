"""Runs captioning and training for long and measures whether their memory stays flat.

python benchmarks/soak.py                      # 2,000 images, 1,000 steps
python benchmarks/soak.py --images 200 --steps 100

The exit code is 1 if a process needs over 5% more at any time after the first tenth of its work
than it did until then.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

_ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(_ROOT))

from igrag.cli import at_least

_TOLERATED = 0.05
_INTERVAL = 0.5  # seconds
_MEGABYTE = 1_000_000
_BATCH_SIZE = 4
_EXAMPLES = 2000  # demo/data/train.jsonl


@dataclass(frozen=True)
class Memory:
    """The memory of a process while it works, from the first line that it prints.

    Attributes:
        first: Highest resident set size in bytes during the first tenth of the time.
        later: The same after that.
    """

    first: int
    later: int

    @property
    def growth(self) -> float:
        """How much more it needed later, as a share."""
        return self.later / self.first - 1


def measure(words: Sequence[str], *, until: Path | None = None) -> tuple[Memory, int]:
    """Runs a script and samples its resident set size; returns that and the lines it printed.

    Args:
        words: The script and its options.
        until: What appears when the work is done and results are drawn, which loads Matplotlib;
            None where the work ends with the process.

    Raises:
        RuntimeError: It failed.
    """
    samples: list[tuple[float, int]] = []
    lines = 0
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            [sys.executable, *words], cwd=_ROOT, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        watched = psutil.Process(process.pid)

        def sample() -> None:
            while process.poll() is None and not (until and until.exists()):
                with suppress(psutil.NoSuchProcess):
                    if lines:
                        samples.append((time.monotonic(), watched.memory_info().rss))
                time.sleep(_INTERVAL)

        sampler = threading.Thread(target=sample)
        sampler.start()
        for _ in process.stdout or ():
            lines += 1
        process.wait()
        sampler.join()
        if process.returncode:
            errors.seek(0)
            message = errors.read().decode()[-500:]
            raise RuntimeError(f"exit code {process.returncode}: {message}")
    begin, end = samples[0][0], samples[-1][0]
    early = [size for at, size in samples if at <= begin + (end - begin) / 10]
    return Memory(max(early), max(size for _, size in samples[len(early) :])), lines


def main(words: Sequence[str] | None = None) -> int:
    """Measures both and prints a line for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=at_least(10), default=2000)
    parser.add_argument("--steps", type=at_least(10), default=1000)
    arguments = parser.parse_args(words)
    images = sorted((_ROOT / "demo" / "coco" / "train").glob("*.jpg"))[: arguments.images]
    epochs = -(-arguments.steps * _BATCH_SIZE // _EXAMPLES)
    steps = epochs * (_EXAMPLES // _BATCH_SIZE)
    with tempfile.TemporaryDirectory() as folder:
        train = (
            "prompt_tuning/prompt_training.py", "--train", "--output_dir", folder,
            "--set", "data.train_file=demo/data/train.jsonl",
            "--set", "data.val_file=demo/data/val.jsonl",
            "--set", f"training.per_device_train_batch_size={_BATCH_SIZE}",
            "--set", f"training.num_train_epochs={epochs}",
            "--set", f"evaluation.eval_steps={steps}",
        )  # fmt: skip
        captioning, captions = measure(("main.py", "--json", "--i", *map(str, images)))
        print(describe(captioning, f"{captions:,} images captioned"), flush=True)
        training, _ = measure(train, until=Path(folder) / f"checkpoint-{steps}")
        print(describe(training, f"{steps:,} steps trained"))
    return int(max(captioning.growth, training.growth) > _TOLERATED)


def describe(memory: Memory, work: str) -> str:
    """Returns what was measured in a line."""
    return (
        f"{work}: {memory.first / _MEGABYTE:,.0f} MB at most in the first tenth of the time, "
        f"{memory.later / _MEGABYTE:,.0f} MB later ({memory.growth:+.1%})"
    )


if __name__ == "__main__":
    sys.exit(main())
