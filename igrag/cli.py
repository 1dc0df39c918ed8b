"""What every command line shares: exit codes, one-line errors, signals and logging."""

import io
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from igrag.errors import IgragError

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
_NOISY = ("transformers", "datasets", "huggingface_hub", "PIL", "filelock", "fsspec", "urllib3")


def quiet_start() -> None:
    """Lets Ctrl-C end a script without a traceback until `run` takes over.

    To be called by a script, never where it is imported, before the imports that take a while. A
    process that ignores Ctrl-C, as one in the background of a shell script does, goes on so.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def run(main: Callable[[], int], *, debug: bool) -> int:
    """Runs `main` and turns what goes wrong into one line on stderr and an exit code.

    Args:
        main: The command; returns its exit code.
        debug: Show the traceback too.

    Returns:
        main's own code, an `IgragError`'s, 130 on Ctrl-C, 1 for anything unexpected. SIGTERM
        leaves through `SystemExit(143)`, so that cleanups run.
    """
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # `quiet_start`'s
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A caption or a file name that the terminal's encoding cannot show ends nothing.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = main()
        sys.stdout.flush()
        return code
    except IgragError as error:
        _report(str(error), debug=debug)
        return error.exit_code
    except KeyboardInterrupt:
        _report("interrupted", debug=debug)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; say nothing, and let the interpreter's own flush at
        # exit find an open file.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # A full disk, a folder without permission: for the user to fix.
        _report(_describe_os_error(error), debug=debug)
        return 1
    except Exception as error:
        hint = "" if debug else " (run again with --debug for the traceback)"
        _report(f"internal: {type(error).__name__}: {error}{hint}", debug=debug)
        return 1


def setup_logging(level: str, *, verbose: bool, file: Path | None = None) -> None:
    """Sends the project's log to stderr (and `file`), and keeps the libraries quiet.

    Args:
        level: Name of the level below which nothing is shown ("warning").
        verbose: Show "info" and above whatever `level` says.
        file: Also append to this file.
    """
    logging.captureWarnings(True)
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(file, encoding="utf-8", errors="backslashreplace"))
        handlers[-1].setFormatter(logging.Formatter("%(asctime)s %(levelname)s: %(message)s"))
    chosen = logging.getLevelName(level.upper())
    logging.basicConfig(
        level=min(chosen, logging.INFO) if verbose else chosen,
        format="%(levelname)s: %(message)s",
        handlers=handlers,
        force=True,
    )
    for name in (*_NOISY, "py.warnings"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # It sets its logger's level when imported.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(EXIT_TERMINATED)


def _describe_os_error(error: OSError) -> str:
    what = error.strerror or str(error)
    return f"{error.filename}: {what}" if error.filename else what


def _report(message: str, *, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
