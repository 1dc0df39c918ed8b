"""The captions of an unfinished evaluation, kept so that the same command continues it.

`captions.partial.jsonl` in the output folder: what the captions depend on, then a line for each
chunk of a method's captions. It is removed once the results are saved.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from igrag.files import naming_full_disk, sha256_file

PARTIAL_NAME = "captions.partial.jsonl"
logger = logging.getLogger(__name__)


class PartialCaptions:
    """Captions by method and the index of their first image, in a file that grows.

    Args:
        path: The file; one of other captions is replaced.
        key: What the captions depend on, see `captions_key`.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._done: dict[tuple[str, int], tuple[list[str], float]] = {}
        lines = _whole_lines(path)
        if lines and lines[0] == {"key": key}:
            for line in lines[1:]:
                self._done[line["method"], line["start"]] = (line["captions"], line["seconds"])
        elif lines:
            logger.warning("%s: left by an evaluation of something else; starting over", path)
        with naming_full_disk(path):
            self._write([{"key": key}, *(lines[1:] if self._done else [])], mode="wb")

    def __len__(self) -> int:
        """Returns the number of captions."""
        return sum(len(captions) for captions, _ in self._done.values())

    def find(self, method: str, start: int) -> tuple[list[str], float] | None:
        """Returns a chunk's captions and the seconds that they took; None if they are missing."""
        return self._done.get((method, start))

    def add(self, method: str, start: int, captions: Sequence[str], seconds: float) -> None:
        """Keeps a chunk's captions.

        Raises:
            OutputError: The disk is full.
        """
        line = {"method": method, "start": start, "captions": captions, "seconds": seconds}
        with naming_full_disk(self._path):
            self._write([line], mode="ab")

    def _write(self, lines: Iterable[Mapping[str, Any]], *, mode: str) -> None:
        with self._path.open(mode) as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines).encode())


def captions_key(identity: Mapping[str, Any], files: Iterable[Path], *inputs: Any) -> str:
    """Returns a hash of everything that captions depend on.

    Args:
        identity: See `evaluation.overwrite_guard.evaluation_identity`.
        files: Prompt files, and folders of adapters.
        inputs: The prompts, the model's weights and the like, as plain JSON data.
    """
    found = [path for file in files for path in ([file] if file.is_file() else file.glob("*"))]
    hashes = {str(path): sha256_file(path) for path in found if path.is_file()}
    content = json.dumps([identity, hashes, *inputs], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _whole_lines(path: Path) -> list[Any]:
    """Reads the lines; a last one that a killed process did not finish is left out."""
    if not path.is_file():
        return []
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    try:
        lines = [json.loads(line) for line in whole.splitlines()]
    except ValueError:
        return [None]  # of something else
    is_ours = all(isinstance(line, dict) for line in lines) and all(
        {"method", "start", "captions", "seconds"} <= set(line) for line in lines[1:]
    )
    return lines if is_ours else [None]
