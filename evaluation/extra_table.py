"""A further table of an evaluation, below the main one: in table.md, terminal and report."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ExtraTable:
    """A table with a title.

    Attributes:
        title: A line above it.
        rows: Its rows, titles first; the first column is text, the others are figures.
        notes: What a reader of it must know, in sentences.
    """

    title: str
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
