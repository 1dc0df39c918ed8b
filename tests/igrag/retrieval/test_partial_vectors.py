"""The folder of an unfinished knowledge base: one build at a time, and whole rows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from igrag.config import REPO_ROOT
from igrag.errors import KnowledgeBaseError, OutputError
from igrag.output_lock import LOCK_NAME
from igrag.retrieval.partial_vectors import FORMAT, PROGRESS, SKIPPED, VECTORS, PartialVectors

ROWS = np.arange(6, dtype=np.float32).reshape(3, 2)


def start(folder: Path) -> PartialVectors:
    """Begin or continue an unfinished build."""
    return PartialVectors(folder, inputs={}, dimension=2)


def test_second_build_is_locked_out(tmp_path: Path) -> None:
    """A second build is refused until the first one ends, and then continues it."""
    folder = tmp_path / "kb.partial"
    with start(folder) as first:
        first.append(ROWS, {})
        with pytest.raises(OutputError, match=f"process {os.getpid()} .* is writing there"):
            start(folder)
    with start(folder) as second:
        assert second.processed == 3
        second.remove()
    assert list(tmp_path.iterdir()) == []


def test_lock_of_a_killed_build_is_released(tmp_path: Path) -> None:
    """The lock ends with its process, even though the process could not clean up."""
    code = (
        "import sys, time; from pathlib import Path;"
        "from tests.igrag.retrieval import test_partial_vectors;"
        "held = test_partial_vectors.start(Path(sys.argv[1])); print('ready', flush=True);"
        "time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=REPO_ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    with process.stdout:
        try:
            assert process.stdout.readline() == b"ready\n"
            with pytest.raises(OutputError, match=f"process {process.pid} "):
                start(tmp_path)
        finally:
            process.kill()
            process.wait()
    with start(tmp_path) as after:
        assert (after.processed, after.restarted) == (0, False)


def test_build_killed_before_its_first_record_is_continued(tmp_path: Path) -> None:
    """A folder that holds only the lock is an unfinished build, and not a user's folder."""
    (tmp_path / LOCK_NAME).touch()
    with start(tmp_path) as partial:
        assert partial.processed == 0


def test_refused_folder_is_not_left_locked(tmp_path: Path) -> None:
    """A folder that cannot be continued gives the same error again, and not that it is locked."""
    (tmp_path / VECTORS).mkdir()
    (tmp_path / LOCK_NAME).touch()
    state = {"format": FORMAT, "inputs": {}, "processed": 0, "skipped_bytes": 0}
    (tmp_path / PROGRESS).write_text(json.dumps(state))
    for _ in range(2):
        with pytest.raises(IsADirectoryError):
            start(tmp_path)


def test_skipped_images_are_recorded_once(tmp_path: Path) -> None:
    """Each batch appends its own skipped images, and all of them are read on resuming."""
    with start(tmp_path) as partial:
        partial.append(ROWS, {1: "torn \N{BROKEN HEART}", 3: "half \udcff"})
        first = (tmp_path / SKIPPED).read_bytes()
        recorded = (tmp_path / PROGRESS).stat().st_size
        for index in range(5, 105):
            partial.append(None, {index: "missing"})
        assert (tmp_path / SKIPPED).read_bytes().startswith(first)
        assert (tmp_path / PROGRESS).stat().st_size < recorded + 10
        expected = dict(partial.skipped)
    with start(tmp_path) as again:
        assert (again.processed, again.skipped, again.restarted) == (105, expected, False)
        assert list(again.kept()) == [0, 2, 4]
        np.testing.assert_array_equal(again.vectors(), ROWS)


def test_skipped_images_beyond_the_record_are_cut_off(tmp_path: Path) -> None:
    """Killed between writing what is left out and recording it, a build continues aligned."""
    with start(tmp_path) as partial:
        partial.append(ROWS[:1], {1: "torn"})
    with (tmp_path / SKIPPED).open("ab") as file:
        file.write(b'[2, "half a li')
    with start(tmp_path) as again:
        again.append(ROWS[1:2], {2: "missing"})
    with start(tmp_path) as again:
        assert (again.processed, again.skipped) == (4, {1: "torn", 2: "missing"})


@pytest.mark.parametrize(
    "content", [b"", b'[1, "torx"]', b"1234567890123", b'["1", "torn"', b"\xff"]
)
def test_lost_records_of_skipped_images_start_over(tmp_path: Path, content: bytes) -> None:
    """Without them rows would go to the wrong images."""
    with start(tmp_path) as partial:
        partial.append(ROWS[:1], {1: "torn"})
    (tmp_path / SKIPPED).write_bytes(content)
    with start(tmp_path) as again:
        assert (again.processed, again.skipped, again.restarted) == (0, {}, True)


@pytest.mark.parametrize("change", [4, 8, -4, -8])
def test_vectors_of_another_size_are_refused(tmp_path: Path, change: int) -> None:
    """A file of more or fewer bytes than its rows would give images others' vectors."""
    with start(tmp_path) as partial:
        partial.append(ROWS[:2], {})
        np.testing.assert_array_equal(partial.vectors(), ROWS[:2])
        with (tmp_path / VECTORS).open("r+b") as file:
            file.truncate(16 + change)
        with pytest.raises(KnowledgeBaseError, match=f"found {16 + change} bytes, expected 16 "):
            partial.vectors()


def test_build_that_fails_at_its_first_record_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that fails before its first record, as on a full disk, leaves a usable folder."""
    folder = tmp_path / "kb.partial"

    def fail(path: Path, content: object) -> None:
        (path.parent / f".{path.name}.1.tmp.json").touch()  # As kill -9 leaves it.
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("igrag.retrieval.partial_vectors.write_json", fail)
        with pytest.raises(OSError, match="No space left"):
            start(folder)
    with start(folder) as partial:
        partial.append(ROWS, {})
    with start(folder) as partial:
        assert partial.processed == 3
