"""What every command line shares: options, exit codes, one-line errors, signals and logging."""

import argparse
import errno
import io
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from igrag import __version__
from igrag.errors import IgragError
from igrag.processes import first_process_prints

LONGEST_ERROR = 500  # characters of an error's line
_CUT = " [...] "
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
_STREAMS = {"stdin": "r", "stdout": "w", "stderr": "w"}
_COMPLETING = "_ARGCOMPLETE"  # Set by argcomplete where a shell asks what a word can become.
_closed: set[str] = set()  # Those of them that the caller had closed.
_NOISY = (
    "transformers", "datasets", "huggingface_hub", "PIL", "filelock", "fsspec", "urllib3",
    "matplotlib",  # Without a HOME it warns of the temporary folder that it uses.
)  # fmt: skip


def open_standard_streams() -> None:
    """Opens stdin, stdout and stderr to nowhere where the caller has closed them.

    Otherwise the next file that is opened gets the number of one, and what print and others write
    to a missing sys.stderr lands on stdout, among the results.
    """
    for number, (name, mode) in enumerate(_STREAMS.items()):
        if getattr(sys, name) is not None:
            continue
        _closed.add(name)
        try:
            os.fstat(number)  # A file of the program has the number already.
        except OSError:
            handle = os.open(os.devnull, os.O_RDWR)
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
        setattr(sys, name, Path(os.devnull).open(mode, errors="backslashreplace"))  # noqa: SIM115


def is_stdout_closed() -> bool:
    """Returns whether the caller has closed stdout, so that what is printed goes nowhere."""
    return "stdout" in _closed


def quiet_start() -> None:
    """Lets Ctrl-C end a script without a traceback until `run` takes over.

    A script calls it before the imports that take a while, and not where it is imported. A process
    that ignores Ctrl-C, such as one in the background of a shell script, still does.
    """
    open_standard_streams()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


