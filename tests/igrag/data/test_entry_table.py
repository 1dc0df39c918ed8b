"""Captioned images in an Arrow file."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from igrag.data import entry_table
from igrag.data.coco import CaptionedImage, ImageId
from igrag.data.entry_table import EntryTable, write_entries
from igrag.errors import DataError


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes several record batches of a few images."""
    monkeypatch.setattr(entry_table, "_ROWS", 3)


def images(*image_ids: ImageId) -> Iterator[CaptionedImage]:
    """Yields an image for each id."""
    for image_id in image_ids:
        yield CaptionedImage(image_id, f"{image_id}.jpg", (f"Caption of {image_id}.", "Another."))


@pytest.mark.parametrize("ids", [(5, 3, 4, 1), ("c", "a", "b", "\N{DOG}")])
def test_images_are_read_as_they_were_written(tmp_path: Path, ids: tuple[ImageId, ...]) -> None:
    """Across batches, and in a process that gets the table from another one."""
    path = tmp_path / "plan.arrow"
    assert write_entries(path, images(*ids), source=Path("c.json")) == 4
    table = pickle.loads(pickle.dumps(EntryTable(path)))
    assert list(table) == list(images(*ids)) and table[1:3] == list(images(*ids[1:3]))
    assert [table.file_name(index) for index in range(4)] == [f"{each}.jpg" for each in ids]
    assert table.rows(2, 9).column("image_id").to_pylist() == list(ids[2:])
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ids", [(5, 3, 4, 1, 3), ("c", "a", "b", "d", "a")])
def test_repeated_id_is_refused(tmp_path: Path, ids: tuple[ImageId, ...]) -> None:
    """However far apart they are; nothing is written."""
    with pytest.raises(DataError, match=rf"c.json: the id {ids[-1]!r} is there twice"):
        write_entries(tmp_path / "plan.arrow", images(*ids), source=Path("c.json"))
    assert list(tmp_path.iterdir()) == []


def test_texts_with_the_same_hash_are_two_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sorted are hashes, and the ids themselves decide."""
    monkeypatch.setattr(entry_table, "_keys", lambda ids: np.zeros(len(ids), "<i8"))
    assert write_entries(tmp_path / "plan.arrow", images("a", "b"), source=Path("c.json")) == 2


@pytest.mark.parametrize("ids", [(1, 2, "3"), (1, 2, 3, "4"), ("1", 2), ("1", "2", "3", 4)])
def test_ids_of_two_types_are_refused(tmp_path: Path, ids: tuple[ImageId, ...]) -> None:
    """A column has one type, whichever batch the other one is in."""
    with pytest.raises(DataError, match="ids that are numbers and ids that are texts"):
        write_entries(tmp_path / "plan.arrow", images(*ids), source=Path("c.json"))


def test_table_that_another_machine_does_not_see_is_an_error(tmp_path: Path) -> None:
    """The output folder has to be shared."""
    with pytest.raises(DataError, match=r"plan.arrow: .*all machines need one shared output"):
        EntryTable(tmp_path / "plan.arrow")
