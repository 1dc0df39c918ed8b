"""Files and folders that appear whole or not at all."""

import hashlib
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from igrag.errors import DataError, UsageError
from igrag.files import (
    atomic_directory,
    atomic_path,
    check_output_folder,
    read_json,
    sha256_file,
    write_json,
)


def names(folder: Path) -> list[str]:
    """Lists what is in a folder, hidden things included."""
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_on_success(tmp_path: Path) -> None:
    """The file is not there before the block ends, and nothing else is there after it."""
    target = tmp_path / "new" / "a.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert names(target.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_file_stays_on_failure(tmp_path: Path, error: type[BaseException]) -> None:
    """Whatever ends the block early, the old file stays and the temporary one goes."""
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(error), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise error
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_temporary_file_keeps_the_suffix(tmp_path: Path) -> None:
    """np.save appends .npy to a name without it, and must not do so here."""
    with atomic_path(tmp_path / "a.npy") as temporary:
        np.save(temporary, np.arange(3))
    assert names(tmp_path) == ["a.npy"]
    assert np.load(tmp_path / "a.npy").tolist() == [0, 1, 2]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    """Files and folders are as readable as those that open() and mkdir() make."""
    before = os.umask(0o022)
    try:
        with atomic_path(tmp_path / "a"):
            pass
        with atomic_directory(tmp_path / "b"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o755


def test_folder_is_replaced_whole(tmp_path: Path) -> None:
    """Nothing of the old folder is left in the new one, nor next to it."""
    target = tmp_path / "base"
    for name in ("old", "new"):
        with atomic_directory(target) as temporary:
            (temporary / name).write_text(name)
    assert names(target) == ["new"]
    assert names(tmp_path) == ["base"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_folder_stays_on_failure(tmp_path: Path, error: type[BaseException]) -> None:
    """The old folder stays as it was when the new one is not finished."""
    target = tmp_path / "base"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(error), atomic_directory(target) as temporary:
        (temporary / "new").touch()
        raise error
    assert names(target) == ["old"]
    assert names(tmp_path) == ["base"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_folder_comes_back_when_the_swap_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """The old folder, already moved aside, comes back when the new one cannot replace it."""
    target = tmp_path / "base"
    target.mkdir()
    (target / "old").touch()
    replace = Path.replace

    def fail_on_the_new(self: Path, to: Path) -> Path:
        if self.name.endswith(".tmp"):
            raise error
        return replace(self, to)

    monkeypatch.setattr(Path, "replace", fail_on_the_new)
    with pytest.raises(error), atomic_directory(target):
        pass
    assert names(target) == ["old"]
    assert names(tmp_path) == ["base"]


def test_folder_does_not_replace_a_file(tmp_path: Path) -> None:
    """A file that stands where a folder is to be made is never removed."""
    target = tmp_path / "base"
    target.write_text("mine")
    with pytest.raises(NotADirectoryError, match="expected a folder"), atomic_directory(target):
        pass
    assert target.read_text() == "mine"
    assert names(tmp_path) == ["base"]


def test_json_comes_back(tmp_path: Path) -> None:
    """What is written is read again, and is readable UTF-8 for people too."""
    write_json(tmp_path / "a.json", {"caption": "ein Bär", "scores": [0.5, None]})
    assert read_json(tmp_path / "a.json") == {"caption": "ein Bär", "scores": [0.5, None]}
    assert "Bär" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_json_refuses_what_is_not_json(tmp_path: Path) -> None:
    """NaN is not JSON: nothing is written."""
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"score": float("nan")})
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"a\.json: no such file, expected JSON"),
        (b'{\n "a": 1,\n', r"a\.json:\d: not valid JSON"),
        (b"\xff\xfe", r"a\.json: is not UTF-8"),
    ],
)
def test_unreadable_json(tmp_path: Path, content: bytes | None, message: str) -> None:
    """A missing or damaged file is named, with the line where there is one."""
    file = tmp_path / "a.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_json(file)


def test_output_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An existing folder or one that can be made is accepted; a file is an error."""
    for folder in (tmp_path, tmp_path / "a" / "b"):
        check_output_folder(folder, option="--output_dir")
    assert names(tmp_path) == []
    monkeypatch.chdir(tmp_path)
    check_output_folder(Path("c"), option="--output_dir")
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "b", Path("file")):
        with pytest.raises(UsageError, match=r"file: is no folder, .*give another --output_dir"):
            check_output_folder(path, option="--output_dir")


def test_output_folder_that_cannot_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing is tried, since permissions, disks and file systems refuse in many ways."""

    def fail(dir: Path) -> None:
        assert dir == tmp_path
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("igrag.files.tempfile.TemporaryFile", fail)
    message = r"new: cannot be written to \(Read-only file system\); give another --output"
    with pytest.raises(UsageError, match=message):
        check_output_folder(tmp_path / "new", option="--output")


def test_sha256(tmp_path: Path) -> None:
    """The digest is that of all bytes, over more than one block too."""
    content = bytes(range(256)) * 10_000
    (tmp_path / "a").write_bytes(content)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_json_holds_names_that_are_not_utf8(tmp_path: Path) -> None:
    """A file name of odd bytes is written as an escape, and read back as it was."""
    content = {"images": "b\udcff\N{GRINNING FACE}"}
    write_json(tmp_path / "a.json", content)
    assert b"b\\udcff\xf0\x9f" in (tmp_path / "a.json").read_bytes()
    assert read_json(tmp_path / "a.json") == content
