"""Examples in JSONL: prompts and target captions, read strictly, with file:line in errors."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from igrag.data.coco import ImageId
from igrag.data.jsonl import (
    BadLineError,
    id_of,
    iter_lines,
    parse_object,
    text_of,
    whole_text,
)
from igrag.errors import DataError
from igrag.files import json_type_name

_FIX = "build it with python lora_training/data_builder.py"


@dataclass(frozen=True, slots=True)
class CaptionExample:
    """One example.

    Attributes:
        prompt: Input of the model.
        caption: Target caption.
        references: All captions of the image; the target alone if the data has no others.
        image_id: The image, if known.
        metadata: Anything else about the example.
        retrieved: What the line has as "retrieved", unchecked; see `igrag.data.retrieved`.
        line: Line number in its file, from 1; 0 for an example of no file.
    """

    prompt: str
    caption: str
    references: tuple[str, ...]
    image_id: ImageId | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    retrieved: Any = None
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
    for number, line in iter_lines(path, fix=_FIX):
        try:
            example = _parse(line)
        except BadLineError as problem:
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
    return sum(1 for _ in iter_lines(path, fix=_FIX))


def _parse(line: bytes) -> CaptionExample:
    content = parse_object(line)
    caption = text_of(content, "caption")
    return CaptionExample(
        prompt=text_of(content, "prompt"),
        caption=caption,
        references=_references(content.get("references"), caption),
        image_id=id_of(content, "image_id"),
        metadata=_metadata(content.get("metadata")),
        retrieved=content.get("retrieved"),
    )


def _references(value: object, caption: str) -> tuple[str, ...]:
    if value is None:
        return (caption,)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise BadLineError('"references" is not a list of texts')
    texts = tuple(whole_text(text, "references") for text in value if text.strip())
    if not texts:
        raise BadLineError('"references" is empty')
    return texts


def _metadata(value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadLineError(f'"metadata" is {json_type_name(value)}, expected an object')
    return value
