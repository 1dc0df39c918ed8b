"""Lists captioned images in tar files, as WebDataset reads them, and in Parquet and Arrow tables.

- In a tar file, members whose names are alike up to the first dot belong together: an image, its
  captions as the lines of a .txt, or in a .json, as img2dataset writes both
- A row of a table has an image, as `datasets` writes it, its captions, and perhaps an id
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from igrag.data.caption_streams import CAPTIONS, IDS, captioned_image
from igrag.data.coco import CaptionedImage
from igrag.data.images import SUFFIXES
from igrag.data.jsonl import BadLineError, parse_object
from igrag.data.packed_images import arrow_table, image_column, image_files
from igrag.errors import DataError
from igrag.inputs import check_regular, short_reason

if TYPE_CHECKING:
    from pyarrow import Schema

_MOST_TEXT = 1 << 20  # bytes of the captions of an image
_ROWS = 4096
_NAMES = ("file_name", "filename")


@dataclass(frozen=True, slots=True)
class PackedEntry(CaptionedImage):
    """A captioned image inside of a file; its file name is FILE/NAME.

    Attributes:
        offset: See `PackedImage`.
        size: Likewise.
    """

    offset: int = field(kw_only=True)
    size: int = field(kw_only=True)


def stream_packed(path: Path) -> Iterator[PackedEntry]:
    """Yields the images of a tar file or table, or of a folder of them, in the order of names.

    Raises:
        DataError: A file is damaged, or has no images.
    """
    for file in image_files(path):
        yield from _members(file) if file.suffix == ".tar" else _rows(file)


def _entry(row: Mapping[str, Any], where: str, *, offset: int, size: int) -> PackedEntry:
    found = captioned_image(row, where)
    return PackedEntry(found.image_id, found.file_name, found.captions, offset=offset, size=size)


def _members(file: Path) -> Iterator[PackedEntry]:
    try:
        check_regular(file)
        with tarfile.open(file, "r:") as archive:
            for key, group in groupby(archive, key=lambda member: _split(member.name)[0]):
                yield from _of_key(file, archive, key, list(group))
                archive.members = []  # type: ignore[attr-defined] # It keeps all it has read.
    except (OSError, tarfile.TarError, EOFError) as error:
        reason = short_reason(error)
        raise DataError(
            f"{file}: cannot be read as a tar file that is not compressed ({reason})"
        ) from None


def _of_key(
    file: Path, archive: tarfile.TarFile, key: str, members: list[tarfile.TarInfo]
) -> Iterator[PackedEntry]:
    """Yields the image of some members, if there is one."""
    files = {
        _split(member.name)[1]: member
        for member in members
        if member.isreg() and not member.issparse()
    }
    image = next((files[suffix] for suffix in files if f".{suffix}" in SUFFIXES), None)
    if image is None:
        return
    row: dict[str, Any] = {"id": key}
    if "json" in files:
        try:
            row |= parse_object(_text(file, archive, files["json"]))
        except BadLineError as error:
            raise DataError(f"{file}: {files['json'].name}: {error}") from None
    if "txt" in files:
        try:
            lines = _text(file, archive, files["txt"]).decode("utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise DataError(f"{file}: {files['txt'].name}: not UTF-8") from None
        row |= {"captions": lines}
    row |= {"file_name": f"{file.name}/{image.name}"}
    yield _entry(row, f"{file}: {image.name}", offset=image.offset_data, size=image.size)


def _split(name: str) -> tuple[str, str]:
    """Returns the key of a member, and the rest of its name in lower case, without the dot."""
    folder, slash, last = name.rpartition("/")
    stem, _, suffix = last.partition(".")
    return f"{folder}{slash}{stem}", suffix.lower()


def _text(file: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    if stream is None or member.size > _MOST_TEXT:
        raise DataError(
            f"{file}: {member.name}: found {member.size:,} bytes, expected at most {_MOST_TEXT:,}"
        )
    return stream.read()


def _rows(file: Path) -> Iterator[PackedEntry]:
    for number, row in enumerate(_columns(file)):
        name = next((row[key] for key in _NAMES if row.get(key)), None)
        if name is not None and not any(row.get(key) is not None for key in IDS):
            row["id"] = str(PurePosixPath(str(name)).with_suffix(""))
        row["file_name"] = f"{file.name}/{number}"
        yield _entry(row, f"{file}: row {number}", offset=number, size=0)


def _columns(file: Path) -> Iterator[dict[str, Any]]:
    """Yields the rows of a table without their images."""
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        check_regular(file)
        if file.suffix == ".arrow":
            table = arrow_table(file)
            batches = table.select(_known(table.schema, file)).to_batches(_ROWS)
        else:
            opened = ParquetFile(file, memory_map=True)
            batches = opened.iter_batches(_ROWS, columns=_known(opened.schema_arrow, file))
        for batch in batches:
            yield from batch.to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        reason = short_reason(error)
        raise DataError(f"{file}: cannot be read as a table ({reason})") from error


def _known(schema: Schema, file: Path) -> list[str]:
    """Returns the columns that are read."""
    image_column(schema, file)
    if not set(CAPTIONS).intersection(schema.names):
        raise DataError(
            f"{file}: found the columns {', '.join(schema.names)}, expected one of captions called "
            f"{', '.join(CAPTIONS)}"
        )
    known = {*IDS, *CAPTIONS, *_NAMES}
    return [name for name in schema.names if name in known]
