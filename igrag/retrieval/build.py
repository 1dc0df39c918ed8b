"""Builds a knowledge base from captions and their images: in shards, by any number of processes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from igrag.data.packed_images import PackedImage
from igrag.errors import KnowledgeBaseError
from igrag.files import remove_leftovers
from igrag.output_lock import held_since
from igrag.processes import Processes, Ranks
from igrag.retrieval.build_plan import BuildPlan, plan_build, writing
from igrag.retrieval.encoding_threads import encode_batches, encoding_threads
from igrag.retrieval.image_encoder import ImageEncoder
from igrag.retrieval.image_loader import (
    Batch,
    ImageSource,
    read_images,
    report_killed_workers,
)
from igrag.retrieval.partial_vectors import PartialVectors, Shard, start
from igrag.retrieval.storage import SkippedImage, write_streamed


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did.

    Attributes:
        count: Images in the knowledge base, N.
        dimension: Length of their vectors, D.
        skipped: Images of the captions file that are not in it.
        uncaptioned: Names of images in the folder that the captions file does not list.
        resumed: How many images an interrupted build had already dealt with.
    """

    count: int
    dimension: int
    skipped: tuple[SkippedImage, ...]
    uncaptioned: tuple[str, ...]
    resumed: int


def build_knowledge_base(
    captions: Path | None,
    images: Path,
    output: Path,
    *,
    encoder: ImageEncoder,
    batch_size: int = 32,
    workers: int = 0,
    limit: int | None = None,
    force: bool = False,
    progress: bool = True,
) -> BuildReport:
    """Encodes captioned images and saves them: `plan_build`, then `build_planned`."""
    with plan_build(captions, images, output, limit=limit, force=force) as plan:
        report = build_planned(
            plan, encoder=encoder, batch_size=batch_size, workers=workers, progress=progress
        )
    assert report is not None  # This is the first process.
    return report


def build_planned(
    plan: BuildPlan,
    *,
    encoder: ImageEncoder,
    batch_size: int = 32,
    workers: int = 0,
    progress: bool = True,
    reduced_decoding: bool = False,
    processes: Processes | None = None,
) -> BuildReport | None:
    """Encodes the planned images and saves them with their captions.

    Each process encodes some of the shards that are missing in `OUTPUT.partial`; after an
    interruption the same call continues there if the captions file, the folder of images, the
    limit and the encoder are the same, in any number of processes. The output appears only when
    it is complete, and only then is a replaced one removed.

    Args:
        plan: What to encode, and where it goes.
        encoder: Makes the vectors.
        batch_size: Images encoded at once.
        workers: Processes that read images; 0: this process reads them.
        progress: Show a progress bar on stderr, where that is a terminal.
        reduced_decoding: Decode large JPEGs at a fraction of their size, which changes the fourth
            digit of a cosine.
        processes: Those that build together.

    Returns:
        What was done; None in all processes but the first.

    Raises:
        KnowledgeBaseError: Nothing could be encoded, the output may not be written, or a worker
            was killed.
    """
    processes = processes or Processes(Ranks())
    made = {"encoder_dtype": encoder.dtype}
    made |= {"decoding": "reduced"} if reduced_decoding else {}
    partial, missing = _open_shards(plan, encoder, made, batch_size, processes)
    share = missing[processes.ranks.rank :: processes.ranks.size]
    edge = encoder.preprocess.shortest_edge if reduced_decoding else None
    batches = _Batches(partial, share, batch_size)
    loaded = read_images(
        _Sources(plan), encoder.preprocess, batches=batches, workers=workers, shortest_edge=edge
    )
    _encode(encoder, loaded, partial, batches, progress, processes)
    processes.first_waits("encoded")
    if not processes.ranks.is_first:
        return None
    skipped = _check_skipped(plan, partial)
    count = len(plan.entries) - len(skipped)
    with writing(plan.output):
        write_streamed(
            plan.output,
            count=count,
            vectors=(shard.vectors() for shard in partial.finished()),
            captions=_captions(plan, partial.finished()),
            encoder=encoder.identity,
            source=plan.source | made,
            skipped=plan.without_captions + skipped,
        )
        partial.remove()
    resumed = len(plan.entries) - sum(len(partial.images(shard)) for shard in missing)
    left_out = plan.without_captions + skipped
    return BuildReport(count, encoder.identity.dimension, left_out, plan.uncaptioned, resumed)


