"""The captions of a knowledge base, memory-mapped: row n belongs to vector n.

The folder is one that `datasets` saved: Arrow files in its streaming format, named in state.json.
It is read with pyarrow alone, because importing datasets takes longer than captioning an image.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

import numpy as np
from numpy.typing import NDArray

from igrag.data.coco import ImageId
from igrag.errors import DataError
from igrag.files import read_json
from igrag.retrieval.checksums import sampled_rows

if TYPE_CHECKING:
    from pyarrow import ChunkedArray, Table

COLUMNS = ("image_id", "file_name", "captions")
_STATE = "state.json"
_BLOCK = 1 << 20  # Ids compared at a time.


class CaptionTable:
    """A table of image_id, file_name and captions; made by `open`.

    Args:
        table: The table.
        id_order: See `ImageIds`.

    Raises:
        ValueError: An image id is repeated, or `id_order` is not theirs.
    """

    def __init__(self, table: Table, id_order: NDArray[Any] | None = None) -> None:
        self.image_ids = ImageIds(table.column("image_id"), id_order)
        self._captions = table.column("captions")

    @classmethod
    def open(cls, folder: Path, id_order: NDArray[Any] | None = None) -> CaptionTable:
        """Memory-maps the files of a folder.

        Args:
            folder: The folder.
            id_order: The rows in the order of their ids; None: it is found by sorting.

        Raises:
            DataError: state.json is missing or damaged.
            OSError: A file is missing, or pyarrow cannot read it; also its own ArrowInvalid.
            ValueError: A column is missing, or an image id is repeated.
        """
        return cls(open_table(folder), id_order)

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.image_ids)

    def of_row(self, row: int) -> tuple[str, ...]:
        """Returns the captions of the image in a row."""
        return tuple(self._captions[row].as_py())

    def __iter__(self) -> Iterator[str]:
        """Yields all captions, in the order of the rows."""
        for chunk in self._captions.chunks:
            yield from chunk.flatten().to_pylist()


def open_table(folder: Path) -> Table:
    """Memory-maps the Arrow files of a folder as one table; see `CaptionTable.open`."""
    import pyarrow

    state = read_json(folder / _STATE)
    try:
        names = [entry["filename"] for entry in state["_data_files"]]
    except (KeyError, TypeError) as error:
        raise DataError(f"{folder / _STATE}: names no files, found no {error}") from error
    if state.get("_indices_files"):
        raise ValueError("its rows are a selection of others")
    tables = []
    for name in names:
        with pyarrow.memory_map(str(folder / name)) as file:
            tables.append(pyarrow.ipc.open_stream(file).read_all())
    table = pyarrow.concat_tables(tables)
    if missing := [name for name in COLUMNS if name not in table.column_names]:
        raise ValueError(f"has no column {missing[0]}, expected {', '.join(COLUMNS)}")
    return table


class ImageIds(Sequence[ImageId]):
    """The ids of the rows, numbers or texts; they stay in Arrow, whatever their number.

    Args:
        column: The column of ids.
        order: The rows in the order of their ids, [N], perhaps memory-mapped; None: sort them.

    Raises:
        ValueError: An id is repeated, or `order` is not theirs.
    """

    def __init__(self, column: ChunkedArray, order: NDArray[np.unsignedinteger[Any]] | None = None):
        self._column = column
        self._are_numbers = str(column.type) == "int64"
        self._order = _sorted_when_opened(column) if order is None else order
        if order is not None and not self._has_order():
            raise ValueError("the order of the image ids is not theirs")

    def __len__(self) -> int:
        """Returns the number of rows."""
        return len(self._column)

    @overload
    def __getitem__(self, index: int) -> ImageId: ...
    @overload
    def __getitem__(self, index: slice) -> list[ImageId]: ...
    def __getitem__(self, index: int | slice) -> ImageId | list[ImageId]:
        """Returns the id of a row, or those of some rows."""
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        image_id: ImageId = self._column[index].as_py()
        return image_id

    def __iter__(self) -> Iterator[ImageId]:
        """Yields the ids in the order of the rows."""
        for chunk in self._column.chunks:
            yield from chunk.to_pylist()

    def row(self, image_id: object) -> int | None:
        """Returns the row of an id, given as a number or as its text; None if it is unknown."""
        text = str(image_id)
        key: ImageId = text
        if self._are_numbers:
            try:
                key = int(text)
            except ValueError:
                return None
            if str(key) != text:
                return None
        # Not np.searchsorted: it would copy the whole order.
        index = bisect_left(range(len(self)), key, key=self._sorted_id)
        if index == len(self) or self._sorted_id(index) != key:
            return None
        return int(self._order[index])

    def _sorted_id(self, index: int) -> Any:
        """Returns the id at a position of their order."""
        return self[int(self._order[index])]

    def _has_order(self) -> bool:
        """Returns whether the order is that of the ids, as far as some of them show."""
        is_unsigned = np.issubdtype(self._order.dtype, np.unsignedinteger)
        if self._order.shape != (len(self),) or not is_unsigned:
            return False
        sample = sampled_rows(len(self))
        if (self._order[sample] >= len(self)).any():
            return False
        found = [self._sorted_id(int(index)) for index in sample]
        return all(left < right for left, right in pairwise(found))


def sorted_rows(column: ChunkedArray) -> NDArray[np.unsignedinteger[Any]]:
    """Returns the rows in the order of their ids, numbers or texts, [N].

    Raises:
        ValueError: An id is repeated.
    """
    dtype: type[np.unsignedinteger[Any]]
    dtype = np.uint32 if len(column) <= np.iinfo(np.uint32).max else np.uint64
    if str(column.type) == "int64":
        numbers = _numbers(column)
        order = np.argsort(numbers, stable=True).astype(dtype)
        blocks = (numbers[order[start : start + _BLOCK + 1]] for start in _starts(len(order)))
        repeated = any((block[1:] == block[:-1]).any() for block in blocks)
    else:
        import pyarrow
        import pyarrow.compute as pc

        # One array with offsets of 64 bits: what is taken of many is copied as a whole first.
        texts = column.cast(pyarrow.large_string()).combine_chunks()
        indices = pc.sort_indices(texts)  # by UTF-8, which is the order of Python's texts
        taken = (texts.take(indices[start : start + _BLOCK + 1]) for start in _starts(len(indices)))
        repeated = any(pc.any(pc.equal(each[1:], each[:-1])).as_py() for each in taken)
        order = np.frombuffer(indices.buffers()[1], np.uint64)[: len(indices)].astype(dtype)
    if repeated:
        raise ValueError("image ids are repeated")
    return cast("NDArray[np.unsignedinteger[Any]]", order)


def _sorted_when_opened(column: ChunkedArray) -> NDArray[np.unsignedinteger[Any]]:
    """Sorts as `sorted_rows`, without pyarrow.compute, which takes long to import.

    For the tables of earlier versions, which have no file of the order.
    """
    if str(column.type) == "int64":
        return sorted_rows(column)
    texts = column.to_pylist()
    order = np.array(sorted(range(len(texts)), key=texts.__getitem__), np.uint32)
    if any(texts[left] == texts[right] for left, right in pairwise(order)):
        raise ValueError("image ids are repeated")
    return order


def _starts(count: int) -> range:
    return range(0, count, _BLOCK)


def _numbers(column: ChunkedArray) -> NDArray[np.int64]:
    """Returns a column of int64 without a copy where it is one chunk."""
    # Not to_numpy(): it imports pandas.
    chunks = [
        np.frombuffer(chunk.buffers()[1], np.int64)[chunk.offset : chunk.offset + len(chunk)]
        for chunk in column.chunks
    ]
    return chunks[0] if len(chunks) == 1 else np.concatenate([*chunks, np.empty(0, np.int64)])
