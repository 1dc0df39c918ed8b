"""Captioned images in an Arrow file, which is written and read without holding all of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from igrag.data.coco import CaptionedImage, ImageId
from igrag.data.packed_entries import PackedEntry
from igrag.errors import DataError
from igrag.files import atomic_path
from igrag.inputs import short_reason

if TYPE_CHECKING:
    from pyarrow import Schema, Table

_ROWS = 8192  # of a record batch
_KEY = np.dtype("<i8")
_COLUMNS = ("image_id", "file_name", "captions")
_RANGE = ("offset", "size")  # of images inside of files


class EntryTable(Sequence[CaptionedImage]):
    """The images of a file that `write_entries` made, memory-mapped.

    Args:
        path: The file. A process that gets this object opens it again.

    Raises:
        DataError: It is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow

        self.path = path
        try:
            with pyarrow.memory_map(str(path)) as file:
                self._table: Table = pyarrow.ipc.open_file(file).read_all()
        except (OSError, pyarrow.ArrowInvalid) as error:
            reason = short_reason(error)
            raise DataError(
                f"{path}: cannot be read ({reason}), expected the file that the first process has "
                "written; all machines need one shared output folder"
            ) from error

    def __reduce__(self) -> tuple[type[EntryTable], tuple[Path]]:
        return EntryTable, (self.path,)

    def __len__(self) -> int:
        """Returns the number of images."""
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, index: int) -> CaptionedImage: ...
    @overload
    def __getitem__(self, index: slice) -> list[CaptionedImage]: ...
    def __getitem__(self, index: int | slice) -> CaptionedImage | list[CaptionedImage]:
        """Returns an image, or some."""
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        image_id, file_name, captions = (self._value(name, index) for name in _COLUMNS)
        return CaptionedImage(image_id, file_name, tuple(captions))

    def file_name(self, index: int) -> str:
        """Returns the file name of an image."""
        name: str = self._value("file_name", index)
        return name

    def range_in_file(self, index: int) -> tuple[int, int] | None:
        """Returns offset and size of an image inside of a file; None for one of its own."""
        if _RANGE[0] not in self._table.column_names:
            return None
        offset, size = (self._value(name, index) for name in _RANGE)
        return offset, size

    def rows(self, start: int, stop: int) -> Table:
        """Returns rows as a table of image_id, file_name and captions, without a copy."""
        return self._table.select(_COLUMNS).slice(start, stop - start)

    def _value(self, column: str, index: int) -> Any:
        return self._table.column(column)[index].as_py()


def write_entries(path: Path, entries: Iterable[CaptionedImage], *, source: Path) -> int:
    """Writes images as they come, a batch of them in memory.

    Args:
        path: The Arrow file to make, as a whole or not at all.
        entries: The images.
        source: Where they come from, for errors.

    Returns:
        How many there were.

    Raises:
        DataError: An id is repeated, or some are numbers and some are texts.
    """
    import pyarrow

    count, stream = 0, iter(entries)
    batch = list(islice(stream, _ROWS))
    schema = entries_schema(
        batch[0].image_id if batch else 0,
        in_files=bool(batch) and isinstance(batch[0], PackedEntry),
    )
    with atomic_path(path) as temporary, tempfile.TemporaryFile(dir=path.parent) as keys:
        with pyarrow.OSFile(str(temporary), "wb") as file, pyarrow.ipc.new_file(
            file, schema
        ) as output:  # fmt: skip
            while batch:
                output.write_batch(_record_batch(batch, schema, source))
                keys.write(_keys([entry.image_id for entry in batch]).tobytes())
                count += len(batch)
                batch = list(islice(stream, _ROWS))
        if count:
            _check_unique(temporary, keys, source)
    return count


def entries_schema(image_id: ImageId, *, in_files: bool = False) -> Schema:
    """Returns the columns of a table.

    Args:
        image_id: An id of the table's type.
        in_files: Whether the images are `PackedEntry`.
    """
    import pyarrow

    id_type = pyarrow.string() if isinstance(image_id, str) else pyarrow.int64()
    types = (id_type, pyarrow.string(), pyarrow.list_(pyarrow.string()))
    columns = dict(zip(_COLUMNS, types, strict=True))
    return pyarrow.schema(columns | (dict.fromkeys(_RANGE, pyarrow.int64()) if in_files else {}))


def to_table(entries: Sequence[CaptionedImage], schema: Schema | None = None) -> Table:
    """Returns images in memory as a table; its columns follow the first one's id by default."""
    import pyarrow

    schema = schema or entries_schema(entries[0].image_id)
    columns = {name: [getattr(entry, name) for entry in entries] for name in schema.names}
    return pyarrow.table(columns, schema)


def _record_batch(entries: Sequence[CaptionedImage], schema: Schema, source: Path) -> Any:
    import pyarrow

    try:
        return to_table(entries, schema).to_batches()[0]
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, TypeError):
        raise DataError(
            f"{source}: found ids that are numbers and ids that are texts, expected one type"
        ) from None


def _keys(image_ids: Sequence[ImageId]) -> NDArray[np.int64]:
    """Returns a number for each id: itself, or eight bytes of a hash of the text."""
    if not isinstance(image_ids[0], str):
        return np.array(image_ids, _KEY)
    digests = b"".join(blake2b(str(each).encode(), digest_size=8).digest() for each in image_ids)
    return np.frombuffer(digests, _KEY)


def _check_unique(table: Path, keys: IO[bytes], source: Path) -> None:
    """Finds repeated ids by sorting their keys in a file: a set of all would fill the memory."""
    keys.flush()
    order = np.memmap(keys, _KEY, "r+")
    order.sort()
    repeated = np.unique(order[1:][order[1:] == order[:-1]])
    if not len(repeated):
        return
    seen: set[ImageId] = set()
    for image_id in _image_ids(table):
        if not np.isin(_keys([image_id]), repeated).all():
            continue
        if image_id in seen:  # Two texts may share a hash.
            raise DataError(f"{source}: the id {image_id!r} is there twice")
        seen.add(image_id)


def _image_ids(table: Path) -> Iterator[ImageId]:
    import pyarrow

    with pyarrow.memory_map(str(table)) as file:
        reader = pyarrow.ipc.open_file(file)
        for index in range(reader.num_record_batches):
            yield from reader.get_batch(index).column("image_id").to_pylist()
