"""The results of captioning in a file: one JSON object a line, which grows image by image."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from igrag.captioning.caption_requests import CaptionRequest
from igrag.errors import UsageError
from igrag.files import check_output_folder, exists, is_file, naming_full_disk
from igrag.output_lock import lock_beside


class ResultsFile:
    """Results as lines of JSON; a line is in the file as a whole or not at all.

    Args:
        path: The file.
        resume: Continue it; otherwise it must not exist.

    Raises:
        UsageError: The file exists, or is not one of captions.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        if exists(path) and not (resume and is_file(path)):
            fix = "continue it with --resume, or " if is_file(path) else ""
            raise UsageError(f"{path}: exists already; {fix}give another --output")
        self.path = path
        self._lines = _read_lines(path) if exists(path) else []
        self._done = Counter(
            _key(line["image"], line.get("prompt_name"), line.get("id")) for line in self._lines
        )
        with path.open("ab") as file:  # Without a line that a killed process did not finish.
            file.truncate(path.read_bytes().rfind(b"\n") + 1)

    def remaining(self, requests: Sequence[CaptionRequest]) -> list[CaptionRequest]:
        """Returns the requests that the file has no result of, each with the prompts it lacks."""
        done = self._done.copy()
        remaining = []
        for request in requests:
            missing = []
            for name in request.prompt_names:
                key = _key(str(request.image), name, request.request_id)
                done[key] -= 1  # The same request may stand there twice.
                if done[key] < 0:
                    missing.append(name)
            if missing:
                remaining.append(replace(request, prompt_names=tuple(missing)))
        return remaining

    def check_settings(self, settings: Callable[[str | None], Mapping[str, Any]]) -> None:
        """Makes sure that all results come from the same settings.

        Args:
            settings: Returns the settings of a caption, by the name of its soft prompt.

        Raises:
            UsageError: A result in the file has others.
        """
        for line in self._lines:
            for key, value in settings(line.get("prompt_name")).items():
                if line.get(key, value) != value:
                    raise UsageError(
                        f"{self.path}: has results with {key} {line[key]!r}, expected {value!r}; "
                        "resume with the same settings, or give another --output"
                    )

    def add(self, line: str) -> None:
        """Appends a result.

        Raises:
            OutputError: The disk is full; the file ends with the result before.
        """
        with naming_full_disk(self.path), self.path.open("ab", buffering=0) as file:
            size, rest = (
                self.path.stat().st_size,
                memoryview(f"{line}\n".encode("utf-8", "backslashreplace")),
            )
            try:
                while rest:
                    rest = rest[file.write(rest) :]
            except BaseException:
                file.truncate(size)
                raise


@contextmanager
def open_results(path: Path | None, *, resume: bool) -> Iterator[ResultsFile | None]:
    """Yields the file of --output, which no other process may write meanwhile; None without one.

    Raises:
        UsageError: It exists, is not one of captions, or --resume stands alone.
        OutputError: Another process writes it.
    """
    if path is None:
        if resume:
            raise UsageError("--resume: continues a file, expected --output too")
        yield None
        return
    check_output_folder(path.absolute().parent, option="--output")
    with lock_beside(path, option="--output"):
        yield ResultsFile(path, resume=resume)


def _key(image: str, prompt_name: object, request_id: object) -> tuple[str, str, str]:
    """Returns what a result is found by, whatever JSON value stands in its line."""
    return image, repr(prompt_name), repr(request_id)


def _read_lines(path: Path) -> list[dict[str, Any]]:
    found = []
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    for number, text in enumerate(whole.splitlines(), 1):
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if not isinstance(line, dict) or not isinstance(line.get("image"), str):
            raise UsageError(
                f"{path}:{number}: is no result of captioning, expected what --json --output "
                "wrote; give another --output"
            )
        found.append(line)
    return found
