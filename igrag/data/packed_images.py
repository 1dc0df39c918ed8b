"""Images inside of larger files: tar files as WebDataset reads them, and Parquet and Arrow tables.

Each is read where it lies, by its offset in the file: nothing is unpacked to the disk.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from igrag.data.images import read_image
from igrag.errors import DataError, ImageError
from igrag.inputs import check_regular, short_reason

if TYPE_CHECKING:
    from PIL.Image import Image
    from pyarrow import Schema, Table

_MOST_BYTES = 1 << 28  # of an encoded image
_OPEN = 4  # files kept open by each process
# Columns that may hold images; `datasets` writes a struct of bytes and path.
_COLUMNS = ("image", "jpg", "jpeg", "png", "webp", "img", "bytes", "image_bytes")


@dataclass(frozen=True, slots=True)
class PackedImage:
    """An image inside of a file.

    Attributes:
        file: The tar file or table.
        name: The image in errors.
        offset: Its first byte in a tar file, its row in a table.
        size: Its bytes in a tar file.
    """

    file: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return self.name

    def open(self, *, shortest_edge: int | None = None) -> Image:
        """Reads it as `open_image` does.

        Raises:
            ImageError: The file is gone or another one, or these bytes are no image.
        """
        try:
            # Not shared with a forked process: a table's reader is no plain file.
            content = _opened(self.file, os.getpid())(self.offset, self.size)
        except Exception as error:  # Readers of damaged tables raise nearly anything.
            raise ImageError(f"{self.name}: {self.file.name} cannot be read ({error})") from None
        if content is None:
            raise ImageError(f"{self.name}: the row has no bytes of an image")
        return read_image(BytesIO(content), self.name, shortest_edge=shortest_edge)


_Read = Callable[[int, int], bytes | None]


@lru_cache(_OPEN)
def _opened(file: Path, process: int) -> _Read:
    """Returns what reads an image of a file: its bytes by offset and size."""
    return _READERS[file.suffix](file)


def _tar_reader(file: Path) -> _Read:
    stream = file.open("rb")

    def read(offset: int, size: int) -> bytes:
        if size > _MOST_BYTES:
            raise DataError(f"{size:,} bytes, expected at most {_MOST_BYTES:,}")
        return os.pread(stream.fileno(), size, offset)

    return read


def _arrow_reader(file: Path) -> _Read:
    table = arrow_table(file)
    column = table.column(image_column(table.schema, file))
    return lambda row, _: _content(column[row])


def _parquet_reader(file: Path) -> _Read:
    """Keeps one group of rows in memory, which neighbors share."""
    from pyarrow.parquet import ParquetFile

    table = ParquetFile(file, memory_map=True)
    groups = range(table.num_row_groups)
    starts = [0, *accumulate(table.metadata.row_group(group).num_rows for group in groups)]
    name = image_column(table.schema_arrow, file)

    @lru_cache(1)
    def group_rows(group: int) -> Any:
        return table.read_row_group(group, columns=[name], use_threads=False).column(0)

    def read(row: int, _: int) -> bytes | None:
        group = bisect_right(starts, row) - 1
        return _content(group_rows(group)[row - starts[group]])

    return read


_READERS: dict[str, Callable[[Path], _Read]] = {
    ".tar": _tar_reader,
    ".parquet": _parquet_reader,
    ".arrow": _arrow_reader,
}


def image_files(path: Path) -> list[Path]:
    """Returns the files at a path that may hold images, sorted; none for a folder of images.

    Args:
        path: Such a file, or a folder of them.
    """
    if path.suffix in _READERS and path.is_file():
        return [path]
    if not path.is_dir():
        return []
    # `datasets` keeps the results of its functions as cache-*.arrow next to a table.
    return sorted(
        file for file in path.iterdir()
        if file.suffix in _READERS and not file.name.startswith((".", "cache-")) and file.is_file()
    )  # fmt: skip


def arrow_table(file: Path) -> Table:
    """Opens an Arrow file, of a stream as `datasets` writes it or of Arrow's file format.

    Raises:
        DataError: It is neither.
    """
    import pyarrow

    try:
        check_regular(file)
        source = pyarrow.memory_map(str(file))
        try:
            return pyarrow.ipc.open_file(source).read_all()
        except pyarrow.ArrowInvalid:
            source.seek(0)
            return pyarrow.ipc.open_stream(source).read_all()
    except (OSError, pyarrow.ArrowException) as error:
        reason = short_reason(error)
        raise DataError(f"{file}: cannot be read as Arrow ({reason})") from error


def image_column(schema: Schema, file: Path) -> str:
    """Returns the column of a table that holds the bytes of images.

    Raises:
        DataError: There is none.
    """
    for name in _COLUMNS:
        if name in schema.names and _holds_bytes(schema.field(name).type):
            return name
    raise DataError(
        f"{file}: found the columns {', '.join(schema.names)}, expected one of bytes called "
        f"{', '.join(_COLUMNS)}"
    )


def _holds_bytes(data_type: Any) -> bool:
    from pyarrow import types

    if types.is_struct(data_type):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in data_type)
    return bool(types.is_binary(data_type) or types.is_large_binary(data_type))


def _content(value: Any) -> bytes | None:
    found = value.as_py()
    return found.get("bytes") if isinstance(found, dict) else found
