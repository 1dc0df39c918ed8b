"""Finds prompts that give their own answer away."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from igrag.caption_data import iter_examples
from igrag.coco import ImageId

_WORD = re.compile(r"\w+(?:['’]\w+)*")


@dataclass(frozen=True, slots=True)
class Leak:
    """An example whose prompt holds its target or one of its references word for word."""

    number: int
    image_id: ImageId | None
    caption: str


def normalise(text: str) -> str:
    """Keeps the words alone: lower case, no punctuation, one space around each."""
    return f" {' '.join(_WORD.findall(text.lower()))} "


def contains_caption(text: str, caption: str) -> bool:
    """Tells whether `text` holds `caption` word for word; case and punctuation do not count."""
    words = normalise(caption)
    return bool(words.strip()) and words in normalise(text)


def audit_leaks(path: Path) -> Iterator[Leak]:
    """Yields the leaks of a JSONL file, at most one an example.

    Raises:
        DataError: The file cannot be read (see `iter_examples`).
    """
    for number, example in enumerate(iter_examples(path), 1):
        for caption in dict.fromkeys((example.caption, *example.references)):
            if contains_caption(example.prompt, caption):
                yield Leak(number, example.image_id, caption)
                break
