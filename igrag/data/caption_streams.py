"""Captioned images as they are read: of files that would not fit into memory, image by image.

- Large COCO files, with ijson; small ones are read whole by `igrag.data.coco`
- JSONL (perhaps .gz), CSV with a head, and Parquet: a row for each image, with file_name, captions
  (or caption, or text) and perhaps id
"""

from __future__ import annotations

import csv
import json
import logging
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from igrag.data.coco import (
    CaptionedImage,
    ImageId,
    checked_file_name,
    checked_id,
    checked_text,
    is_usable,
    read_captions,
    warn_of_skipped,
)
from igrag.data.jsonl import BadLineError, iter_lines, parse_object
from igrag.errors import DataError
from igrag.inputs import check_regular, open_input, short_reason

LARGE = (
    64 << 20
)  # bytes of a COCO file that is read in pieces; in memory it takes ten times as many
# What a row may call its id and its captions, the first one that is there.
IDS = ("id", "image_id", "cocoid", "imgid", "img_id")
CAPTIONS = ("captions", "caption", "text", "sentences")
_ROWS = 4096
logger = logging.getLogger(__name__)


def stream_captions(
    path: Path, *, split: str | None = None, keep_rejected: bool = False
) -> Iterator[CaptionedImage]:
    """Returns the images of a file of captions, in its order.

    Args:
        path: The file.
        split: See `read_captions`.
        keep_rejected: See `read_captions`.

    Raises:
        DataError: At once if there is no such file, or while it is read.
        UsageError: See `read_captions`.
    """
    name = path.name.removesuffix(".gz")
    if name.endswith(".jsonl"):
        return _from_rows(_lines(path))
    if name.endswith(".parquet"):
        return _from_rows(_parquet(path))
    if name.endswith(".csv") and _has_file_names(path):
        return _from_rows(_table(path))
    if path.is_file() and path.stat().st_size >= LARGE and split is None:
        try:
            import ijson  # noqa: F401 (an extra)
        except ImportError:
            logger.info("%s: read as a whole; pip install ijson reads it in pieces", path)
        else:
            return _from_coco(path, keep_rejected)
    return iter(read_captions(path, split=split, keep_rejected=keep_rejected))


def captioned_image(row: Mapping[str, Any], where: str) -> CaptionedImage:
    """Returns the image of a row; its name without the suffix is its id where it has none.

    Args:
        row: file_name, one of `CAPTIONS` (a text or a list), and perhaps one of `IDS`.
        where: The row, for an error.

    Raises:
        DataError: Something is missing or of another type.
    """
    name = checked_file_name(row, where)
    image_id: ImageId = str(PurePosixPath(name).with_suffix(""))
    if (key := next((key for key in IDS if row.get(key) is not None), None)) is not None:
        image_id = checked_id(row, key, where)
    key = next((key for key in CAPTIONS if row.get(key) is not None), CAPTIONS[0])
    found = row.get(key, [])
    texts = found if isinstance(found, list) else [found]
    captions = (" ".join(checked_text({"caption": text}, "caption", where).split())
                for text in texts)  # fmt: skip
    return CaptionedImage(image_id, name, tuple(text for text in captions if text))


def _from_rows(rows: Iterator[tuple[str, Mapping[str, Any]]]) -> Iterator[CaptionedImage]:
    return (captioned_image(row, where) for where, row in rows)


def _lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in iter_lines(path, fix="check --captions"):
        try:
            yield f"{path}:{number}", parse_object(line)
        except BadLineError as error:
            raise DataError(f"{path}:{number}: {error}") from None


