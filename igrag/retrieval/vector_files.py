"""The vectors of the images that a file of examples is about, next to it.

NAME.jsonl (or NAME.jsonl.gz) has NAME.vectors.npy, a row for each image [N, D] in float16, and
NAME.vectors.json, written last: format version, the encoder's identity, and the ids of the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from igrag.data.coco import ImageId
from igrag.errors import DataError
from igrag.files import atomic_path, read_json, reserve_space, write_json
from igrag.inputs import check_regular
from igrag.retrieval.caption_table import ImageIds
from igrag.retrieval.image_encoder import EncoderIdentity

FORMAT = "igrag image vectors"
FORMAT_VERSION = 1
# Half the size of float32; a unit vector's values keep three digits, which is what 16-bit precision
# of the encoder itself leaves.
DTYPE = np.dtype("<f2")
_DTYPES = (DTYPE, np.dtype("<f4"))
_BLOCK = 1 << 22  # bytes copied at a time
_REMAKE = "build the examples again: python lora_training/data_builder.py --overwrite_output_dir"


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """Images as vectors.

    Attributes:
        name: Where they come from, for messages.
        image_ids: Their ids, N.
        vectors: Unit vectors [N, D] in float16 or float32, perhaps memory-mapped.
        encoder: What made them.
    """

    name: str
    image_ids: Sequence[ImageId]
    vectors: NDArray[np.floating[Any]]
    encoder: EncoderIdentity

    def row(self, image_id: str) -> int | None:
        """Returns the row of an image's vector, by its id as text; None if it is unknown."""
        if isinstance(self.image_ids, ImageIds):  # a knowledge base's, perhaps of millions
            return self.image_ids.row(image_id)
        return self._rows.get(image_id)

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {str(image_id): row for row, image_id in enumerate(self.image_ids)}


def vector_files(examples: Path) -> tuple[Path, Path]:
    """Returns both files that belong to a file of examples: vectors, and what they are."""
    name = examples.name.removesuffix(".gz").removesuffix(".jsonl")
    return examples.with_name(f"{name}.vectors.npy"), examples.with_name(f"{name}.vectors.json")


def save_vectors(
    examples: Path, rows: IO[bytes], image_ids: Sequence[ImageId], encoder: EncoderIdentity
) -> None:
    """Writes both files next to a file of examples.

    Args:
        examples: The file of examples, of which only the name is used.
        rows: The vectors as raw rows [N, D] of `DTYPE`, at their start.
        image_ids: The images' ids, N.
        encoder: What made the vectors.

    Raises:
        OutputError: The disk is full.
    """
    vectors, description = vector_files(examples)
    # Never a description of other vectors, wherever this is interrupted.
    description.unlink(missing_ok=True)
    shape = (len(image_ids), encoder.dimension)
    with atomic_path(vectors) as temporary, temporary.open("wb") as stream:
        header = {"descr": DTYPE.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        reserve_space(stream, shape[0] * shape[1] * DTYPE.itemsize)
        while block := rows.read(_BLOCK):
            stream.write(block)
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "encoder": encoder.to_json(),
        "image_ids": list(image_ids),
    }
    write_json(description, content)


def open_vectors(examples: Path) -> EncodedImages:
    """Opens the vectors next to a file of examples, memory-mapped.

    Raises:
        DataError: One of the files is missing or damaged, or they do not fit together.
    """
    vectors, description = vector_files(examples)
    content = read_json(description, expected=f"that of {vectors.name}; {_REMAKE}")
    problem = next(_problems(content), None)
    if problem is not None:
        raise DataError(f"{description}: {problem}; {_REMAKE}")
    encoder = EncoderIdentity.from_json(content["encoder"])
    image_ids = content["image_ids"]
    try:
        check_regular(vectors)
        found = np.load(vectors, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise DataError(f"{vectors}: missing or damaged ({error}); {_REMAKE}") from None
    expected = (len(image_ids), encoder.dimension)
    if not isinstance(found, np.ndarray) or found.dtype not in _DTYPES or found.shape != expected:
        raise DataError(
            f"{vectors}: expected {list(expected)} values in float16 or float32, as in "
            f"{description.name}; {_REMAKE}"
        )
    return EncodedImages(str(vectors), image_ids, found, encoder)


def _problems(content: Any) -> Iterator[str]:
    """Yields what is wrong with a description."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        yield "not the description of image vectors"
        return
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        yield f"format version {version!r}, expected {FORMAT_VERSION}"
    try:
        EncoderIdentity.from_json(content.get("encoder"))
    except ValueError as error:
        yield str(error)
    ids = content.get("image_ids")
    if not isinstance(ids, list) or not all(isinstance(each, int | str) for each in ids) or not ids:
        yield "image_ids are not a list of numbers or texts"
