"""Reads files of one JSON object a line, strictly; a line at a time is held in memory."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from igrag.data.coco import ImageId
from igrag.errors import DataError
from igrag.files import is_whole, json_type_name
from igrag.inputs import InvalidJsonError, open_input, parse_json

_BOM = b"\xef\xbb\xbf"


class BadLineError(ValueError):
    """One line is invalid."""


def iter_lines(path: Path, *, fix: str) -> Iterator[tuple[int, bytes]]:
    """Yields the lines that are not blank with their numbers, from 1.

    A byte order mark and CRLF are fine. A file whose name ends in .gz is decompressed.

    Args:
        path: The file.
        fix: What to do where there is no such file, for the error.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        with open_input(path) as file, _unpacked(file, path) as stream:
            for number, raw in enumerate(stream, 1):
                line = raw.removeprefix(_BOM) if number == 1 else raw
                if line.strip():
                    yield number, line
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; {fix}") from None
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path}: not a whole gzip file: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def parse_object(line: bytes) -> dict[str, Any]:
    """Parses a line.

    Raises:
        BadLineError: It is not UTF-8, not JSON, or no object.
    """
    try:
        content = parse_json(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadLineError(f"not UTF-8 (byte {error.start} of the line)") from None
    except InvalidJsonError as error:
        raise BadLineError(f"not valid JSON ({error})") from None
    if not isinstance(content, dict):
        raise BadLineError(f"found {json_type_name(content)}, expected an object")
    return content


def text_of(content: dict[str, Any], key: str) -> str:
    """Returns a text that a line must have; errors as `parse_object`'s."""
    if key not in content:
        known = ", ".join(sorted(content)) or "nothing"
        raise BadLineError(f'"{key}" is missing, found {known}')
    value = content[key]
    if not isinstance(value, str):
        raise BadLineError(f'"{key}" is {json_type_name(value)}, expected text')
    if not value.strip():
        raise BadLineError(f'"{key}" is empty')
    return whole_text(value, key)


def whole_text(value: str, key: str) -> str:
    """Returns a text without half a surrogate pair; errors as `parse_object`'s."""
    if not is_whole(value):
        raise BadLineError(f'"{key}" has half a surrogate pair, expected whole characters')
    return value


def id_of(content: dict[str, Any], key: str) -> ImageId | None:
    """Returns an id, a whole number or text; None without one. Errors as `parse_object`'s."""
    value = content.get(key)
    if isinstance(value, str):
        return whole_text(value, key)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise BadLineError(f'"{key}" is {json_type_name(value)}, expected a whole number or text')


def _unpacked(file: BinaryIO, path: Path) -> BinaryIO | gzip.GzipFile:
    return gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
