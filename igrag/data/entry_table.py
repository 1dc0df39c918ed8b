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
from igrag.errors import DataError
from igrag.files import atomic_path

if TYPE_CHECKING:
    from pyarrow import Schema, Table

_ROWS = 8192  # of a record batch
_KEY = np.dtype("<i8")


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
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:100]
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
        image_id, file_name, captions = (column[index].as_py() for column in self._table.columns)
        return CaptionedImage(image_id, file_name, tuple(captions))

    def file_name(self, index: int) -> str:
        """Returns the file name of an image."""
        name: str = self._table.column("file_name")[index].as_py()
        return name

    def rows(self, start: int, stop: int) -> Table:
        """Returns rows as a table of image_id, file_name and captions, without a copy."""
        return self._table.slice(start, stop - start)


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
    schema = entries_schema(batch[0].image_id if batch else 0)
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


def entries_schema(image_id: ImageId) -> Schema:
    """Returns the columns of a table whose ids are of the type of this one."""
    import pyarrow

    return pyarrow.schema(
        {
            "image_id": pyarrow.string() if isinstance(image_id, str) else pyarrow.int64(),
            "file_name": pyarrow.string(),
            "captions": pyarrow.list_(pyarrow.string()),
        }
    )


def to_table(entries: Sequence[CaptionedImage], schema: Schema | None = None) -> Table:
    """Returns images in memory as a table; its columns follow the first one's id by default."""
    import pyarrow

    columns = {
        "image_id": [entry.image_id for entry in entries],
        "file_name": [entry.file_name for entry in entries],
        "captions": [list(entry.captions) for entry in entries],
    }
    return pyarrow.table(columns, schema or entries_schema(entries[0].image_id))


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
