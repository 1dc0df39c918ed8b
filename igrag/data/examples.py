"""Examples in JSONL: prompts and target captions, read strictly, with file:line in errors."""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from igrag.data.coco import ImageId
from igrag.errors import DataError
from igrag.files import is_whole, json_type_name
from igrag.inputs import InvalidJsonError, open_input, parse_json

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class CaptionExample:
    """One example.

    Attributes:
        prompt: Input of the model.
        caption: Target caption.
        references: All captions of the image; the target alone if the data has no others.
        image_id: The image, if known.
        metadata: Anything else about the example.
        line: Line number in its file, from 1; 0 for an example of no file.
    """

    prompt: str
    caption: str
    references: tuple[str, ...]
    image_id: ImageId | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    line: int = field(default=0, compare=False)


def iter_examples(path: Path, *, skip_bad_lines: bool = False) -> Iterator[CaptionExample]:
    """Reads a JSONL file line by line; only one line is held in memory.

    Each line is {"prompt", "caption"} with optional "references", "image_id" and "metadata". A
    byte order mark, CRLF and blank lines are fine. A file whose name ends in .gz is decompressed.

    Args:
        path: The file.
        skip_bad_lines: Skip invalid lines; their number is `count_lines` minus what is read.

    Raises:
        DataError: The file cannot be read or has no example, or (file:line) a line is invalid.
    """
    skipped = read = 0
    for number, raw in enumerate(_read_lines(path), 1):
        line = raw.removeprefix(_BOM) if number == 1 else raw
        if not line.strip():
            continue
        try:
            example = _parse(line)
        except _BadLineError as problem:
            if not skip_bad_lines:
                raise DataError(f"{path}:{number}: {problem}") from None
            skipped += 1
            continue
        read += 1
        yield replace(example, line=number)
    if not read:
        what = f"all {skipped} lines are bad" if skipped else "is empty"
        raise DataError(
            f'{path}: {what}, expected lines like {{"prompt": "...", "caption": "..."}}'
        )


def split_file(folder: Path, split: str) -> Path:
    """Returns SPLIT.jsonl of a folder, or SPLIT.jsonl.gz if only that is there."""
    plain = folder / f"{split}.jsonl"
    packed = folder / f"{split}.jsonl.gz"
    return packed if packed.is_file() and not plain.exists() else plain


def count_lines(path: Path) -> int:
    """Returns the number of lines that should be examples: all but blank ones.

    Raises:
        DataError: The file cannot be read.
    """
    return sum(bool(line.removeprefix(_BOM).strip()) for line in _read_lines(path))


class _BadLineError(ValueError):
    """One line is invalid."""


def _read_lines(path: Path) -> Iterator[bytes]:
    try:
        with open_input(path) as file, _unpacked(file, path) as stream:
            yield from stream
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file; build it with python lora_training/data_builder.py"
        ) from None
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path}: not a whole gzip file: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def _unpacked(file: BinaryIO, path: Path) -> BinaryIO | gzip.GzipFile:
    return gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file


def _parse(line: bytes) -> CaptionExample:
    try:
        content = parse_json(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _BadLineError(f"not UTF-8 (byte {error.start} of the line)") from None
    except InvalidJsonError as error:
        raise _BadLineError(f"not valid JSON ({error})") from None
    if not isinstance(content, dict):
        raise _BadLineError(f"found {json_type_name(content)}, expected an object")
    caption = _text(content, "caption")
    return CaptionExample(
        prompt=_text(content, "prompt"),
        caption=caption,
        references=_references(content.get("references"), caption),
        image_id=_image_id(content.get("image_id")),
        metadata=_metadata(content.get("metadata")),
    )


def _text(content: dict[str, Any], key: str) -> str:
    if key not in content:
        known = ", ".join(sorted(content)) or "nothing"
        raise _BadLineError(f'"{key}" is missing, found {known}')
    value = content[key]
    if not isinstance(value, str):
        raise _BadLineError(f'"{key}" is {json_type_name(value)}, expected text')
    if not value.strip():
        raise _BadLineError(f'"{key}" is empty')
    return _whole(value, key)


def _whole(value: str, key: str) -> str:
    if not is_whole(value):
        raise _BadLineError(f'"{key}" has half a surrogate pair, expected whole characters')
    return value


def _references(value: object, caption: str) -> tuple[str, ...]:
    if value is None:
        return (caption,)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise _BadLineError('"references" is not a list of texts')
    texts = tuple(_whole(text, "references") for text in value if text.strip())
    if not texts:
        raise _BadLineError('"references" is empty')
    return texts


def _image_id(value: object) -> ImageId | None:
    if isinstance(value, str):
        return _whole(value, "image_id")
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise _BadLineError(f'"image_id" is {json_type_name(value)}, expected a whole number or text')


def _metadata(value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _BadLineError(f'"metadata" is {json_type_name(value)}, expected an object')
    return value
