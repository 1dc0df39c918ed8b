"""Times the building of a knowledge base by the processes that encode and those that read images.

    python benchmarks/build_speed.py [--images 512]

JPEGs of COCO's size, 640 x 480 pixels, are encoded by a CLIP of ViT-B/32's shape with random
weights, as torchrun starts the processes, which share shards of 256 images. The time to start is
taken away: that of a build of as few images as there are processes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

_ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(_ROOT))

from benchmarks.real_shapes import save_clip

_SCRIPT = _ROOT / "scripts" / "build_knowledge_base.py"
_SIZE = (480, 640, 3)
# Processes that encode, and for each of them processes that read images.
_RUNS = ((1, 0), (1, 1), (1, 2), (2, 0), (2, 1))
_HEAD = "| processes | workers of each | images/s | against the first |\n|---:|---:|---:|---:|"


def main(words: Sequence[str] | None = None) -> int:
    """Builds with each number of processes and workers, and prints images a second."""
    arguments = parse_arguments(words)
    first = 0.0
    print(_HEAD)
    with tempfile.TemporaryDirectory(prefix="igrag_build_") as name:
        folder = Path(name)
        save_clip(folder / "clip", layers=arguments.layers)
        write_images(folder, arguments.images)
        for processes, workers in _RUNS:
            start = build(folder, processes, processes, workers)
            seconds = build(folder, arguments.images, processes, workers) - start
            speed = (arguments.images - processes) / seconds
            first = first or speed
            print(f"| {processes} | {workers} | {speed:.1f} | {speed / first:.2f}x |", flush=True)
    return 0


def write_images(folder: Path, count: int) -> None:
    """Writes smooth random photographs, which compress as photographs do, and their captions."""
    generator = np.random.default_rng(0)
    (folder / "images").mkdir()
    with (folder / "captions.jsonl").open("w", encoding="utf-8") as captions:
        for number in range(count):
            coarse = generator.integers(0, 256, (30, 40, 3), np.uint8)
            image = Image.fromarray(coarse).resize(_SIZE[1::-1], Image.Resampling.BICUBIC)
            grain = generator.normal(0, 6, _SIZE)
            pixels = np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "images" / f"{number}.jpg", quality=90)
            line = {"file_name": f"{number}.jpg", "captions": [f"Image number {number}."]}
            print(json.dumps(line), file=captions)


def build(folder: Path, limit: int, processes: int, workers: int) -> float:
    """Builds a knowledge base of the first images; returns the seconds."""
    words = [
        "--captions", folder / "captions.jsonl", "--images", folder / "images",
        "--output", folder / "knowledge_base", "--overwrite_output_dir", "--limit", limit,
        "--workers", workers, "--device", "cpu", "--set",
        f"retrieval_config.encoder={folder / 'clip'}",
    ]  # fmt: skip
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, *launcher, _SCRIPT, *map(str, words)], check=True, capture_output=True
    )
    return time.perf_counter() - started


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=512, metavar="N",
        help="two shards (default), so that two processes have one each")  # fmt: skip
    parser.add_argument("--layers", type=int, default=12, help="of the encoder (default: 12)")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
