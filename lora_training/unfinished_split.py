"""A JSONL file of examples that grows chunk by chunk, and can be continued after an interruption.

With it grows NAME.rows, the vectors of their images. NAME.progress.json records how far both are,
and is replaced after each chunk; what the files hold beyond that is cut off: a build may be killed
at any moment.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from igrag.files import naming_full_disk, read_json, write_json
from igrag.retrieval.image_encoder import EncoderIdentity
from igrag.retrieval.vector_files import DTYPE, save_vectors


@dataclass
class SplitProgress:
    """How far the building of a split has come.

    Attributes:
        images: Images that were dealt with, in order.
        size: Bytes of the file.
        rows_size: Bytes of the vectors.
        written: Examples in it.
        reused: Vectors that came from the knowledge base.
        skipped: Why images have no vector.
        objects_skipped: Why images have no objects.
        unlisted: Images that the instances file does not list.
    """

    images: int = 0
    size: int = 0
    rows_size: int = 0
    written: int = 0
    reused: int = 0
    skipped: list[str] = field(default_factory=list)
    objects_skipped: list[str] = field(default_factory=list)
    unlisted: int = 0


class UnfinishedSplit:
    """The file with its vectors and its progress; a context manager that closes both.

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
        self._closing = stack = ExitStack()
        self._file: IO[bytes] = stack.enter_context(path.open("ab"))
        self._rows: IO[bytes]
        if resumable:
            self._rows = stack.enter_context(path.with_suffix(".rows").open("a+b"))
        else:
            self._rows = stack.enter_context(TemporaryFile("a+b"))  # noqa: SIM115 (it is closed)
        done = self.progress
        is_moved = _size(self._file) < done.size or _size(self._rows) < done.rows_size
        if is_moved or (done.written and not done.rows_size):  # An earlier version kept no vectors.
            done = self.progress = SplitProgress()
        self._file.truncate(done.size)
        self._rows.truncate(done.rows_size)

    def __enter__(self) -> "UnfinishedSplit":
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.close()

    def append(
        self,
        examples: Iterable[Mapping[str, Any]],
        vectors: NDArray[np.floating[Any]],
        *,
        images: int,
    ) -> None:
        """Adds the examples of the next images.

        Args:
            examples: At most one for each image, as plain JSON data.
            vectors: The vector of each example's image, [examples, D].
            images: The number of images.

        Raises:
            OutputError: The disk is full.
        """
        lines = [json.dumps(example, ensure_ascii=False) + "\n" for example in examples]
        content, rows = "".join(lines).encode(), vectors.astype(DTYPE).tobytes()
        with naming_full_disk(self._path):
            for file, added in ((self._file, content), (self._rows, rows)):
                file.write(added)
                file.flush()
        self.progress.images += images
        self.progress.rows_size += len(rows)
        self.progress.size += len(content)
        self.progress.written += len(lines)

    def save_progress(self) -> None:
        """Records the progress, after the counts that others make were entered."""
        if self._record is not None:
            write_json(self._record, asdict(self.progress))

    def save_vectors(self, examples: Path, encoder: EncoderIdentity) -> None:
        """Writes the vectors of all examples, once they are complete, see `save_vectors`.

        Args:
            examples: The file that the examples will be in, next to which the vectors go.
            encoder: What made them.
        """
        with self._path.open(encoding="utf-8", newline="\n") as lines:
            image_ids = [json.loads(line)["image_id"] for line in lines]
        self._rows.seek(0)
        save_vectors(examples, self._rows, image_ids, encoder)


def _size(file: IO[bytes]) -> int:
    return file.seek(0, 2)
