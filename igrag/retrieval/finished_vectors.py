"""A knowledge base from vectors that another program has made, for which nothing is encoded.

- A folder as clip-retrieval writes it: `img_emb/img_emb_N.npy` and `metadata/metadata_N.parquet`
- One Parquet file with the columns id, file_name, captions and vector
- A .npy file [N, D] with a JSONL file of captions, whose line n belongs to row n
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from igrag.data.coco import CaptionedImage, ImageId
from igrag.data.entry_table import EntryTable, write_entries
from igrag.data.images import file_in, open_image
from igrag.data.jsonl import BadLineError, iter_lines, parse_object
from igrag.errors import DataError, ImageError, KnowledgeBaseError
from igrag.inputs import check_regular, short_reason
from igrag.retrieval.build_plan import writing
from igrag.retrieval.image_encoder import ImageEncoder
from igrag.retrieval.partial_vectors import PLAN, unfinished_folder
from igrag.retrieval.storage import SkippedImage, check_output_folder, write_streamed

ROWS = 8192  # read at once
LENGTH_TOLERANCE = 0.01  # half precision leaves 0.001; these rows are made exact
SAMPLE = 16  # images that are encoded again, to check the encoder
LEAST_COSINE = 0.99  # of such an image; another encoder's vector is far below, or of another width
_IDS = ("id", "image_id", "key")
_NAMES = ("file_name", "image_path", "url", "key")
_CAPTIONS = ("captions", "caption")
_VECTORS = ("vector", "embedding", "image_embedding")
_EXPECTED = (
    "expected a .npy file, a .parquet file, or a folder with img_emb/ and metadata/ as "
    "clip-retrieval writes it"
)


@dataclass(frozen=True, slots=True)
class _Part:
    """Files of rows that belong together; one file where a Parquet has the vectors, too."""

    vectors: Path
    captions: Path


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What was made of finished vectors.

    Attributes:
        count: Images in the knowledge base, N.
        dimension: Length of their vectors, D.
        skipped: Rows that have no caption.
        checked: How many images were encoded again, and had the given vector.
    """

    count: int
    dimension: int
    skipped: tuple[SkippedImage, ...]
    checked: int


def import_vectors(
    source: Path,
    output: Path,
    *,
    encoder: ImageEncoder,
    captions: Path | None = None,
    images: Path | None = None,
    force: bool = False,
) -> ImportReport:
    """Makes a knowledge base of finished vectors; a block of them is in memory at a time.

    Args:
        source: A folder of clip-retrieval's, a Parquet file, or a .npy file.
        output: Folder to make.
        encoder: What is said to have made the vectors.
        captions: The JSONL file that belongs to a .npy file.
        images: Folder of the images; some of them are then encoded, to check the encoder.
        force: Replace an existing knowledge base.

    Raises:
        DataError: A file is missing or damaged, or has rows that are no captioned unit vectors.
        KnowledgeBaseError: The encoder is another one, or the output may not be written.
        OutputError: Another build is writing there.
    """
    check_output_folder(output, force=force)
    output = output.resolve()
    parts = _find_parts(source, captions)
    dimension = encoder.identity.dimension
    with writing(output), unfinished_folder(output) as folder:
        skipped: dict[int, str] = {}
        count = write_entries(folder / PLAN, _entries(parts, skipped), source=source)
        if not count:
            raise KnowledgeBaseError(f"{source}: none of its {len(skipped)} rows has a caption")
        entries = EntryTable(folder / PLAN)
        checked = 0
        if images is not None:
            checked = _check_encoder(source, entries, _blocks(parts, dimension, skipped), encoder,
                                     images)  # fmt: skip
        left_out = tuple(SkippedImage(name, "has no captions") for name in skipped.values())
        write_streamed(
            output,
            count=count,
            vectors=_blocks(parts, dimension, skipped),
            captions=(entries.rows(first, first + ROWS) for first in range(0, count, ROWS)),
            encoder=encoder.identity,
            source={"vectors": source.resolve().name, "checked_images": checked},
            skipped=left_out,
        )
    return ImportReport(count, dimension, left_out, checked)


def _find_parts(source: Path, captions: Path | None) -> list[_Part]:
    """Returns the files of vectors with those of their captions, in order."""
    if source.is_dir():
        parts = [
            _Part(file, source / "metadata" / f"{file.stem.replace('img_emb', 'metadata')}.parquet")
            for file in sorted((source / "img_emb").glob("img_emb_*.npy"), key=_number)
        ]
        if not parts:
            raise DataError(f"{source}: holds no img_emb/img_emb_0.npy, {_EXPECTED}")
        return parts
    if source.suffix == ".parquet":
        return [_Part(source, source)]
    if source.suffix != ".npy" or not source.exists():
        found = "no such file or folder" if not source.exists() else f"found {source.suffix!r}"
        raise DataError(f"{source}: {found}, {_EXPECTED}")
    if captions is None:
        raise DataError(f"{source}: found no captions for its rows, expected --captions FILE.jsonl")
    return [_Part(source, captions)]


def _number(file: Path) -> int:
    digits = re.search(r"[0-9]+$", file.stem)
    return int(digits[0]) if digits else -1


