"""Runs main.py as its users do, and reads what it says."""

import pytest

import main
from igrag.cli import run


class Command:
    """Runs main.py's main in this process, on tiny models."""

    def __init__(self, settings: list[str], capfd: pytest.CaptureFixture[str]) -> None:
        self._settings = settings
        self._capfd = capfd

    def __call__(self, *words: object, settings: tuple[str, ...] = ()) -> tuple[int, str, str]:
        """Returns the exit code and what was printed on stdout and stderr."""
        overrides = [word for item in (*self._settings, *settings) for word in ("--set", item)]
        arguments = main.parse_arguments([*map(str, words), *overrides])
        code = run(lambda: main.main(arguments), debug=arguments.debug)
        captured = self._capfd.readouterr()
        return code, captured.out, captured.err


def one_error(stderr: str) -> str:
    """Returns the one error of a command, which must be one line and no traceback."""
    errors = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, stderr
    assert "Traceback" not in stderr
    return errors[0]
