"""Input files that are none: pipes, pointers, pages, bombs; each is one short error, at once."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import FrameType

import pytest

from igrag.captioning.adapter_config import check_adapter_config
from igrag.cli import LONGEST_ERROR, CommandParser, run
from igrag.config import REPO_ROOT, Config
from igrag.config.yaml_file import load_yaml
from igrag.data.coco import read_captions
from igrag.data.examples import iter_examples
from igrag.errors import ConfigError, DataError, IgragError
from igrag.files import read_json, sha256_file
from igrag.hub import load_cached_first
from igrag.inputs import reason_of
from igrag.retrieval.storage import read_manifest
from igrag.training.record import TrainingRecord

DEEP = "[" * 100_000
LONG_NUMBER = f'{{"peft_type": "LORA", "r": {"1" * 5000}}}'
MOST_SECONDS = 2.0  # of computing, for what is refused at once


@pytest.fixture
def alarm() -> Iterator[None]:
    """Ends a test that waits for a pipe's other end."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError("waited for the other end of a pipe")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def load_folder(path: Path) -> object:
    """Loads a model's folder whose config.json is `path`."""

    def load(folder: str, **options: object) -> str:
        return (Path(folder) / path.name).read_text()

    return load_cached_first(load, str(path.parent))


READERS: dict[str, Callable[[Path], object]] = {
    "config.yaml": load_yaml,
    "record.json": read_json,
    "captions.json": read_captions,
    "train.jsonl": lambda path: list(iter_examples(path)),
    "train.jsonl.gz": lambda path: list(iter_examples(path)),
    "hashed.bin": sha256_file,
    "config.json": load_folder,
}


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("name", READERS)
def test_named_pipe_is_refused_without_waiting(tmp_path: Path, name: str) -> None:
    """No reader waits for a pipe that nobody writes to."""
    os.mkfifo(tmp_path / name)
    with pytest.raises((IgragError, OSError), match="a named pipe, expected a file"):
        READERS[name](tmp_path / name)


@pytest.mark.usefixtures("alarm")
def test_named_pipe_as_a_prompt_is_refused_without_waiting(tmp_path: Path) -> None:
    """A soft prompt and an adapter's weights are no pipes either."""
    from prompt_tuning.fingerprint import adapter_hash
    from prompt_tuning.prompt_file import load_prompt

    os.mkfifo(tmp_path / "prompt.pt")
    os.mkfifo(tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text("{}")
    for read, path in ((load_prompt, tmp_path / "prompt.pt"), (adapter_hash, tmp_path)):
        with pytest.raises(IgragError, match="a named pipe, expected a file"):
            read(path)


def test_device_is_refused() -> None:
    """A device has no end, or nothing in it."""
    with pytest.raises(ConfigError, match="/dev/null: cannot be read: a device, expected a file"):
        load_yaml(Path("/dev/null"))


def laughs(key: str) -> str:
    """Returns YAML of ten lines in which one key stands for 10^9 values."""
    lines = ["x0: &x0 [a, a, a, a, a, a, a, a, a, a]"]
    for level in range(1, 9):
        lines.append(f"x{level}: &x{level} [{', '.join([f'*x{level - 1}'] * 10)}]")
    return "\n".join([*lines, f"{key}: *x8\n"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (laughs("log_config"), "aliases that stand for more than 3,000 values"),
        ("log_config: &a {level: *a}", "an anchor with an alias of itself"),
        ("\n".join(f"key_{n}: 1" for n in range(60_000)), "expected at most 200,000"),
        ("\n".join(f"k{n}: 1" for n in range(9_000)), "more than 3,000 values"),
        ("a: " + "[" * 100_000, "more than 50 levels"),
    ],
)
def test_yaml_that_expands_is_refused_at_once(tmp_path: Path, text: str, message: str) -> None:
    """A file that would take minutes or gigabytes is an error of one line in a moment."""
    file = tmp_path / "config.yaml"
    file.write_text(text)
    started = time.process_time()
    with pytest.raises(ConfigError, match=message) as caught:
        Config.load(file, [])
    assert time.process_time() - started < MOST_SECONDS
    assert len(str(caught.value)) < LONGEST_ERROR


def test_aliases_in_an_override_are_bounded_too() -> None:
    """A value typed as --set is YAML as well."""
    names = "abcdefghijklmno"
    doubled = (f", &{new} [*{old}, *{old}]" for old, new in pairwise(names))
    text = "[&a [x, x]" + "".join(doubled)
    with pytest.raises(ConfigError, match="not valid YAML"):
        Config.load(REPO_ROOT / "configs" / "config.yaml", [f"log_config={text}]"])


def test_ten_problems_are_listed_and_the_rest_counted(tmp_path: Path) -> None:
    """A thousand wrong keys make one readable error."""
    file = tmp_path / "config.yaml"
    file.write_text("".join(f"wrong_{n}: 1\n" for n in range(1_000)))
    with pytest.raises(ConfigError, match=r"; and (9\d\d|1,0\d\d) more problems$") as caught:
        Config.load(file, [])
    text = str(caught.value)
    assert text.count(": unknown key, ") + text.count(": missing, ") == 10


@pytest.mark.parametrize("text", [DEEP, LONG_NUMBER])
@pytest.mark.parametrize(
    "name", ["adapter_config.json", "knowledge_base.json", "all_results.json", "other.json"]
)
def test_json_bomb_is_one_short_error(tmp_path: Path, name: str, text: str) -> None:
    """JSON that is nested too deeply, or a number of 5,000 digits, is an error wherever it is."""
    file = tmp_path / name
    file.write_text(text)
    readers: dict[str, Callable[[], object]] = {
        "adapter_config.json": lambda: check_adapter_config(tmp_path),
        "knowledge_base.json": lambda: read_manifest(tmp_path),
        "all_results.json": lambda: TrainingRecord.read(file),
    }
    read: Callable[[], object] = readers.get(name, lambda: read_json(file))
    with pytest.raises(IgragError, match=r"not valid JSON: (nested too deeply|a number)") as caught:
        read()
    assert len(str(caught.value)) < LONGEST_ERROR


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"
PAGE = b"\n<!DOCTYPE html><html><body>Sign in</body></html>"
HEADER = json.dumps({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}).encode()
TENSORS = len(HEADER).to_bytes(8, "little") + HEADER + bytes(36)


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("model.safetensors", POINTER, "a pointer of Git LFS, not the file itself; run git lfs"),
        ("spiece.model", POINTER, "a pointer of Git LFS"),
        ("model.safetensors", PAGE, "an HTML page, not the file itself"),
        ("tokenizer.json", PAGE, "an HTML page"),
        ("model.safetensors", b"PK\x03\x04" + bytes(99), "a pickle (of torch.save)"),
        ("model.safetensors", b"\x80\x02" + bytes(99), "a pickle (of torch.save)"),
        ("model.safetensors", TENSORS[:-1], f"cut off after {len(TENSORS) - 1} of at least"),
        ("model.safetensors", TENSORS[:20], "cut off after 20 of at least"),
        ("model.safetensors", b"", "cut off after 0 of at least 8 bytes"),
        ("model.safetensors", b"no tensors at all", "not a safetensors file"),
        ("pytorch_model.bin", b"PK\x03\x04" + bytes(99), "cut off after 103 bytes"),
        ("prompt.pt", b"", "an empty file"),
        ("prompt.pt", b"text", "not a file of torch.save"),
    ],
)
def test_file_is_named_as_what_it_is(tmp_path: Path, name: str, content: bytes, found: str) -> None:
    """Instead of a library's text on what failed, the error has what the file is and the fix."""
    (tmp_path / name).write_bytes(content)
    error = OSError("the library's own text")
    assert found in reason_of(error, tmp_path / name)
    assert reason_of(error, tmp_path).startswith(f"{name} is ")
    assert found in reason_of(error, tmp_path)