def _entries(parts: Sequence[_Part], skipped: dict[int, str]) -> Iterator[CaptionedImage]:
    """Yields the rows that have captions; notes the others, by their index in all parts."""
    row = 0
    for part in parts:
        first = row
        for content in _captions(part.captions):
            image_id = _first(content, _IDS)
            name = _first(content, _NAMES)
            texts = _texts(content)
            if texts:
                known: ImageId = row if image_id is None else image_id
                yield CaptionedImage(known, str(known if name is None else name), texts)
            else:
                skipped[row] = str(row if name is None else name)
            row += 1
        found, file = row - first, part.vectors
        expected = found if file == part.captions else len(_open_array(file))
        if found != expected:
            raise DataError(
                f"{part.captions}: found {found} rows, expected {expected} as in {file}"
            )


def _captions(file: Path) -> Iterator[Mapping[str, Any]]:
    """Yields the rows of a table, or the lines of a JSONL file."""
    if file.suffix == ".parquet":
        names = {*_IDS, *_NAMES, *_CAPTIONS}
        for batch in _batches(file, names):
            yield from batch.to_pylist()
        return
    for number, line in iter_lines(file, fix="check --captions"):
        try:
            yield parse_object(line)
        except BadLineError as error:
            raise DataError(f"{file}:{number}: {error}") from None


def _texts(content: Mapping[str, Any]) -> tuple[str, ...]:
    found = _first(content, _CAPTIONS) or []
    texts = [found] if isinstance(found, str) else found
    return tuple(" ".join(str(text).split()) for text in texts if text and str(text).strip())


def _first(content: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((content[name] for name in names if content.get(name) is not None), None)


def _batches(file: Path, names: set[str]) -> Iterator[Any]:
    """Yields record batches with those of the columns that a Parquet file has."""
    import pyarrow
    import pyarrow.parquet

    try:
        check_regular(file)
        with pyarrow.parquet.ParquetFile(file, memory_map=True) as parquet:
            columns = [name for name in parquet.schema_arrow.names if name in names]
            if not columns:
                found = ", ".join(parquet.schema_arrow.names)[:100]
                raise DataError(
                    f"{file}: found the columns {found}, expected one of {', '.join(sorted(names))}"
                )
            yield from parquet.iter_batches(ROWS, columns=columns)
    except (OSError, pyarrow.ArrowException) as error:
        reason = short_reason(error)
        raise DataError(f"{file}: cannot be read as Parquet ({reason})") from error


def _blocks(
    parts: Sequence[_Part], dimension: int, skipped: Mapping[int, str]
) -> Iterator[NDArray[np.float32]]:
    """Yields the vectors of the rows that have captions, [n, D] of length 1."""
    row = 0
    for part in parts:
        for block in _raw_blocks(part.vectors):
            if block.ndim != 2 or block.shape[1] != dimension:
                raise KnowledgeBaseError(
                    f"{part.vectors}: found vectors of shape {list(block.shape[1:])}, expected "
                    f"[{dimension}] as the encoder's; set retrieval_config.encoder to the one that "
                    "made them"
                )
            vectors = block.astype(np.float32)
            length = np.linalg.norm(vectors, axis=1, keepdims=True)
            wrong = np.flatnonzero(~(np.abs(length[:, 0] - 1) <= LENGTH_TOLERANCE))
            if len(wrong):
                raise KnowledgeBaseError(
                    f"{part.vectors}: found a vector of length {float(length[wrong[0], 0]):.4g} in "
                    f"row {row + int(wrong[0])}, expected 1; divide each vector by its length"
                )
            kept = [index for index in range(len(block)) if row + index not in skipped]
            row += len(block)
            yield (vectors / length)[kept]


def _raw_blocks(file: Path) -> Iterator[NDArray[Any]]:
    if file.suffix == ".parquet":
        for batch in _batches(file, set(_VECTORS)):
            column = batch.column(0)
            values = column.flatten().to_numpy(zero_copy_only=False)
            yield values.reshape(len(column), -1) if len(values) else values
        return
    vectors = _open_array(file)
    for first in range(0, len(vectors), ROWS):
        yield vectors[first : first + ROWS]


def _open_array(file: Path) -> NDArray[Any]:
    """Memory-maps the vectors of a .npy file."""
    try:
        check_regular(file)
        vectors: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{file}: cannot be read as an array of NumPy ({reason})") from None
    is_array = isinstance(vectors, np.ndarray) and vectors.ndim == 2
    if not is_array or not np.issubdtype(vectors.dtype, np.floating):
        raise DataError(f"{file}: expected rows of floating-point numbers [N, D]")
    return vectors


def _check_encoder(
    source: Path,
    entries: EntryTable,
    blocks: Iterator[NDArray[np.float32]],
    encoder: ImageEncoder,
    images: Path,
) -> int:
    """Encodes the first images that can be read, and compares; returns how many there were."""
    checked = 0
    vectors = next(blocks)
    for entry, vector in islice(zip(entries, vectors, strict=False), ROWS):
        try:
            image = open_image(file_in(images, entry.file_name, listed_in=source))
        except ImageError:
            continue
        cosine = float(encoder.encode([image])[0] @ vector)
        if cosine < LEAST_COSINE:
            raise KnowledgeBaseError(
                f"{source}: the vector of {entry.file_name} has a cosine of {cosine:.3f} with what "
                f"{encoder.identity.name} makes of the image, expected {LEAST_COSINE} or more; set "
                "retrieval_config.encoder to the one that made the vectors"
            )
        checked += 1
        if checked == SAMPLE:
            break
    if not checked:
        raise KnowledgeBaseError(
            f"{images}: holds none of the first images that {source} names (the first is "
            f"{entries[0].file_name}); leave out --images to take the encoder on trust"
        )
    return checked
