"""Exit codes, one-line errors, signals and logging of every command line."""

import argparse
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from igrag import __version__
from igrag.cli import (
    CommandParser,
    add_common_options,
    add_config_options,
    at_least,
    config_overrides,
    run,
    run_command,
    setup_logging,
)
from igrag.config import REPO_ROOT
from igrag.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def _restore_process() -> Iterator[None]:
    """Puts back the signal handler, the root logger and the environment."""
    handler = signal.getsignal(signal.SIGTERM)
    root = logging.getLogger()
    handlers, level, environment = list(root.handlers), root.level, dict(os.environ)
    yield
    signal.signal(signal.SIGTERM, handler)
    logging.captureWarnings(False)
    root.handlers[:], root.level = handlers, level
    os.environ.clear()
    os.environ.update(environment)


def failing(error: BaseException) -> int:
    """Runs a command that raises `error`."""

    def command() -> int:
        raise error

    return run(command, debug=False)


def parse(*words: str) -> argparse.Namespace:
    """Parses words with a parser that has one option of each form."""
    parser = CommandParser("What it does.", earlier={"--force": "--overwrite_output_dir"})
    parser.add_argument("--overwrite_output_dir", action="store_true")
    parser.add_argument("--num_beams", type=at_least(1), default=4)
    parser.add_argument("rest", nargs="*")
    add_config_options(parser)
    add_common_options(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize("option", ["--num_beams", "--num-beams"])
def test_hyphens_and_underscores_are_the_same_option(option: str) -> None:
    """Options are spelled with underscores; the hyphened spelling works, with = too."""
    assert parse(option, "2").num_beams == 2
    assert parse(f"{option}=3").num_beams == 3
    assert parse("--", option).rest == [option]


@pytest.mark.parametrize("option", ["--force", "--overwrite-output-dir", "--overwrite_output_dir"])
def test_earlier_names_of_options_work(option: str) -> None:
    """What an option was called in earlier versions still sets it."""
    assert parse(option).overwrite_output_dir
    assert not parse().overwrite_output_dir


@pytest.mark.parametrize("words", [["--num_beam", "2"], ["--num_beams", "0"], ["--num_beams", "x"]])
def test_wrong_options_exit_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Abbreviations, numbers out of range and what is no number are errors of usage."""
    with pytest.raises(SystemExit) as caught:
        parse(*words)
    assert caught.value.code == 2 and "error: " in capsys.readouterr().err


def test_options_become_keys_of_the_configuration() -> None:
    """--device and --dtype are short for keys, and count after --set."""
    arguments = parse("--dtype", "float32", "--set", "a.b=1", "--device", "cpu")
    assert config_overrides(arguments) == [
        "a.b=1",
        "model_config.device=cpu",
        "model_config.dtype=float32",
    ]
    assert config_overrides(parse()) == []


def test_version_option(capsys: pytest.CaptureFixture[str]) -> None:
    """--version prints the project's version and ends."""
    with pytest.raises(SystemExit) as caught:
        parse("--version")
    assert (caught.value.code, capsys.readouterr().out) == (0, f"igrag {__version__}\n")


def test_command_is_parsed_and_run(capsys: pytest.CaptureFixture[str]) -> None:
    """`run_command` returns the exit code, and shows an error as `run` does."""

    def main(arguments: argparse.Namespace) -> int:
        if arguments.num_beams == 1:
            raise DataError("bad")
        return 7

    assert run_command(lambda words: parse(*words or ()), main, ["--num_beams", "2"]) == 7
    assert run_command(lambda words: parse(*words or ()), main, ["--num_beams", "1"]) == 1
    assert capsys.readouterr().err == "error: bad\n"


def test_own_code_is_returned() -> None:
    """A command that comes to its end decides on the exit code."""
    assert run(lambda: 7, debug=False) == 7


def test_known_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A known error is one line on stderr, whatever line breaks its message holds."""
    assert failing(ConfigError("a.yaml: found\n  x")) == 2
    captured = capsys.readouterr()
    assert captured.err == "error: a.yaml: found x\n"
    assert captured.out == ""


def test_data_error_exits_with_one() -> None:
    """The error's own exit code is used."""
    assert failing(DataError("a.jsonl:3: not JSON")) == 1


def test_unexpected_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A defect shows its type and how to see the traceback, not the traceback."""
    assert failing(ValueError("broken")) == 1
    expected = "error: internal: ValueError: broken (run again with --debug for the traceback)\n"
    assert capsys.readouterr().err == expected


def test_os_error_names_the_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """An error of the operating system names the file, and is no internal error."""

    def command() -> int:
        (tmp_path / "missing" / "file").write_text("")
        return 0

    assert run(command, debug=False) == 1
    expected = f"error: {tmp_path / 'missing' / 'file'}: No such file or directory\n"
    assert capsys.readouterr().err == expected


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """With --debug the traceback comes before the one line."""

    def command() -> int:
        raise DataError("bad")

    assert run(command, debug=True) == 1
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.endswith("error: bad\n")


def test_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C exits with 130 and without a traceback."""
    assert failing(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def outcome_of(code: str) -> tuple[int, bytes]:
    """Runs Python with some code; return its exit code and what it wrote to stderr."""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO_ROOT, capture_output=True)
    return done.returncode, done.stderr


def test_ctrl_c_is_reported_after_a_quiet_start() -> None:
    """A quiet start ends with `run`, which reports the interruption as always."""
    code = (
        "import signal, sys, time\n"
        "from igrag.cli import quiet_start, run\n"
        "quiet_start()\n"
        "assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL\n"
        "sys.exit(run(lambda: signal.raise_signal(signal.SIGINT) or time.sleep(9), debug=False))"
    )
    assert outcome_of(code) == (130, b"error: interrupted\n")


def test_process_that_ignores_ctrl_c_still_does() -> None:
    """In the background of a shell script Ctrl-C is not meant for it."""
    code = (
        "import signal, sys\n"
        "from igrag.cli import quiet_start, run\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "quiet_start()\n"
        "sys.exit(run(lambda: signal.raise_signal(signal.SIGINT) or 7, debug=False))"
    )
    assert outcome_of(code) == (7, b"")


def start(body: str) -> subprocess.Popen[str]:
    """Starts Python with a command whose body is given."""
    code = f"import sys\nfrom igrag.cli import run\n{body}\nsys.exit(run(main, debug=False))"
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=REPO_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_termination_runs_cleanups(tmp_path: Path) -> None:
    """SIGTERM exits with 143 after the context managers have cleaned up."""
    process = start(
        "import time\n"
        "from pathlib import Path\n"
        "from igrag.files import atomic_path\n"
        "def main():\n"
        f"    with atomic_path(Path({str(tmp_path / 'out')!r})):\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(600)\n"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    _, shown = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "Traceback" not in shown
    assert list(tmp_path.iterdir()) == []


def test_closed_pipe_is_quiet() -> None:
    """Output into a pipe whose reader has gone (head -1) ends without a word."""
    process = start("def main():\n    while True:\n        print('line')")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=120) == 1


def test_log_level(capsys: pytest.CaptureFixture[str]) -> None:
    """What is below the level is not shown, and nothing goes to stdout."""
    setup_logging("warning", verbose=False)
    logging.getLogger("igrag.test").info("small")
    logging.getLogger("igrag.test").warning("large")
    captured = capsys.readouterr()
    assert captured.err == "WARNING: large\n"
    assert captured.out == ""


def test_verbose_never_shows_less(capsys: pytest.CaptureFixture[str]) -> None:
    """--verbose brings a warning level to info and leaves a debug level as it is."""
    for level in ("warning", "debug"):
        setup_logging(level, verbose=True)
        logging.getLogger("igrag.test").info("told")
    assert capsys.readouterr().err == "INFO: told\n" * 2
    assert logging.getLogger().level == logging.DEBUG


def test_libraries_are_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """Warnings of the model libraries are not the user's business."""
    setup_logging("debug", verbose=True)
    logging.getLogger("transformers.modeling").warning("chatter")
    assert capsys.readouterr().err == ""


def test_log_file(tmp_path: Path) -> None:
    """The log file is made with its folder, holds the time, and grows from run to run."""
    file = tmp_path / "logs" / "run.log"
    for text in ("eins", "zwei"):
        setup_logging("info", verbose=False, file=file)
        logging.getLogger("igrag.test").info(text)
    first, second = file.read_text(encoding="utf-8").splitlines()
    assert first.endswith("INFO: eins") and second.endswith("INFO: zwei")
    assert first.startswith(time.strftime("%Y"))


def test_log_file_holds_any_name(tmp_path: Path) -> None:
    """A file name that is not UTF-8 is logged with an escape."""
    setup_logging("info", verbose=False, file=tmp_path / "run.log")
    logging.getLogger("igrag.test").info("b\udcff.jpg")
    assert (tmp_path / "run.log").read_text(encoding="utf-8").endswith("INFO: b\\udcff.jpg\n")
