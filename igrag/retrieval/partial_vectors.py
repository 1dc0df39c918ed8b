"""The vectors of an unfinished knowledge base, kept on disk so that a build can be resumed.

Next to the output, `NAME.partial/` holds `vectors.f32` (raw rows), `skipped.jsonl` (a line
for each image without one) and `progress.json` (what is being built, and how far it is). Both
files are appended to and flushed before the progress is replaced, and what is beyond
the recorded progress is cut off on resuming: a build may be killed at any moment. `.lock` keeps a
second build out while the first one lives; the system frees it with the process, however that ends.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from igrag.errors import DataError, KnowledgeBaseError
from igrag.files import read_json, write_json
from igrag.output_lock import LOCK_NAME, held_since, lock_file

FORMAT = "igrag unfinished knowledge base 2"
PROGRESS, VECTORS, SKIPPED = "progress.json", "vectors.f32", "skipped.jsonl"


class PartialVectors:
    """Append-only rows [n, D] with the record of how many of the planned images they cover.

    A context manager: it closes the files and releases the lock.
    """

    def __init__(self, folder: Path, *, inputs: Mapping[str, Any], dimension: int) -> None:
        """Continues what the folder holds if it was made from the same inputs, else starts again.

        Args:
            folder: Made if missing; one with other files is refused.
            inputs: JSON data that decides the vectors and their order.
            dimension: Length D of a vector.

        Raises:
            KnowledgeBaseError: The folder is not an unfinished build.
            OutputError: Another build is writing there.
        """
        self.folder = folder
        self._inputs = dict(inputs)
        self._dimension = dimension
        self.processed = 0  # planned images dealt with, in order: encoded or skipped
        self.skipped: dict[int, str] = {}  # index in the plan -> reason
        self.restarted = False
        _check_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = ExitStack()
        self._lock.enter_context(lock_file(folder / LOCK_NAME, output=folder, option="--output"))
        try:
            self._skipped_bytes = self._resume()
            self._save()  # First of all: a folder with other files and no record is refused.
            self._file = _open(folder / VECTORS, self._rows * self._row_bytes)
            self._skipped_file = _open(folder / SKIPPED, self._skipped_bytes)
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> PartialVectors:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()
        self._lock.close()

    @property
    def held_since(self) -> int:
        """When this process took the lock on the build, see `igrag.files.remove_leftovers`."""
        return held_since(self.folder)

    @property
    def _row_bytes(self) -> int:
        return self._dimension * np.dtype("<f4").itemsize

    @property
    def _rows(self) -> int:
        return self.processed - len(self.skipped)

    def append(self, vectors: NDArray[np.float32] | None, skipped: Mapping[int, str]) -> None:
        """Adds the next images of the plan: the rows [b, D] of those encoded, and the others.

        Args:
            vectors: Rows in the plan's order; None if no image was encoded.
            skipped: Index in the plan -> why that image has no row.
        """
        if vectors is not None:
            self._file.write(vectors.astype("<f4").tobytes())
            self._file.flush()
            self.processed += len(vectors)
        self.processed += len(skipped)
        self.skipped.update(skipped)
        self._skipped_file.write(_to_lines(skipped))
        self._skipped_file.flush()
        self._skipped_bytes = self._skipped_file.tell()
        self._save()

    def vectors(self) -> NDArray[np.float32]:
        """Maps all rows so far, [n, D]; there must be one.

        Raises:
            KnowledgeBaseError: The file holds more or less than these rows.
        """
        file = self.folder / VECTORS
        found, expected = file.stat().st_size, self._rows * self._row_bytes
        if found != expected:
            raise KnowledgeBaseError(
                f"{file}: found {found} bytes, expected {expected} ({self._rows} rows of "
                f"{self._row_bytes}): something else has written there; "
                f"remove {self.folder} and build again"
            )
        return np.memmap(file, dtype="<f4", mode="r", shape=(self._rows, self._dimension))

    def kept(self) -> Sequence[int]:
        """Returns the indices in the plan that the rows belong to, in order."""
        return [index for index in range(self.processed) if index not in self.skipped]

    def remove(self) -> None:
        """Closes the files and deletes the folder, while the lock keeps other builds out."""
        self._close()
        shutil.rmtree(self.folder)

    def _close(self) -> None:
        for file in (self._file, self._skipped_file):
            # A full disk refuses the rest of a batch again; it is beyond the record, as after a
            # kill.
            with suppress(OSError):
                file.close()

    def _resume(self) -> int:
        """Continues from the record; returns how many bytes of `SKIPPED` belong to it."""
        state = _read_progress(self.folder)
        if state is None:
            return 0
        size = state["skipped_bytes"]
        listed = _read(self.folder / SKIPPED)[:size]
        skipped = _from_lines(listed)
        rows = state["processed"] - len(skipped)
        file = self.folder / VECTORS
        held = file.stat().st_size if file.exists() else 0
        lost = held < rows * self._row_bytes or len(listed) != size
        if state["inputs"] != self._inputs or lost or listed != _to_lines(skipped):
            self.restarted = True
            return 0
        self.processed, self.skipped = state["processed"], skipped
        return int(size)

    def _save(self) -> None:
        state = {
            "format": FORMAT,
            "inputs": self._inputs,
            "processed": self.processed,
            "skipped_bytes": self._skipped_bytes,
        }
        write_json(self.folder / PROGRESS, state)


def _open(path: Path, size: int) -> BinaryIO:
    """Opens a file to append to, cut off at `size` bytes."""
    file = path.open("ab")
    file.truncate(size)
    file.seek(size)
    return file


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _to_lines(skipped: Mapping[int, str]) -> bytes:
    return "".join(f"{json.dumps([index, reason])}\n" for index, reason in skipped.items()).encode()


def _from_lines(content: bytes) -> dict[int, str]:
    """Reads what `_to_lines` wrote; none of it if it is damaged."""
    try:
        return dict(map(json.loads, content.splitlines()))
    except (ValueError, TypeError):
        return {}


def _check_folder(folder: Path) -> None:
    """Refuses a folder with other files."""
    if not folder.exists() and not folder.is_symlink():
        return
    if folder.is_dir():
        state = _read_progress(folder)
        if state is not None or all(map(_is_own, folder.iterdir())):
            return
    raise KnowledgeBaseError(
        f"{folder}: holds something else than the unfinished knowledge base that is kept there; "
        "move it away"
    )


def _is_own(entry: Path) -> bool:
    """Returns whether a file is one that a build leaves that ends before its first record."""
    return entry.name.startswith((LOCK_NAME, f".{PROGRESS}."))


def _read_progress(folder: Path) -> dict[str, Any] | None:
    try:
        state = read_json(folder / PROGRESS)
    except DataError:
        return None
    return state if isinstance(state, dict) and state.get("format") == FORMAT else None