def _has_file_names(path: Path) -> bool:
    """Returns whether a table is not one of Flickr's, which have names of their own."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return "file_name" in next(csv.reader(stream), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return False  # The other reader reports it.


def _table(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields the images of a table; rows of one image follow one another."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream)
            for _, group in groupby(rows, key=lambda row: row["file_name"]):
                where = f"{path}:{rows.line_num}"
                same = list(group)
                key = next((key for key in CAPTIONS if key in same[0]), CAPTIONS[0])
                yield where, {**same[0], "captions": [row[key] or "" for row in same]}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise DataError(f"{path}: cannot be read as a table ({error})") from None


def _parquet(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    known = {*IDS, *CAPTIONS, "file_name"}
    try:
        check_regular(path)
        with pyarrow.parquet.ParquetFile(path, memory_map=True) as file:
            columns = [name for name in file.schema_arrow.names if name in known]
            number = 0
            for batch in file.iter_batches(_ROWS, columns=columns):
                for row in batch.to_pylist():
                    yield f"{path}: row {number}", row
                    number += 1
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check --captions") from None
    except (OSError, pyarrow.ArrowException) as error:
        reason = short_reason(error)
        raise DataError(f"{path}: cannot be read as Parquet ({reason})") from error


def _from_coco(path: Path, keep_rejected: bool) -> Iterator[CaptionedImage]:
    """Yields the images of a COCO file: its two lists are joined in a database on the disk."""
    database = sqlite3.connect("")  # a temporary file of SQLite's own, which it removes
    try:
        database.execute("PRAGMA journal_mode = OFF")  # Nobody reads it after an error.
        database.execute("CREATE TABLE images (row INTEGER PRIMARY KEY, id TEXT UNIQUE, "
                         "is_text INTEGER, file_name TEXT)")  # fmt: skip
        database.execute("CREATE TABLE captions (row INTEGER, caption TEXT)")
        count = _add_images(database, path)
        if not count:
            raise DataError(f"{path}: lists no images")
        warn_of_skipped(path, _add_captions(database, path, keep_rejected))
        yield from _joined(database)
    finally:
        database.close()


def _add_images(database: sqlite3.Connection, path: Path) -> int:
    count = 0
    for index, image in enumerate(_items(path, "images")):
        image_id = checked_id(image, "id", f"{path}: images[{index}]")
        name = checked_file_name(image, f"{path}: image {image_id}")
        row = (index, str(image_id), isinstance(image_id, str), name)
        try:
            database.execute("INSERT INTO images VALUES (?, ?, ?, ?)", row)
        except sqlite3.IntegrityError:
            raise DataError(
                f"{path}: images[{index}]: the id {image_id!r} is there twice"
            ) from None
        count += 1
    return count


def _add_captions(
    database: sqlite3.Connection, path: Path, keep_rejected: bool
) -> Mapping[str, int]:
    """Adds the captions of listed images; returns how many were left out, by why."""
    skipped: Counter[str] = Counter()
    find = "SELECT row FROM images WHERE id = ?"
    for index, annotation in enumerate(_items(path, "annotations")):
        where = f"{path}: annotations[{index}]"
        image_id = checked_id(annotation, "image_id", where)
        text = " ".join(checked_text(annotation, "caption", where).split())
        row = database.execute(find, (str(image_id),)).fetchone()
        if is_usable(annotation, text, row is not None, keep_rejected, skipped):
            database.execute("INSERT INTO captions VALUES (?, ?)", (row[0], text))
    return skipped


def _joined(database: sqlite3.Connection) -> Iterator[CaptionedImage]:
    """Yields the images in their order, each with its captions in theirs."""
    types = database.execute("SELECT COUNT(DISTINCT is_text), MAX(is_text) FROM images").fetchone()
    are_texts = types[0] > 1 or types[1]  # A column of Arrow's has one type.
    captions = database.execute("SELECT row, caption FROM captions ORDER BY row, rowid")
    groups = groupby(captions, key=lambda found: found[0])
    row, group = next(groups, (None, iter(())))
    for number, image_id, name in database.execute(
        "SELECT row, id, file_name FROM images ORDER BY row"
    ):
        texts: tuple[str, ...] = ()
        if row == number:
            texts = tuple(text for _, text in group)
            row, group = next(groups, (None, iter(())))
        yield CaptionedImage(image_id if are_texts else int(image_id), name, texts)


def _items(path: Path, key: str) -> Iterator[Any]:
    """Yields the elements of a list of a JSON object, one at a time."""
    import ijson

    try:
        with open_input(path) as stream:
            yield from ijson.items(stream, f"{key}.item", use_float=True)
    except (ijson.JSONError, UnicodeDecodeError, json.JSONDecodeError) as error:
        reason = " ".join(str(error).split())[:100]
        raise DataError(f"{path}: not valid JSON: {reason}; make it again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