class CommandParser(argparse.ArgumentParser):
    """An argument parser with `--output_dir` and the like, which also takes `--output-dir`.

    Args:
        description: What the command does; its line breaks stay.
        earlier: Names that options had in earlier versions -> their names now.
    """

    def __init__(
        self, description: str, *, earlier: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        super().__init__(
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **options,
        )
        self._earlier = earlier or {}
        self._is_completing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses words as argparse does, with each option under its name in the help.

        Where a shell asks for completions, they are printed instead, and the process ends.
        """
        if _COMPLETING in os.environ and not self._is_completing:
            self._is_completing = True  # argcomplete parses the words, too.
            _complete(self)
        words = list(sys.argv[1:] if args is None else args)
        end = words.index("--") if "--" in words else len(words)
        words[:end] = map(self._current_name, words[:end])
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        """Ends the command with the usage and one line on what is wrong, as argparse does."""
        room = len(f"{self.prog}: error: ")
        super().error(shorten(" " * room + " ".join(message.split())).lstrip())

    def _current_name(self, word: str) -> str:
        name, equals, value = word.partition("=")
        if not name.startswith("--") or name in self._option_string_actions:
            return word
        name = self._earlier.get(name, name)
        underscored = f"--{name[2:].replace('-', '_')}"
        known = underscored if underscored in self._option_string_actions else name
        return f"{known}{equals}{value}"


def completed_subcommand(names: Collection[str]) -> str | None:
    """Returns the subcommand whose options a shell asks for; None where it asks for nothing of one.

    From then on its name counts as the program's, so that its own parser completes the rest.
    """
    if _COMPLETING not in os.environ:
        return None
    split_line = _argcomplete().lexers.split_line
    *_, typed, _ = split_line(os.environ["COMP_LINE"], int(os.environ["COMP_POINT"]))
    start = int(os.environ[_COMPLETING])  # Words that are the program: igrag, or python main.py
    name: str | None = typed[start] if len(typed) > start else None
    if name not in names:
        return None
    os.environ[_COMPLETING] = str(start + 1)
    return name


def _complete(parser: argparse.ArgumentParser) -> None:
    _argcomplete().autocomplete(parser)


def _argcomplete() -> Any:
    """Returns the library; without it nothing is completed, and no command is run instead."""
    try:
        import argcomplete
        import argcomplete.lexers
    except ImportError:
        raise SystemExit(1) from None
    return argcomplete


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Adds --verbose, --debug and --version."""
    add = parser.add_argument
    add("--verbose", action="store_true", help="log what is done on stderr")
    add("--debug", action="store_true", help="show the traceback of an error")
    add_version_option(parser)


def add_version_option(parser: argparse.ArgumentParser) -> None:
    """Adds --version."""
    version = f"igrag {__version__}"
    parser.add_argument("--version", action="version", version=version, help="print the version")


def add_config_options(parser: argparse.ArgumentParser, *, dtype: bool = True) -> None:
    """Adds --set, --device and --dtype, which `config_overrides` reads."""
    from igrag.config.choices import DType, in_words  # after `quiet_start`: pydantic takes a while

    add = parser.add_argument
    add("--set", action="append", default=[], metavar="SECTION.KEY=VALUE",
        help="set a key of the configuration for this run; may be given again")  # fmt: skip
    add("--device", help="auto, cpu, cuda, cuda:N or mps")
    if dtype:
        add("--dtype", help=f"of the language model: {in_words(DType)}")


def add_caption_options(parser: Any) -> None:
    """Adds --caption_split and --keep_rejected, for `read_captions`."""
    add = parser.add_argument
    add("--caption_split", metavar="NAME",
        help="which images of --captions, where the file has splits (Karpathy's): train (with "
        "restval), val or test")  # fmt: skip
    add("--keep_rejected", action="store_true",
        help="keep captions that the file marks as rejected or as stock sentences")  # fmt: skip


def config_overrides(arguments: argparse.Namespace) -> list[str]:
    """Returns the keys of the configuration that --set, --device and --dtype set."""
    keys = {"device": "model_config.device", "dtype": "model_config.dtype"}
    given = {key: getattr(arguments, option, None) for option, key in keys.items()}
    typed = [f"{key}={value}" for key, value in given.items() if value is not None]
    return [*arguments.set, *typed]


def at_least(lowest: int) -> Callable[[str], int]:
    """Returns an argparse type: a whole number of at least `lowest`."""

    def number(text: str) -> int:
        value = int(text)
        if value < lowest:
            raise argparse.ArgumentTypeError(f"found {text}, expected at least {lowest}")
        return value

    return number


def run_command(
    parse_arguments: Callable[[Sequence[str] | None], argparse.Namespace],
    main: Callable[[argparse.Namespace], int],
    words: Sequence[str] | None = None,
) -> int:
    """Parses a command's words and runs it, see `run`; returns its exit code."""
    with first_process_prints():  # Under torchrun one usage is enough.
        arguments = parse_arguments(words)
    return run(lambda: main(arguments), debug=arguments.debug)


def run(main: Callable[[], int], *, debug: bool) -> int:
    """Runs `main` and turns what goes wrong into one line on stderr and an exit code.

    Args:
        main: The command; returns its exit code.
        debug: Show the traceback too.

    Returns:
        main's own code, an `IgragError`'s, 130 on Ctrl-C, 1 for anything unexpected. SIGTERM and
        SIGHUP leave through `SystemExit(143)`, so that cleanups run.
    """
    open_standard_streams()
    signal.signal(signal.SIGTERM, _terminate)
    # A terminal that is closed; nohup ignores it.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, _terminate)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # `quiet_start`'s
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A character that the terminal's encoding lacks is escaped instead of an error.
        sys.stdout.reconfigure(errors="backslashreplace")
    # A library that asks a question (may this model's code be run?) gets no answer.
    stdin, sys.stdin = sys.stdin, io.StringIO()
    try:
        code = main()
        sys.stdout.flush()
        return code
    except IgragError as error:
        _print_error(str(error), debug=debug)
        return error.exit_code
    except KeyboardInterrupt:
        _print_error("interrupted", debug=debug)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of the output has ended; print nothing.
        _flush_to_nowhere()
        return 1
    except OSError as error:  # A full disk, a folder without permission: the user can fix it.
        _print_error(_describe_os_error(error), debug=debug)
        _flush_to_nowhere()
        return 1
    except Exception as error:
        hint = "" if debug else " (run again with --debug for the traceback)"
        _print_error(f"internal: {type(error).__name__}: {error}{hint}", debug=debug)
        return 1
    finally:
        sys.stdin = stdin


def error_line(message: str) -> str:
    """Returns an error as one line, "error: ...", of at most `LONGEST_ERROR` characters."""
    return shorten(f"error: {' '.join(message.split())}")


def shorten(text: str) -> str:
    """Cuts a long text in the middle: an error has the file at its start, the fix at its end."""
    if len(text) <= LONGEST_ERROR:
        return text
    half = (LONGEST_ERROR - len(_CUT)) // 2
    return f"{text[:half]}{_CUT}{text[-half:]}"


def setup_logging(level: str, *, verbose: bool, file: Path | None = None) -> None:
    """Sends the project's log to stderr (and `file`), and keeps the libraries quiet.

    Of several processes that do the same the first one logs; the others report errors alone.

    Args:
        level: Name of the level below which nothing is shown ("warning").
        verbose: Show "info" and above whatever `level` is.
        file: Also append to this file.
    """
    from igrag.processes import Ranks

    logging.captureWarnings(True)
    logging.raiseExceptions = False  # A full disk stops the log, without tracebacks on stderr.
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(file, encoding="utf-8", errors="backslashreplace"))
        handlers[-1].setFormatter(logging.Formatter("%(asctime)s %(levelname)s: %(message)s"))
    is_first = Ranks.from_environment().is_first
    chosen = logging.getLevelName(level.upper()) if is_first else logging.ERROR
    logging.basicConfig(
        level=min(chosen, logging.INFO) if verbose and is_first else chosen,
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


def exit_for(number: int) -> BaseException:
    """Returns what a signal that ends a command raises: `run` gives it its exit code."""
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(EXIT_TERMINATED)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise exit_for(number)


def _flush_to_nowhere() -> None:
    """Lets the interpreter's own flush at exit find an open file where stdout takes no more."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _describe_os_error(error: OSError) -> str:
    what = error.strerror or str(error)
    if error.filename is None and error.errno == errno.ENOSPC:  # Files are named where they are
        return f"stdout or a log file: {what}"  # written.
    return f"{error.filename}: {what}" if error.filename else what


def _print_error(message: str, *, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    print(error_line(message), file=sys.stderr)
