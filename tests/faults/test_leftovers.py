"""What killed processes leave is removed by the next owner of the output, and nothing else is."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from igrag.errors import KnowledgeBaseError
from igrag.files import atomic_directory, atomic_path, remove_leftovers
from igrag.output_lock import held_since, lock_beside, lock_folder
from igrag.retrieval.storage import open_vectors

CHECKPOINT, FILE = ".checkpoint-7.a1b2.tmp", ".all_results.json.a1b2.tmp.json"


def leave(folder: Path, *names: str) -> None:
    """Leaves a folder or a file of each name, as a process that is killed does."""
    for name in names:
        if name.endswith(".json"):
            (folder / name).write_text("half")
        else:
            (folder / name).mkdir()
            (folder / name / "optimizer.pt").write_text("half")


def is_own(name: str) -> bool:
    """Returns whether a name is one of the test's outputs."""
    return name in ("checkpoint-7", "all_results.json", "kb")


def test_leftovers_of_earlier_owners_are_removed(tmp_path: Path) -> None:
    """Folders and files of the owner's outputs go; those of other names stay."""
    kept = [".checkpoint-7.tmp", ".notes.a1b2.tmp", ".other.json.a1b2.tmp.json"]
    leave(tmp_path, CHECKPOINT, FILE, *kept)
    with lock_folder(tmp_path, option="--output_dir"):
        remove_leftovers(tmp_path, is_own=is_own, before=held_since(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_what_is_younger_than_the_lock_is_not_removed(tmp_path: Path) -> None:
    """A process without the lock may just be writing it."""
    with lock_folder(tmp_path, option="--output_dir"):
        time.sleep(0.02)
        leave(tmp_path, CHECKPOINT, FILE)
        remove_leftovers(tmp_path, is_own=is_own, before=held_since(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([CHECKPOINT, FILE])


def test_what_another_user_left_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a shared folder every user removes their own."""
    leave(tmp_path, CHECKPOINT, FILE)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1, raising=False)
    remove_leftovers(tmp_path, is_own=is_own, before=time.time_ns())
    assert (tmp_path / CHECKPOINT).is_dir() and (tmp_path / FILE).is_file()


def test_output_that_was_moved_aside_comes_back(tmp_path: Path) -> None:
    """Killed between moving the old folder aside and the new one in, both folders were hidden."""
    aside = tmp_path / ".kb.a1b2.old"
    (aside / "kb").mkdir(parents=True)
    (aside / "kb" / "vectors.npy").write_text("old")
    leave(tmp_path, ".kb.c3d4.tmp")
    with lock_beside(tmp_path / "kb", option="--output"):
        assert (tmp_path / "kb" / "vectors.npy").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["kb"]


@pytest.mark.parametrize("write", [atomic_path, atomic_directory])
def test_content_is_on_the_disk_before_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], object]
) -> None:
    """Without the flush a power cut leaves an empty file under the final name."""
    flushed: list[int] = []

    def flush(number: int) -> None:
        flushed.append(os.fstat(number).st_ino)

    monkeypatch.setattr("igrag.files.os.fsync", flush)
    target = tmp_path / "output"
    with write(target) as temporary:  # type: ignore[attr-defined]
        written = temporary / "deep" / "file" if write is atomic_directory else temporary
        written.parent.mkdir(exist_ok=True)
        written.write_text("content")
    content = [path for path in [target, *target.rglob("*")] if path.is_file()]
    assert [path.stat().st_ino for path in content if stat.S_ISREG(path.stat().st_mode)] == flushed


class MakesFolder:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self._folder),)


def test_pickle_as_the_vectors_of_a_knowledge_base_is_not_run(tmp_path: Path) -> None:
    """NumPy would load a file that is no array by pickle, if it were allowed to."""
    import pickle

    folder = tmp_path / "folder"
    (tmp_path / "vectors.npy").write_bytes(pickle.dumps(MakesFolder(folder)))
    with pytest.raises(KnowledgeBaseError, match=r"vectors\.npy: is damaged"):
        open_vectors(tmp_path, {"count": 1, "dimension": 2})
    assert not folder.exists()
    np.save(tmp_path / "vectors.npy", np.array([[1, 0]], np.float32))
    assert open_vectors(tmp_path, {"count": 1, "dimension": 2}).shape == (1, 2)
