"""Finds the vectors of the images that examples are about.

They lie next to the examples, in a knowledge base, or are made from the image files, once.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from igrag.data.coco import ImageId
from igrag.data.examples import iter_examples
from igrag.data.image_folder import find_files
from igrag.data.images import open_image
from igrag.errors import DataError
from igrag.retrieval.checksums import MANIFEST
from igrag.retrieval.image_encoder import EncoderIdentity
from igrag.retrieval.knowledge_base import KnowledgeBase
from igrag.retrieval.vector_files import (
    DTYPE,
    EncodedImages,
    open_vectors,
    save_vectors,
    vector_files,
)

if TYPE_CHECKING:  # torch takes seconds to load
    from igrag.retrieval.image_encoder import ImageEncoder

_CACHE = "igrag_image_vectors"
_BLOCK = 16_384  # vectors in memory at a time
# Takes the ids that are still without a vector; returns images, those or others.
Source = Callable[[Sequence[ImageId]], EncodedImages]


@dataclass(frozen=True, eq=False)
class ImageVectors:
    """The vectors of examples' images; examples of one image share a row.

    Attributes:
        vectors: [N, D] in float16 or float32, perhaps memory-mapped.
        rows: The row of each example, [examples].
        encoder: What made the vectors.
    """

    vectors: NDArray[np.floating[Any]]
    rows: NDArray[np.int64]
    encoder: EncoderIdentity

    def __len__(self) -> int:
        """Returns the number of examples."""
        return len(self.rows)

    def of_examples(self) -> NDArray[np.float32]:
        """Returns the vector of each example, [examples, D]."""
        return self.vectors[self.rows].astype(np.float32)

    def sha256(self) -> str:
        """Returns a hash of what the examples get."""
        digest = hashlib.sha256(self.rows.tobytes())
        used = np.unique(self.rows)
        for start in range(0, len(used), _BLOCK):
            digest.update(self.vectors[used[start : start + _BLOCK]].tobytes())
        return digest.hexdigest()


def find_vectors(
    examples: Path,
    image_ids: Sequence[ImageId | None],
    sources: Iterable[Source],
    *,
    encoder: EncoderIdentity | None = None,
    skip_bad_lines: bool = False,
    fix: str,
) -> ImageVectors:
    """Finds the vector of each example's image in the first source that has it.

    Args:
        examples: The file of the examples, for messages.
        image_ids: The image of each of them; None or "" is unknown.
        sources: Where vectors are looked up; later ones are opened for what earlier ones lack.
        encoder: What must have made them; None for that of the first source.
        skip_bad_lines: How the file was read, see `iter_examples`.
        fix: What to do about a missing vector, for the message.

    Raises:
        DataError: (file:line) There is none of an image; or a source is of another encoder.
    """
    found: dict[str, tuple[int, int]] = {}  # id -> index of the source, row in it
    opened: list[EncodedImages] = []
    missing = {str(image_id): image_id for image_id in image_ids if image_id not in (None, "")}
    for source in sources:
        if not missing:
            break
        part = source([image_id for image_id in missing.values() if image_id is not None])
        encoder = encoder or part.encoder
        _check_encoder(part, encoder)
        rows = {key: part.row(key) for key in missing}
        found |= {key: (len(opened), row) for key, row in rows.items() if row is not None}
        missing = {key: image_id for key, image_id in missing.items() if key not in found}
        opened.append(part)
    for image_id in image_ids:
        if str(image_id) not in found:
            read = iter_examples(examples, skip_bad_lines=skip_bad_lines)
            line = next(
                each.line for each in read if str(each.image_id or "") == str(image_id or "")
            )
            what = f"no vector of image {image_id}" if image_id else 'no "image_id"'
            searched = f" in {', '.join(part.name for part in opened)}" if opened else ""
            raise DataError(f"{examples}:{line}: {what}{searched}; {fix}")
    return _joined([found[str(image_id)] for image_id in image_ids], opened)


def next_to(examples: Path) -> list[Source]:
    """Returns the vectors next to a file of examples as a source, none if there are none."""
    if not any(path.exists() for path in vector_files(examples)):
        return []
    return [lambda _missing: open_vectors(examples)]


def at(
    path: Path, *, get_encoder: Callable[[], ImageEncoder], batch_size: int, cache: Path | None
) -> Source:
    """Returns a knowledge base, or a folder of images, as a source; see `in_folder`."""
    if (path / MANIFEST).is_file():
        return in_knowledge_base(path)
    return in_folder(path, get_encoder=get_encoder, batch_size=batch_size, cache=cache)


def in_knowledge_base(path: Path) -> Source:
    """Returns a knowledge base as a source."""

    def find(_missing: Sequence[ImageId]) -> EncodedImages:
        opened = KnowledgeBase.open(path)
        return EncodedImages(str(path), opened.image_ids, opened.vectors, opened.encoder)

    return find


def in_folder(
    folder: Path, *, get_encoder: Callable[[], ImageEncoder], batch_size: int, cache: Path | None
) -> Source:
    """Returns the images of a folder as a source.

    Args:
        folder: The folder, in which images are found by their ids, see `find_files`.
        get_encoder: Returns the encoder; called only if an image is looked up.
        batch_size: Images encoded at once.
        cache: Folder of the vectors, see `encode_files`.
    """

    def find(missing: Sequence[ImageId]) -> EncodedImages:
        files = find_files(folder, missing)
        return encode_files(
            str(folder), files, encoder=get_encoder(), batch_size=batch_size, cache=cache
        )

    return find


def encode_files(
    name: str,
    files: Mapping[ImageId, Path],
    *,
    encoder: ImageEncoder,
    batch_size: int,
    cache: Path | None = None,
) -> EncodedImages:
    """Encodes image files once: a second call with the same unchanged files finds their vectors.

    Args:
        name: What the images are, for messages.
        files: Image files by id.
        encoder: Encodes them.
        batch_size: Images encoded at once.
        cache: Folder of the vectors; None for one in that of the library `datasets`.

    Raises:
        ImageError: One cannot be opened.
    """
    if not files:
        empty = np.empty((0, encoder.identity.dimension), np.float32)
        return EncodedImages(name, (), empty, encoder.identity)
    stats = [(str(image_id), str(path.resolve()), path.stat()) for image_id, path in files.items()]
    key = [
        encoder.identity.to_json(),
        encoder.dtype,
        [(image_id, path, stat.st_size, stat.st_mtime_ns) for image_id, path, stat in stats],
    ]
    cached = (
        cache or _default_cache()
    ) / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()}.jsonl"
    if not all(path.is_file() for path in vector_files(cached)):
        rows = io.BytesIO()
        for vectors in encode_batches(
            encoder, list(files.values()), batch_size=batch_size, title="image vectors"
        ):
            rows.write(vectors.astype(DTYPE).tobytes())
        rows.seek(0)
        save_vectors(cached, rows, list(files), encoder.identity)
    opened = open_vectors(cached)
    return EncodedImages(name, opened.image_ids, opened.vectors, opened.encoder)


def encode_batches(
    encoder: ImageEncoder, files: Sequence[Path], *, batch_size: int, title: str
) -> Iterator[NDArray[np.float32]]:
    """Yields the unit vectors [B, D] of image files, in their order, with a progress bar.

    Raises:
        ImageError: One cannot be opened.
    """
    from tqdm import tqdm

    with tqdm(total=len(files), desc=title, unit="image", file=sys.stderr, disable=None) as bar:
        for start in range(0, len(files), batch_size):
            batch = [open_image(path) for path in files[start : start + batch_size]]
            yield encoder.encode(batch)
            bar.update(len(batch))


def _default_cache() -> Path:
    from igrag.data.arrow_cache import cache_folder

    return cache_folder() / _CACHE


def _check_encoder(part: EncodedImages, expected: EncoderIdentity) -> None:
    if differences := part.encoder.differences(expected):
        raise DataError(
            f"{part.name}: found vectors of the encoder {part.encoder.name}, expected those of "
            f"{expected.name}, which differs in {', '.join(differences)}; take vectors of one "
            "encoder"
        )


def _joined(found: Sequence[tuple[int, int]], opened: Sequence[EncodedImages]) -> ImageVectors:
    """Returns one array for all examples: that of the source, or what is used of several."""
    used = sorted({source for source, _ in found})
    encoder = opened[used[0]].encoder
    if len(used) == 1:
        rows = np.array([row for _, row in found], np.int64)
        return ImageVectors(opened[used[0]].vectors, rows, encoder)
    order = {pair: row for row, pair in enumerate(dict.fromkeys(found))}
    gathered = np.stack([opened[source].vectors[row].astype(np.float32) for source, row in order])
    return ImageVectors(gathered, np.array([order[pair] for pair in found], np.int64), encoder)