def _open_shards(
    plan: BuildPlan,
    encoder: ImageEncoder,
    made: dict[str, str],
    batch_size: int,
    processes: Processes,
) -> tuple[PartialVectors, list[int]]:
    """Opens the unfinished build in all processes; returns it, and the shards that it lacks."""
    inputs = plan.inputs | {"encoder": encoder.identity.to_json()} | made
    size = {"dimension": encoder.identity.dimension, "images": len(plan.entries)}

    def begin() -> dict[str, Any]:
        output = plan.output
        with writing(output):
            partial = start(plan.folder, inputs=inputs, **size, batch_size=batch_size)
            before = held_since(plan.folder)
            remove_leftovers(output.parent, is_own=output.name.__eq__, before=before)
        missing = partial.missing()
        return {
            "inputs": inputs,
            "shard_images": len(partial.images(0)),
            "missing": missing,
        }

    begun = processes.from_first("shards", begin)
    if begun["inputs"] != inputs:
        raise KnowledgeBaseError(
            f"process {processes.ranks.rank}: found other inputs or another encoder than the "
            "first process, expected the same files on all machines"
        )
    shard_images = begun["shard_images"]
    partial = PartialVectors(plan.folder, inputs=inputs, **size, shard_images=shard_images)
    return partial, begun["missing"]


class _Sources(Sequence[ImageSource]):
    """Where the planned images are; a worker process opens the plan again."""

    def __init__(self, plan: BuildPlan) -> None:
        self._images, self._entries = plan.images, plan.entries

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> ImageSource: ...
    @overload
    def __getitem__(self, index: slice) -> list[ImageSource]: ...
    def __getitem__(self, index: int | slice) -> ImageSource | list[ImageSource]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        name, found = self._entries.file_name(index), self._entries.range_in_file(index)
        if found is None:
            return self._images / name
        file = self._images / name.partition("/")[0] if self._images.is_dir() else self._images
        return PackedImage(file, name, *found)


class _Batches:
    """The batches of some shards: a batch never reaches over a shard's end.

    So the plan alone decides what is encoded together, which changes the last digits of vectors.
    """

    def __init__(self, partial: PartialVectors, shards: Sequence[int], batch_size: int) -> None:
        self.shards = shards
        self._partial, self._size = partial, batch_size

    def of_shard(self, shard: int) -> Iterator[range]:
        """Yields the indices of each batch of a shard."""
        images = self._partial.images(shard)
        for first in range(images.start, images.stop, self._size):
            yield range(first, min(first + self._size, images.stop))

    def __iter__(self) -> Iterator[range]:
        return chain.from_iterable(map(self.of_shard, self.shards))


def _encode(
    encoder: ImageEncoder,
    loaded: Iterator[Batch],
    partial: PartialVectors,
    batches: _Batches,
    progress: bool,
    processes: Processes,
) -> None:
    """Encodes this process's share of the shards, batch by batch."""
    from tqdm import tqdm

    bar = tqdm(
        total=sum(len(partial.images(shard)) for shard in batches.shards),
        desc="Encoding images",
        unit="image",
        file=sys.stderr,
        # None: where stderr is no terminal
        disable=None if progress and processes.ranks.is_first else True,
    )
    threads = encoding_threads(encoder, processes.ranks)
    encoded = encode_batches(encoder, loaded, threads=threads)
    with bar, report_killed_workers(), closing(encoded):
        for shard in batches.shards:
            vectors, skipped = list[NDArray[np.float32]](), dict[int, str]()
            for indices in batches.of_shard(shard):
                processes.check()
                rows, reasons = next(encoded)
                vectors.append(rows)
                skipped |= {indices[index]: reason for index, reason in reasons.items()}
                bar.update(len(indices))
            with writing(partial.folder):
                partial.save(shard, np.concatenate(vectors), skipped)


def _check_skipped(plan: BuildPlan, partial: PartialVectors) -> tuple[SkippedImage, ...]:
    """Lists what has no vector; if that is everything, there is nothing to save or continue."""
    skipped = tuple(
        SkippedImage(plan.entries[index].file_name, reason)
        for shard in partial.finished()
        for index, reason in shard.skipped.items()
    )
    if len(skipped) == len(plan.entries):
        partial.remove()
        raise KnowledgeBaseError(
            f"{plan.captions}: none of its {len(skipped)} images could be read "
            f"(the first, {skipped[0].file_name}: {skipped[0].reason})"
        )
    return skipped


def _captions(plan: BuildPlan, shards: Iterable[Shard]) -> Iterator[Any]:
    """Yields the rows of the plan that have a vector, a table for each shard."""
    import pyarrow

    for shard in shards:
        table = plan.entries.rows(shard.images.start, shard.images.stop)
        if shard.skipped:
            table = table.filter(pyarrow.array([i not in shard.skipped for i in shard.images]))
        yield table
