"""Commands whose stdout or stderr the caller has closed, or whose reader has gone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from igrag.commands import caption
from igrag.config import REPO_ROOT
from tests.command import one_error

_RUN = "import sys; from igrag.cli import run\n{body}\nsys.exit(run(main, debug=False))"


def run_closed(body: str, redirections: str, file: Path) -> subprocess.CompletedProcess[bytes]:
    """Runs a command in a shell that closes or redirects its streams."""
    return subprocess.run(
        ["sh", "-c", f'"$0" -c "$1" "$2" {redirections}', sys.executable, _RUN.format(body=body),
         str(file)],
        cwd=REPO_ROOT,
        capture_output=True,
    )  # fmt: skip


def test_error_never_lands_on_stdout(tmp_path: Path) -> None:
    """With stderr closed, stdout has the results alone, and files are what was written to them."""
    body = (
        "def main():\n"
        "    from igrag.errors import DataError\n"
        "    with open(sys.argv[1], 'w') as file:\n"
        "        file.write('content')\n"
        "        print('progress', file=sys.stderr)\n"
        "        print('{}')\n"
        "        raise DataError('bad')\n"
    )
    done = run_closed(body, "2>&-", tmp_path / "file")
    assert (done.returncode, done.stdout) == (1, b"{}\n")
    assert (tmp_path / "file").read_text() == "content"


def test_closed_stdout_is_no_internal_error(tmp_path: Path) -> None:
    """A command whose results are files does its work; nothing printed lands in a file."""
    body = (
        "def main():\n"
        "    with open(sys.argv[1], 'w') as file:\n"
        "        file.write('content')\n"
        "        print('table', flush=True)\n"
        "    return 0\n"
    )
    done = run_closed(body, ">&-", tmp_path / "file")
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "file").read_text() == "content"


def test_captioning_to_a_closed_stdout_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is said before any work is done, with what to do instead."""
    monkeypatch.setattr("igrag.cli._closed", {"stdout"})
    monkeypatch.setattr(caption, "caption_images", None)
    assert caption.command(["--i", "input/802.jpg"]) == 2
    assert "stdout is closed" in one_error(capfd.readouterr().err)


def test_options_of_the_results_file_that_would_do_nothing_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """--output is for JSON, and --resume for --output."""
    monkeypatch.setattr(caption, "caption_images", None)
    for words, expected in (
        (["--output", str(tmp_path / "a")], "expected --json too"),
        (["--json", "--resume"], "expected --output too"),
    ):
        assert caption.command(["--i", "input/802.jpg", *words]) == 2
        assert expected in one_error(capfd.readouterr().err)


def test_reader_that_ends_early_is_no_error(tmp_path: Path) -> None:
    """`| head -1` ends without a word, also where the results come after it has gone."""
    body = "def main():\n    [print('line') for _ in range(100_000)]\n    return 0\n"
    done = run_closed(body, "| head -1", tmp_path / "file")
    assert (done.stdout, done.stderr) == (b"line\n", b"")