def test_whole_files_keep_the_reason_of_the_library(tmp_path: Path) -> None:
    """Where all files are what they should be, the library's text is the reason."""
    (tmp_path / "model.safetensors").write_bytes(TENSORS)
    (tmp_path / "README.html").write_bytes(PAGE)
    assert reason_of(OSError("wrong\nshape"), tmp_path) == "wrong shape"
    assert reason_of(OSError(), tmp_path / "none") == "OSError"


def test_pointer_as_json_or_yaml_is_named(tmp_path: Path) -> None:
    """Data that Git LFS keeps elsewhere is not called invalid."""
    (tmp_path / "a.json").write_bytes(POINTER)
    with pytest.raises(DataError, match="a pointer of Git LFS"):
        read_captions(tmp_path / "a.json")
    with pytest.raises(ConfigError, match="a pointer of Git LFS"):
        load_yaml(tmp_path / "a.json")


def test_pickle_with_code_is_named_without_unsafe_advice(tmp_path: Path) -> None:
    """The error names what the pickle would run, and not the option that would let it."""
    import torch

    from prompt_tuning.prompt_file import load_prompt

    torch.save({"prompt_embeddings": Run()}, tmp_path / "prompt.pt")
    with pytest.raises(IgragError, match=r"plain tensors: .*system, which is not run") as caught:
        load_prompt(tmp_path / "prompt.pt")
    assert "weights_only" not in str(caught.value)


class Run:
    """An object whose pickle runs a command."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("false",)


def test_error_has_500_characters_at_most(capsys: pytest.CaptureFixture[str]) -> None:
    """A long error is cut in the middle: its file and its fix stay."""

    def fail() -> int:
        raise DataError(f"file.json: found {'x' * 5000}; correct it")

    assert run(fail, debug=False) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert len(line) <= LONGEST_ERROR
    assert line.startswith("error: file.json: found xxx")
    assert line.endswith("xxx; correct it")


def test_wrong_option_has_500_characters_at_most(capsys: pytest.CaptureFixture[str]) -> None:
    """An option of 5,000 characters is not repeated as a whole."""
    with pytest.raises(SystemExit):
        CommandParser("A command.").parse_args(["--" + "x" * 5000])
    line = capsys.readouterr().err.splitlines()[-1]
    assert "error: unrecognized arguments: --xxx" in line
    assert len(line) <= LONGEST_ERROR


def test_question_on_stdin_gets_no_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A library that asks finds the end of its input, whatever the user's terminal would answer."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert run(lambda: int(input("Run it? ") == "n"), debug=False) == 1
    assert "EOFError" in capsys.readouterr().err
    assert sys.stdin.read() == "y\n"


def test_no_warning_without_a_home() -> None:
    """Matplotlib's warning of its temporary folder does not stand next to a command's output."""
    code = (
        "from igrag.cli import setup_logging; setup_logging('warning', verbose=False); "
        "import matplotlib; matplotlib.get_cachedir()"
    )
    hidden = ("MPLCONFIGDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPO_ROOT,
        env={**environment, "HOME": os.devnull},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
