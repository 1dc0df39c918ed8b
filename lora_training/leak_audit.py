"""Finds prompts that give their own answer away."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from igrag.caption_data import iter_examples
from igrag.coco import ImageId

# A line's end counts as a word: a caption that begins in one line does not go on in the next.
_WORD = re.compile(r"\w+(?:['’]\w+)*|\n")


@dataclass(frozen=True, slots=True)
class Leak:
    """An example whose prompt holds its target or one of its references word for word."""

    number: int
    image_id: ImageId | None
    caption: str


def normalise(text: str) -> str:
    """Keeps the words and line ends: lower case, no punctuation, one space around each.

    A caption stands word for word in a text if its normal form stands in the text's; the normal
    form of a caption without any word is "".
    """
    words = " ".join(_WORD.findall(text.lower().strip()))
    return f" {words} " if words else ""


def contains_caption(text: str, caption: str) -> bool:
    """Tells whether `text` holds `caption` word for word; case and punctuation do not count."""
    words = normalise(caption)
    return bool(words) and words in normalise(text)


def audit_leaks(path: Path) -> Iterator[Leak]:
    """Yields the leaks of a JSONL file, at most one an example.

    Raises:
        DataError: The file cannot be read (see `iter_examples`).
    """
    for number, example in enumerate(iter_examples(path), 1):
        prompt = normalise(example.prompt)
        for caption in dict.fromkeys((example.caption, *example.references)):
            words = normalise(caption)
            if words and words in prompt:
                yield Leak(number, example.image_id, caption)
                break
