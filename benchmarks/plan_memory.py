#!/usr/bin/env python
"""Measures the memory in which the build of a knowledge base is planned, by the number of images.

    python benchmarks/plan_memory.py --counts 1000 100000 1000000

Each file of captions, or of images with them, is made up and planned in a process of its own.
Nothing is encoded: the plan
is what the first process of a build does with all images. Prints CPU seconds and peak memory.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.memory import peak_bytes
from igrag.retrieval.build_plan import plan_build

CAPTIONS = 2  # of an image
FORMATS = ("jsonl", "parquet", "coco", "tar")


def main() -> int:
    """Plans files of each size and format, and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--formats", choices=FORMATS, nargs="+", default=list(FORMATS))
    parser.add_argument("--plan", type=Path, help=argparse.SUPPRESS)  # in the child process
    arguments = parser.parse_args()
    if arguments.plan:
        return plan(arguments.plan)
    print("| format | images | CPU seconds | peak memory, MiB |\n|---|---:|---:|---:|")
    for name in arguments.formats:
        for count in arguments.counts:
            seconds, peak = measure(name, count)
            print(f"| {name} | {count:,} | {seconds:.1f} | {peak:.0f} |", flush=True)
    return 0


def measure(name: str, count: int) -> tuple[float, float]:
    """Plans one file in a process of its own; returns its seconds and its peak memory."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        file = folder / f"captions.{'json' if name == 'coco' else name}"
        _SAVE[name](file, count)
        (folder / "images").mkdir()
        (folder / "images" / file_name(0)).touch()
        words = [sys.executable, __file__, "--plan", str(file)]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        seconds, peak = map(float, done.stdout.split())
    return seconds, peak


def plan(file: Path) -> int:
    """Plans a build, and prints its CPU seconds and the peak memory of this process in MiB."""
    start = time.process_time()
    has_images = file.suffix == ".tar"
    captions_file, images = (None, file) if has_images else (file, file.parent / "images")
    with plan_build(captions_file, images, file.parent / "kb") as planned:
        count = len(planned.entries)
    seconds = time.process_time() - start
    assert count
    print(seconds, peak_bytes() / (1 << 20))
    return 0


def file_name(number: int) -> str:
    """Returns an image's file name."""
    return f"{number:012}.jpg"


def captions(number: int) -> list[str]:
    """Returns an image's captions, about as long as COCO's."""
    return [f"A dog in field {number} looks at a red ball, way {way}." for way in range(CAPTIONS)]


def save_jsonl(file: Path, count: int) -> None:
    """Saves an image a line."""
    with file.open("w") as stream:
        for number in range(count):
            row = {"id": number, "file_name": file_name(number), "captions": captions(number)}
            stream.write(json.dumps(row) + "\n")


def save_parquet(file: Path, count: int) -> None:
    """Saves an image a row."""
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema(
        {"id": pyarrow.int64(), "file_name": pyarrow.string(),
         "captions": pyarrow.list_(pyarrow.string())}
    )  # fmt: skip
    with pyarrow.parquet.ParquetWriter(file, schema) as output:
        for start in range(0, count, 10_000):
            numbers = range(start, min(start + 10_000, count))
            columns = [list(numbers), list(map(file_name, numbers)), list(map(captions, numbers))]
            output.write_table(pyarrow.table(columns, schema))


def save_coco(file: Path, count: int) -> None:
    """Saves COCO's format: all images, and then all captions in another order."""
    with file.open("w") as stream:
        stream.write('{"images": [')
        for number in range(count):
            image = {"id": number, "file_name": file_name(number), "width": 640, "height": 480}
            stream.write("," * (number > 0) + json.dumps(image))
        stream.write('], "annotations": [')
        for way in range(CAPTIONS):
            for number in reversed(range(count)):
                annotation = {"id": number, "image_id": number, "caption": captions(number)[way]}
                first = way == 0 and number == count - 1
                stream.write("," * (not first) + json.dumps(annotation))
        stream.write("]}")


def save_tar(file: Path, count: int) -> None:
    """Saves a tar file as img2dataset does; planning does not open its images."""
    with tarfile.open(file, "w") as archive:
        for number in range(count):
            texts = {"jpg": "an image", "txt": "\n".join(captions(number))}
            for suffix, text in texts.items():
                member = tarfile.TarInfo(f"{number:012}.{suffix}")
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text.encode()))
            archive.members = []  # type: ignore[attr-defined] # It keeps all it has written.


_SAVE = {"jsonl": save_jsonl, "parquet": save_parquet, "coco": save_coco, "tar": save_tar}


if __name__ == "__main__":
    sys.exit(main())
