"""The captions of a knowledge base, memory-mapped: row n belongs to vector n.

The folder is one that `datasets` saved: Arrow files in its streaming format, named in state.json.
It is read with pyarrow alone, because importing datasets takes longer than captioning an image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import NDArray

from igrag.data.coco import ImageId
from igrag.errors import DataError
from igrag.files import read_json

if TYPE_CHECKING:
    from pyarrow import ChunkedArray, Table

COLUMNS = ("image_id", "file_name", "captions")
_STATE = "state.json"


class CaptionTable:
    """A table of image_id, file_name and captions; made by `open`.

    Args:
        table: The table.

    Raises:
        ValueError: An image id is repeated.
    """

    def __init__(self, table: Table) -> None:
        self.image_ids = ImageIds(table.column("image_id"))
        self._captions = table.column("captions")

    @classmethod
    def open(cls, folder: Path) -> CaptionTable:
        """Memory-maps the files of a folder.

        Raises:
            DataError: state.json is missing or damaged.
            OSError: A file is missing, or pyarrow cannot read it; also its own ArrowInvalid.
            ValueError: A column is missing, or an image id is repeated.
        """
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
        return cls(table)

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


class ImageIds(Sequence[ImageId]):
    """The ids of the rows, numbers or texts; numbers stay in Arrow, whatever their number.

    Args:
        column: The column of ids.

    Raises:
        ValueError: An id is repeated.
    """

    def __init__(self, column: ChunkedArray) -> None:
        self._column = column
        self._numbers: NDArray[np.int64] | None = None
        self._row_of_text: dict[str, int] = {}
        if str(column.type) == "int64":
            self._numbers = _numbers(column)
            # Four bytes an id where a dictionary has a hundred.
            self._order = np.argsort(self._numbers).astype(np.int32)
            ordered = self._numbers[self._order]
            repeated = bool((ordered[1:] == ordered[:-1]).any())
        else:
            texts = column.to_pylist()
            self._row_of_text = {text: row for row, text in enumerate(texts)}
            repeated = len(self._row_of_text) != len(texts)
        if repeated:
            raise ValueError("image ids are repeated")

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
        if self._numbers is None:
            return self._row_of_text.get(text)
        try:
            number = int(text)
        except ValueError:
            return None
        if str(number) != text or abs(number) > np.iinfo(np.int64).max:
            return None
        index = int(np.searchsorted(self._numbers, number, sorter=self._order))
        if index == len(self._order) or self._numbers[self._order[index]] != number:
            return None
        return int(self._order[index])


def _numbers(column: ChunkedArray) -> NDArray[np.int64]:
    """Returns a column of int64 without a copy where it is one chunk."""
    # Not to_numpy(): it imports pandas.
    chunks = [
        np.frombuffer(chunk.buffers()[1], np.int64)[chunk.offset : chunk.offset + len(chunk)]
        for chunk in column.chunks
    ]
    return chunks[0] if len(chunks) == 1 else np.concatenate([*chunks, np.empty(0, np.int64)])
