"""The vectors of an unfinished knowledge base, in shards that any process may make.

Next to the output, `NAME.partial/` holds

- `progress.json`: what is being built, and how many images a shard has;
- `plan.arrow`: the images, in their order;
- `shards/NNNNNN.npy`: the vectors of one shard, float32 [n, D];
- `shards/NNNNNN.json`, written after them: their checksum, and the images that have none;
- `.lock`, which keeps a second build out; the system frees it with the process that holds it.

A shard is a fixed part of the plan. Who makes it, and when, changes nothing in it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from igrag.errors import DataError, KnowledgeBaseError
from igrag.files import atomic_path, read_json, sha256_file, write_json
from igrag.output_lock import LOCK_NAME, lock_file, made_folder

FORMAT = "igrag unfinished knowledge base 3"
PROGRESS, PLAN, SHARDS = "progress.json", "plan.arrow", "shards"
# What the version before left: rows in the order of the plan, and how many images they cover.
EARLIER_FORMAT = "igrag unfinished knowledge base 2"
EARLIER_VECTORS, EARLIER_SKIPPED = "vectors.f32", "skipped.jsonl"
SMALLEST_SHARD = 256  # images: what an interruption costs; half a minute on two cores
LARGEST_SHARD = 16_384
_MOST_SHARDS = 4096  # while they are small enough: so many files are read again in a second
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shard:
    """A finished shard.

    Attributes:
        images: The indices in the plan that it covers.
        file: Its vectors [n, D], one for each image that is not skipped.
        sha256: The file's hash.
        skipped: Index in the plan -> why that image has no vector.
    """

    images: range
    file: Path
    sha256: str
    skipped: dict[int, str]

    @property
    def count(self) -> int:
        """The number of vectors, n."""
        return len(self.images) - len(self.skipped)

    def vectors(self) -> NDArray[np.float32]:
        """Reads the vectors [n, D].

        Raises:
            KnowledgeBaseError: They are not those that were written.
        """
        if sha256_file(self.file) != self.sha256:
            raise KnowledgeBaseError(
                f"{self.file}: found another checksum than in {self.file.stem}.json; remove the "
                "file, and the same command makes it again"
            )
        vectors: NDArray[np.float32] = np.load(self.file, allow_pickle=False)
        return vectors


class PartialVectors:
    """The shards of a build in its folder; `start` opens the folder first.

    Args:
        folder: The folder.
        inputs: JSON data that decides the vectors and their order.
        dimension: Length D of a vector.
        images: How many images the plan has.
        shard_images: How many of them a shard has.
    """

    def __init__(
        self,
        folder: Path,
        *,
        inputs: Mapping[str, Any],
        dimension: int,
        images: int,
        shard_images: int,
    ) -> None:
        self.folder = folder
        self._dimension = dimension
        self._shards = [
            range(start, min(start + shard_images, images))
            for start in range(0, images, shard_images)
        ]
        made_from = json.dumps([inputs, dimension, images, shard_images], sort_keys=True)
        self._key = hashlib.sha256(made_from.encode("utf-8", "surrogatepass")).hexdigest()

    def __len__(self) -> int:
        """Returns the number of shards."""
        return len(self._shards)

    def images(self, shard: int) -> range:
        """Returns the indices in the plan that a shard covers."""
        return self._shards[shard]

    def missing(self) -> list[int]:
        """Returns the shards that nobody has finished."""
        return [shard for shard in range(len(self)) if self._read(shard) is None]

    def finished(self) -> Iterator[Shard]:
        """Yields the shards in order; all of them must be there.

        Raises:
            KnowledgeBaseError: One is not.
        """
        for shard in range(len(self)):
            found = self._read(shard)
            if found is None:
                raise KnowledgeBaseError(
                    f"{self._file(shard)}: missing or damaged; the same command makes it again"
                )
            yield found

    def save(self, shard: int, vectors: NDArray[np.float32], skipped: Mapping[int, str]) -> None:
        """Writes a shard as a whole.

        Args:
            shard: Its number.
            vectors: Rows [n, D] in the plan's order.
            skipped: Index in the plan -> why that image has no row.
        """
        file, images = self._file(shard), self._shards[shard]
        file.with_suffix(".json").unlink(missing_ok=True)  # Never that of other vectors.
        with atomic_path(file) as temporary, temporary.open("wb") as stream:
            np.save(stream, vectors.astype("<f4", copy=False), allow_pickle=False)
        content = {
            "made_from": self._key,
            "images": [images.start, images.stop],
            "sha256": sha256_file(file),
            "bytes": file.stat().st_size,
            "skipped": [[index, reason] for index, reason in skipped.items()],
        }
        write_json(file.with_suffix(".json"), content)

    def remove(self) -> None:
        """Deletes the folder, while the lock keeps other builds out."""
        shutil.rmtree(self.folder)

    def _file(self, shard: int) -> Path:
        return self.folder / SHARDS / f"{shard:06}.npy"

    def _read(self, shard: int) -> Shard | None:
        """Reads the description of a shard; None if it is not finished."""
        file, images = self._file(shard), self._shards[shard]
        try:
            content = read_json(file.with_suffix(".json"))
            is_own = content["made_from"] == self._key
            if not is_own or content["bytes"] != file.stat().st_size:
                return None
            return Shard(images, file, content["sha256"], dict(content["skipped"]))
        except (DataError, OSError, KeyError, TypeError, ValueError):
            return None


def start(
    folder: Path, *, inputs: Mapping[str, Any], dimension: int, images: int, batch_size: int
) -> PartialVectors:
    """Continues what the folder holds if it was made from the same inputs, else starts again.

    Args:
        folder: The folder, which this process holds.
        inputs: JSON data that decides the vectors and their order.
        dimension: Length D of a vector.
        images: How many images the plan has.
        batch_size: Images encoded at once: a new build's shards are whole batches.
    """
    record = _read_record(folder) or {}
    is_same = record.get("inputs") == inputs
    shard_images = record.get("shard_images") if is_same else None
    if not shard_images:
        smallest = min(LARGEST_SHARD, max(SMALLEST_SHARD, images // _MOST_SHARDS))
        shard_images = -(-smallest // batch_size) * batch_size
    partial = PartialVectors(
        folder, inputs=inputs, dimension=dimension, images=images, shard_images=shard_images
    )
    if record and not is_same:
        logger.warning("%s: left by a build from other inputs; starting over", folder)
    if not is_same:
        shutil.rmtree(folder / SHARDS, ignore_errors=True)
    elif record["format"] == EARLIER_FORMAT:
        _convert_earlier(folder, partial, record, dimension)
    content = {"format": FORMAT, "inputs": inputs, "shard_images": shard_images}
    write_json(folder / PROGRESS, content)
    for name in (EARLIER_VECTORS, EARLIER_SKIPPED):
        (folder / name).unlink(missing_ok=True)
    return partial


@contextmanager
def unfinished_folder(output: Path) -> Iterator[Path]:
    """Holds the folder of an output's unfinished build, and yields it.

    Without a record of what is being built it is removed again.

    Raises:
        KnowledgeBaseError: The folder holds something else.
        OutputError: Another build is writing there.
    """
    folder = output.with_name(f"{output.name}.partial")
    _check_folder(folder)
    with made_folder(folder), lock_file(folder / LOCK_NAME, output=folder, option="--output"):
        try:
            yield folder
        finally:
            if folder.is_dir() and not (folder / PROGRESS).exists():
                (folder / PLAN).unlink(missing_ok=True)


def _convert_earlier(
    folder: Path, partial: PartialVectors, record: Mapping[str, Any], dimension: int
) -> None:
    """Cuts the rows of an earlier version's build into shards; the last one is not whole."""
    listed = (folder / EARLIER_SKIPPED).read_bytes() if record["skipped_bytes"] else b""
    lines = listed[: record["skipped_bytes"]].splitlines()
    try:
        skipped: dict[int, str] = dict(map(json.loads, lines))
        size = (record["processed"] - len(skipped), dimension)
        rows = np.memmap(folder / EARLIER_VECTORS, "<f4", "r", shape=size)
    except (ValueError, TypeError, OSError):  # Cut off, or not one row.
        return
    kept = np.array([index for index in range(record["processed"]) if index not in skipped])
    for shard in range(len(partial)):
        images = partial.images(shard)
        if images.stop > record["processed"]:
            break
        first, last = np.searchsorted(kept, [images.start, images.stop])
        own = {index: skipped[index] for index in images if index in skipped}
        partial.save(shard, rows[first:last], own)


def _check_folder(folder: Path) -> None:
    """Refuses a folder with other files."""
    if not folder.exists() and not folder.is_symlink():
        return
    if folder.is_dir() and (_read_record(folder) or all(map(_is_own, folder.iterdir()))):
        return
    raise KnowledgeBaseError(
        f"{folder}: holds something else than the unfinished knowledge base that is kept there; "
        "move it away"
    )


def _is_own(entry: Path) -> bool:
    """Returns whether a file is one that a build leaves that ends before its first record."""
    return entry.name.startswith((LOCK_NAME, f".{PROGRESS}.", PLAN, f".{PLAN}."))


def _read_record(folder: Path) -> dict[str, Any] | None:
    try:
        record = read_json(folder / PROGRESS)
    except DataError:
        return None
    is_known = isinstance(record, dict) and record.get("format") in (FORMAT, EARLIER_FORMAT)
    return record if is_known else None
