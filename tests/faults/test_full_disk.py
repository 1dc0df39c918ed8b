"""A full disk is one line with the path; nothing half-written, and nothing lost of what was."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from igrag.config import REPO_ROOT
from igrag.errors import OutputError
from igrag.files import atomic_directory, atomic_path, naming_full_disk, write_json
from tests.faults.full_tmpfs import full_tmpfs

# Sets a limit of a file's size, which ends writing as a full disk does, and runs a command.
_LIMITED = """
import resource, sys
from pathlib import Path
from igrag.cli import run
from igrag.files import atomic_directory, atomic_path, write_json
limit = 65_536
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
folder = Path(sys.argv[1])
def main():
    {body}
    return 0
sys.exit(run(main, debug=False))
"""


def run_limited(body: str, folder: Path) -> tuple[int, str, str]:
    """Runs code in a process that can write no file above 64 kB."""
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED.format(body=body), str(folder)],
        cwd=REPO_ROOT,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of one megabyte."""
    with full_tmpfs(size=1 << 20) as folder:
        yield folder


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("write_json(folder / 'a.json', ['x' * 100_000])", "a.json"),
        ("exec('with atomic_path(folder / \"a.json\") as path: path.write_bytes(bytes(100_000))')",
         "a.json"),
        ("exec('with atomic_directory(folder / \"kb\") as new: '"
         "'write_json(new / \"b.json\", [\"x\" * 100_000])')", "kb"),
    ],
    ids=["json", "file", "folder"],
)  # fmt: skip
def test_full_disk_names_the_output_and_leaves_it_as_it_was(
    tmp_path: Path, body: str, named: str
) -> None:
    """The error names the outermost output, not a temporary file; what was there is whole."""
    write_json(tmp_path / "a.json", {"old": True})
    write_json(tmp_path / "kb" / "old.json", {"old": True})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    code, _, stderr = run_limited(body, tmp_path)
    assert code == 1 and stderr.count("\n") == 1
    assert stderr.startswith(f"error: {tmp_path / named}: cannot be written: File too large; free")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before
    assert not list(tmp_path.glob(".*"))


def test_known_size_is_in_the_error(tmp_path: Path) -> None:
    """The error has the bytes that are needed and free, also around an inner output."""
    full = OSError(errno.ENOSPC, "No space left on device")
    with (
        pytest.raises(
            OutputError, match=r"kb: .*\(needs 4,096 bytes, [\d,]+ are free\); free"
        ) as error,
        atomic_directory(tmp_path / "kb") as folder,
        naming_full_disk(folder / "vectors", needed=4096),
    ):
        raise full
    assert "vectors" not in str(error.value)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("[enforce fail at inline_container.cc:603] PytorchStreamWriter failed"),
        Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
    ids=["quota", "torch", "safetensors"],
)  # fmt: skip
def test_full_disk_in_any_library_is_the_same_error(tmp_path: Path, error: Exception) -> None:
    """Torch and safetensors raise errors of their own."""
    with (
        pytest.raises(OutputError, match=r"a\.pt: cannot be written"),
        atomic_path(tmp_path / "a.pt"),
    ):
        raise error


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    """An input that is missing is not taken for a full disk."""
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
        (tmp_path / "missing").read_bytes()
    with pytest.raises(RuntimeError, match=r"^broken$"), atomic_path(tmp_path / "a"):
        raise RuntimeError("broken")


def test_full_stdout_is_one_line() -> None:
    """Results that go to a full disk through the shell are an error, without a traceback."""
    with Path("/dev/full").open("w") as full:
        code = (
            "import sys; from igrag.cli import run; sys.exit(run(lambda: print('a' * 9), debug=0))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=REPO_ROOT, stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 1
    assert done.stderr == b"error: stdout or a log file: No space left on device\n"


_BUILD = """
import sys
import numpy as np
from pathlib import Path
from igrag.cli import run
from igrag.data.coco import CaptionedImage
from igrag.retrieval.image_encoder import EncoderIdentity
from igrag.retrieval.storage import write_files
def main():
    identity = EncoderIdentity("clip", 512, "0" * 64, {})
    count = int(sys.argv[2])
    vectors = np.zeros((count, 512), np.float32)
    vectors[:, 0] = 1
    entries = [CaptionedImage(number, f"{number}.jpg", ("a dog",)) for number in range(count)]
    write_files(Path(sys.argv[1]), vectors=vectors, entries=entries, encoder=identity,
                source={}, skipped=())
    return 0
sys.exit(run(main, debug=False))
"""


@pytest.mark.slow
def test_knowledge_base_on_a_full_disk_is_an_error_and_no_crash(small_disk: Path) -> None:
    """The one that is there stays, no temporary folder does, and the error has both sizes."""

    def build(count: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", _BUILD, str(small_disk / "kb"), str(count)],
            cwd=REPO_ROOT,
            capture_output=True,
            text=True,
        )

    assert build(4).returncode == 0
    before = {path.name: path.read_bytes() for path in (small_disk / "kb").rglob("*.*")}
    done = build(1000)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith(f"error: {small_disk / 'kb'}: cannot be written: No space left")
    assert "(needs 2,048,000 bytes, " in done.stderr and done.stderr.count("\n") == 1
    assert {path.name: path.read_bytes() for path in (small_disk / "kb").rglob("*.*")} == before
    assert [path.name for path in small_disk.iterdir()] == ["kb"]
