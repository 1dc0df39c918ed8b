"""A pytest plugin: a run fails if it skips a test that could run with one more package installed.

    python -m pytest -p tests.plugins.forbid_skips

Skips for lack of a device, or of the right to mount a tmpfs, are allowed: no install brings them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

_ALLOWED = re.compile(r"\b(CUDA|MPS|GPUs?|tmpfs)\b")


def _forbidden(reporter: pytest.TerminalReporter) -> Iterator[str]:
    """Yields the tests, and the files, that were skipped for another reason, with that reason."""
    for report in reporter.stats.get("skipped", ()):
        _, _, reason = report.longrepr
        if not _ALLOWED.search(reason):
            yield f"{report.nodeid}: {reason.removeprefix('Skipped: ')}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turns the exit code of a run that passed into that of one that failed."""
    # The workers of pytest-xdist have no reporter: the process that started them hears of skips.
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    passed = session.exitstatus == pytest.ExitCode.OK
    if reporter is not None and passed and any(_forbidden(reporter)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Names what must not be skipped, above the closing line."""
    if found := list(_forbidden(terminalreporter)):
        terminalreporter.section("skipped, but not for lack of a device", red=True)
        for line in found:
            terminalreporter.write_line(line, red=True)
