"""The folder of an unfinished knowledge base: one build at a time, and whole shards."""

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
from igrag.retrieval.partial_vectors import (
    LARGEST_SHARD,
    PROGRESS,
    SHARDS,
    SMALLEST_SHARD,
    PartialVectors,
    start,
    unfinished_folder,
)

ROWS = np.arange(6, dtype=np.float32).reshape(3, 2)


def begin(folder: Path, *, images: int = 5, batch_size: int = 4) -> PartialVectors:
    """Starts or continues a build of vectors of length 2."""
    return start(folder, inputs={}, dimension=2, images=images, batch_size=batch_size)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the batch size alone decide the size of a shard."""
    monkeypatch.setattr("igrag.retrieval.partial_vectors.SMALLEST_SHARD", 1)


def test_second_build_is_locked_out(tmp_path: Path) -> None:
    """A second build is refused until the first one ends, and then continues it."""
    output = tmp_path / "new" / "kb"
    with unfinished_folder(output) as folder:
        begin(folder).save(1, ROWS[:1], {})
        with (
            pytest.raises(OutputError, match=f"process {os.getpid()} .* is writing there"),
            unfinished_folder(output),
        ):
            pytest.fail("two builds hold one folder")
    with unfinished_folder(output) as folder:
        partial = begin(folder)
        assert partial.missing() == [0]
        partial.remove()
    assert list(tmp_path.rglob("*")) == [tmp_path / "new"]


def test_folder_without_a_record_is_removed(tmp_path: Path) -> None:
    """A build that fails while it is planned leaves nothing behind."""
    with pytest.raises(ZeroDivisionError), unfinished_folder(tmp_path / "new" / "kb") as folder:
        (folder / "plan.arrow").touch()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_lock_of_a_killed_build_is_released(tmp_path: Path) -> None:
    """The lock ends with its process, even though the process could not clean up."""
    code = (
        "import sys, time; from pathlib import Path;"
        "from igrag.retrieval.partial_vectors import unfinished_folder;"
        "held = unfinished_folder(Path(sys.argv[1])); held.__enter__();"
        "print('ready', flush=True); time.sleep(600)"
    )
    output = tmp_path / "kb"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(output)], cwd=REPO_ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    with process.stdout:
        try:
            assert process.stdout.readline() == b"ready\n"
            with (
                pytest.raises(OutputError, match=f"process {process.pid} "),
                unfinished_folder(output),
            ):
                pytest.fail("it was not held")
        finally:
            process.kill()
            process.wait()
    with unfinished_folder(output) as folder:
        assert begin(folder).missing() == [0, 1]


@pytest.mark.parametrize("left", [LOCK_NAME, "plan.arrow", ".plan.arrow.x.tmp.arrow"])
def test_build_killed_before_its_first_record_is_continued(tmp_path: Path, left: str) -> None:
    """What is written before the record is an unfinished build, and not a user's folder."""
    (tmp_path / "kb.partial").mkdir()
    (tmp_path / "kb.partial" / left).touch()
    with unfinished_folder(tmp_path / "kb") as folder:
        assert begin(folder).missing() == [0, 1]


def test_shards_cover_the_plan(tmp_path: Path) -> None:
    """Each has its images, rows and reasons, in the order of the plan."""
    partial = begin(tmp_path)
    assert [partial.images(shard) for shard in range(len(partial))] == [range(4), range(4, 5)]
    partial.save(1, ROWS[:0], {4: "half \udcff"})
    with pytest.raises(KnowledgeBaseError, match=r"000000\.npy: missing or damaged"):
        list(partial.finished())
    partial.save(0, ROWS, {2: "torn \N{BROKEN HEART}"})
    first, last = partial.finished()
    np.testing.assert_array_equal(first.vectors(), ROWS)
    assert (first.count, first.skipped) == (3, {2: "torn \N{BROKEN HEART}"})
    assert (last.count, last.skipped, len(last.vectors())) == (0, {4: "half \udcff"}, 0)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"made_from": 1}', '{"skipped": [[1]]}', "{" * 10_000]
)
def test_shard_with_a_damaged_record_is_missing(tmp_path: Path, content: str) -> None:
    """Without the record rows would go to the wrong images."""
    partial = begin(tmp_path)
    partial.save(0, ROWS, {1: "torn"})
    record = tmp_path / SHARDS / "000000.json"
    known = json.loads(record.read_text())
    if content == '{"skipped": [[1]]}':
        content = json.dumps(known | json.loads(content))
    record.write_text(content)
    assert partial.missing() == [0, 1]


def test_size_of_the_shards_is_recorded(tmp_path: Path) -> None:
    """A build that is continued with another batch size has the shards that it began with."""
    begin(tmp_path, batch_size=2).save(0, ROWS[:2], {})
    assert begin(tmp_path, batch_size=4).missing() == [1, 2]
    assert begin(tmp_path, images=6).missing() == [0, 1, 2]  # Another plan


@pytest.mark.parametrize(
    ("images", "batch_size", "shard"),
    [(10, 32, 256), (118_287, 100, 300), (10**7, 32, 2464), (4 * 10**8, 512, 16_384)],
)
def test_shards_are_few_and_whole_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: int, batch_size: int, shard: int
) -> None:
    """An interruption costs little, and the largest plan has no million of files."""
    assert SMALLEST_SHARD == 256 < LARGEST_SHARD
    monkeypatch.setattr("igrag.retrieval.partial_vectors.SMALLEST_SHARD", SMALLEST_SHARD)
    partial = begin(tmp_path, images=images, batch_size=batch_size)
    assert len(partial.images(0)) == min(images, shard)
    assert len(partial) < 50_000


def test_build_that_fails_at_its_first_record_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that fails before its first record, as on a full disk, leaves a usable folder."""

    def fail(path: Path, content: object) -> None:
        (path.parent / f".{path.name}.1.tmp.json").touch()  # As kill -9 leaves it.
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("igrag.retrieval.partial_vectors.write_json", fail)
        with (
            pytest.raises(OSError, match="No space left"),
            unfinished_folder(tmp_path / "kb") as folder,
        ):
            begin(folder)
    with unfinished_folder(tmp_path / "kb") as folder:
        begin(folder).save(0, ROWS, {3: "torn"})
        assert (folder / PROGRESS).exists() and begin(folder).missing() == [1]
