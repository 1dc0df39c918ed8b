"""Builds the examples of a split in chunks, which the run's processes share out in turn."""

import base64
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from igrag.data.coco import CaptionedImage
from igrag.errors import DataError
from igrag.files import atomic_path
from igrag.processes import ALONE, Processes
from igrag.retrieval.vector_files import DTYPE
from lora_training.examples import ExampleBuilder, ImageObjects, ImageVectors
from lora_training.unfinished_split import UnfinishedSplit

_CHUNK = 512  # Images in memory at a time, however many examples are built.


@dataclass(frozen=True, slots=True)
class SplitReport:
    """What was built of a split, which images were left out, and how many have no objects."""

    written: int
    reused: int
    skipped: tuple[str, ...]
    unlisted: int = 0


class Chunks:
    """The examples of a split's images, chunk by chunk.

    Args:
        images: The images.
        vectors: Returns their vectors.
        objects: Returns the objects of their prompts.
        builder: Builds the examples.
        split: Name of the split, for the examples' metadata.
    """

    def __init__(
        self,
        images: Sequence[CaptionedImage],
        vectors: ImageVectors,
        objects: ImageObjects,
        builder: ExampleBuilder,
        split: str,
    ) -> None:
        self.images = images
        self.vectors = vectors
        self.split = split
        self._objects = objects
        self._builder = builder

    def in_order(self, processes: Processes, *, start: int = 0) -> Iterator[dict[str, Any]]:
        """Yields the chunks from an image on, in order, in the first process.

        The others build their share for it, and yield nothing.

        Args:
            processes: The run's.
            start: The image; what the first process gives counts.

        Yields:
            "images": their number; "examples"; "rows": the vectors as base64 of raw rows [N, D] of
            `DTYPE`; and the counts and reasons of `SplitProgress` for this chunk alone.
        """
        first: int = processes.from_first(f"{self.split} starts", lambda: start)
        starts = range(first, len(self.images), _CHUNK)
        return processes.in_order(
            self.split,
            len(starts),
            lambda number: self._build(self.images[starts[number] : starts[number] + _CHUNK]),
        )

    def _build(self, images: Sequence[CaptionedImage]) -> dict[str, Any]:
        vectors, objects = self.vectors, self._objects
        reused, unlisted = vectors.reused, objects.unlisted
        skips = [(reasons, len(reasons)) for reasons in (vectors.skipped, objects.skipped)]
        examples, found = self._examples(images)
        skipped, objects_skipped = (reasons[start:] for reasons, start in skips)
        return {
            "images": len(images),
            "examples": examples,
            "rows": base64.b64encode(found.astype(DTYPE).tobytes()).decode(),
            "reused": vectors.reused - reused,
            "unlisted": objects.unlisted - unlisted,
            "skipped": skipped,
            "objects_skipped": objects_skipped,
        }

    def _examples(
        self, images: Sequence[CaptionedImage]
    ) -> tuple[list[dict[str, Any]], NDArray[np.float32]]:
        """Builds the examples of the readable images; returns their vectors [examples, D] too."""
        readable, found = self.vectors(images)
        indices, shown = self._objects(readable)
        if not indices:
            return [], found[:0]
        kept = [readable[index] for index in indices]
        return self._builder.build(kept, found[indices], shown, split=self.split), found[indices]


def build_split(
    path: Path,
    images: Sequence[CaptionedImage],
    *,
    vectors: ImageVectors,
    builder: ExampleBuilder,
    split: str,
    progress: bool = True,
) -> SplitReport:
    """Writes one JSONL file, complete or not at all, in this process alone; see `write_split`."""
    chunks = Chunks(images, vectors, ImageObjects(None, Path()), builder, split)
    return write_split(path, chunks, ALONE, progress=progress)


def write_split(
    path: Path,
    chunks: Chunks,
    processes: Processes,
    *,
    progress: bool = True,
    resumable: bool = False,
) -> SplitReport:
    """Writes one JSONL file in the first process; the others build their share of its chunks.

    The vectors of its images go next to it, see `igrag.retrieval.vector_files`.

    Args:
        path: The file to write.
        chunks: Builds the examples.
        processes: The run's.
        progress: Show a progress bar on stderr, if that is a terminal.
        resumable: Let the file grow under its own name, and continue what an interrupted call of
            the same arguments has left; otherwise it is complete or not there.

    Returns:
        What was built.

    Raises:
        DataError: No image was readable.
    """
    with ExitStack() as stack:
        file = path if resumable else stack.enter_context(atomic_path(path))
        unfinished = stack.enter_context(UnfinishedSplit(file, resumable=resumable))
        done = unfinished.progress
        bar = stack.enter_context(tqdm(
            total=len(chunks.images), initial=done.images, desc=chunks.split, unit="image",
            file=sys.stderr, disable=None if progress else True,  # None: hidden without a terminal
        ))  # fmt: skip
        for chunk in chunks.in_order(processes, start=done.images):
            rows = np.frombuffer(base64.b64decode(chunk["rows"]), DTYPE)
            unfinished.append(chunk["examples"], rows, images=chunk["images"])
            done.reused += chunk["reused"]
            done.unlisted += chunk["unlisted"]
            done.skipped += chunk["skipped"]
            done.objects_skipped += chunk["objects_skipped"]
            unfinished.save_progress()
            bar.update(chunk["images"])
        skipped = (*done.skipped, *done.objects_skipped)
        if not done.written:
            first = next(iter(skipped), "no images")
            raise DataError(f"{chunks.split}: none of the images could be used ({first})")
        unfinished.save_vectors(path, chunks.vectors.encoder)
    return SplitReport(done.written, done.reused, skipped, done.unlisted)
