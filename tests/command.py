"""Runs the captioning command as its users do, and reads its output."""

import re

import pytest

from igrag.commands import caption


class Command:
    """Runs the captioning command in this process, on tiny models."""

    def __init__(self, settings: list[str], capfd: pytest.CaptureFixture[str]) -> None:
        self._settings = settings
        self._capfd = capfd

    def __call__(self, *words: object, settings: tuple[str, ...] = ()) -> tuple[int, str, str]:
        """Returns the exit code and what was printed on stdout and stderr."""
        overrides = [word for item in (*self._settings, *settings) for word in ("--set", item)]
        code = caption.command([*map(str, words), *overrides])
        captured = self._capfd.readouterr()
        return code, captured.out, captured.err


# What may stand beside an error: notes, the log, and how many images failed.
_BESIDE = re.compile(r"(note|warning|skipped|WARNING|INFO): .+|\d+ of \d+ images have no caption\.")


def one_error(stderr: str) -> str:
    """Returns the one error of a command; there is no traceback and no library's warning."""
    lines = stderr.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1, stderr
    unexpected = [line for line in lines if line not in errors and not _BESIDE.fullmatch(line)]
    assert unexpected == [], stderr
    return errors[0]
