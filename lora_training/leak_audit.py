"""Finds prompts that give their own answer away."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from igrag.data.coco import ImageId
from igrag.data.examples import iter_examples

# A line's end counts as a word: a caption that begins in one line does not go on in the next.
_WORD = re.compile(r"\w+(?:['’]\w+)*|\n")


@dataclass(frozen=True, slots=True)
class Leak:
    """An example whose prompt holds its target or one of its references word for word."""

    number: int
    image_id: ImageId | None
    caption: str


def find_caption(text: str, captions: Iterable[str]) -> str | None:
    """Returns the first of the captions that `text` holds word for word, or None.

    Case and punctuation do not count; a caption without any word is never found.
    """
    content = _normalize(text)
    return next(
        (caption for caption in captions if (words := _normalize(caption)) and words in content),
        None,
    )


def audit_leaks(path: Path) -> Iterator[Leak]:
    """Yields the leaks of a JSONL file, at most one an example.

    Raises:
        DataError: The file cannot be read (see `iter_examples`).
    """
    for number, example in enumerate(iter_examples(path), 1):
        caption = find_caption(example.prompt, (example.caption, *example.references))
        if caption is not None:
            yield Leak(number, example.image_id, caption)


@lru_cache(maxsize=1024)  # A image's references are looked for in many texts, one after another.
def _normalize(text: str) -> str:
    """Keeps the words and line ends: lower case, no punctuation, one space around each."""
    words = " ".join(_WORD.findall(text.lower().strip()))
    return f" {words} " if words else ""
