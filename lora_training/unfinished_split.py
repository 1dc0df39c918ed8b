"""A JSONL file of examples that grows chunk by chunk, and can be continued after an interruption.

Next to NAME.jsonl, NAME.progress.json records how far it is, and is replaced after each chunk; what
the file holds beyond that is cut off: a build may be killed at any moment.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from igrag.files import naming_full_disk, read_json, write_json


@dataclass
class SplitProgress:
    """How far the building of a split has come.

    Attributes:
        images: Images that were dealt with, in order.
        size: Bytes of the file.
        written: Examples in it.
        reused: Vectors that came from the knowledge base.
        skipped: Why images have no vector.
        objects_skipped: Why images have no objects.
        unlisted: Images that the instances file does not list.
    """

    images: int = 0
    size: int = 0
    written: int = 0
    reused: int = 0
    skipped: list[str] = field(default_factory=list)
    objects_skipped: list[str] = field(default_factory=list)
    unlisted: int = 0


class UnfinishedSplit:
    """The file with its progress; a context manager that closes it.

    Args:
        path: The file, which is continued where its progress is recorded.
        resumable: Record the progress.
    """

    def __init__(self, path: Path, *, resumable: bool) -> None:
        self._path = path
        self._record = path.with_suffix(".progress.json") if resumable else None
        self.progress = SplitProgress()
        if self._record is not None and self._record.is_file():
            self.progress = SplitProgress(**read_json(self._record))
        self._file = path.open("ab")
        if path.stat().st_size < self.progress.size:  # It was moved, or lost.
            self.progress = SplitProgress()
        self._file.truncate(self.progress.size)

    def __enter__(self) -> "UnfinishedSplit":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def append(self, examples: Iterable[Mapping[str, Any]], *, images: int) -> None:
        """Adds the examples of the next images.

        Args:
            examples: At most one for each image, as plain JSON data.
            images: The number of images.

        Raises:
            OutputError: The disk is full.
        """
        lines = [json.dumps(example, ensure_ascii=False) + "\n" for example in examples]
        content = "".join(lines).encode()
        with naming_full_disk(self._path):
            self._file.write(content)
            self._file.flush()
        self.progress.images += images
        self.progress.size += len(content)
        self.progress.written += len(lines)

    def save_progress(self) -> None:
        """Records the progress, after the counts that others make were entered."""
        if self._record is not None:
            write_json(self._record, asdict(self.progress))
