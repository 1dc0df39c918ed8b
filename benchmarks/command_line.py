"""Times main.py on one image beside the shortest script that does the same, and on many images.

    python benchmarks/command_line.py [--pairs 5] [--images 100]

Each is a process of its own, in turn. The script imports torch and transformers, loads the demo's
two models, encodes an image and generates a caption; it has no retrieval, configuration or checks.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMAGE = ROOT / "input" / "802.jpg"
MODELS = ROOT / "demo" / "models"
SHORTEST = f"""
import torch
from PIL import Image
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection
processor = CLIPImageProcessor.from_pretrained({str(MODELS / "clip-mini")!r})
encoder = CLIPVisionModelWithProjection.from_pretrained({str(MODELS / "clip-mini")!r})
tokenizer = AutoTokenizer.from_pretrained({str(MODELS / "t5-mini")!r})
model = AutoModelForSeq2SeqLM.from_pretrained({str(MODELS / "t5-mini")!r})
with torch.inference_mode():
    encoder(**processor(Image.open({str(IMAGE)!r}), return_tensors="pt"))
    batch = tokenizer("Describe the image.", return_tensors="pt")
    tokens = model.generate(**batch, num_beams=4, max_new_tokens=40)
print(tokenizer.decode(tokens[0], skip_special_tokens=True))
"""


def main(words: Sequence[str] | None = None) -> int:
    """Runs all in turn and prints medians and ratios."""
    arguments = parse_arguments(words)
    one = [str(ROOT / "main.py"), "--i", str(IMAGE)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(arguments.images):
            (folder / f"{number}.jpg").symlink_to(IMAGE)
        commands = {
            "the shortest script": ["-c", SHORTEST],
            "main.py, one image": one,
            f"main.py, {arguments.images} images": [one[0], "--i", str(folder)],
        }
        taken: dict[str, list[tuple[float, float]]] = {title: [] for title in commands}
        for _ in range(arguments.pairs):
            for title, command in commands.items():
                taken[title].append(seconds([sys.executable, *command]))
    print(table(taken, arguments.images))
    return 0


def table(taken: dict[str, list[tuple[float, float]]], images: int) -> str:
    """Returns medians of wall and CPU seconds, and the ratios pair by pair.

    Args:
        taken: By title, the seconds of each run; the script first, then one image, then many.
        images: How many.
    """
    lines = ["| | wall, s | CPU, s |", "|---|---:|---:|"]
    for title, runs in taken.items():
        wall, cpu = (statistics.median(values) for values in zip(*runs, strict=True))
        lines.append(f"| {title} | {wall:.2f} | {cpu:.2f} |")
    shortest, one, many = taken.values()
    cpu_ratio = [ours[1] / theirs[1] for ours, theirs in zip(one, shortest, strict=True)]
    per_image = [images * single[0] / all_[0] for single, all_ in zip(one, many, strict=True)]
    lines += [
        "",
        f"main.py against the script, CPU seconds: {_spread(cpu_ratio)}.",
        f"An image of {images} against one alone, wall clock: {_spread(per_image)} faster.",
    ]
    return "\n".join(lines)


def seconds(command: Sequence[str]) -> tuple[float, float]:
    """Runs a command and returns the wall and CPU seconds that it took."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    before, started = os.times(), time.perf_counter()
    subprocess.run(command, check=True, env=environment, capture_output=True)
    after = os.times()
    cpu = after.children_user + after.children_system
    return time.perf_counter() - started, cpu - before.children_user - before.children_system


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5, help="runs of each (default: 5)")
    parser.add_argument("--images", type=int, default=100, help="of a folder (default: 100)")
    return parser.parse_args(words)


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f}x ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    sys.exit(main())
