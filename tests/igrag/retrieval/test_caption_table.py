"""The memory-mapped captions of a knowledge base, and its image ids."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from datasets import Dataset, concatenate_datasets

from igrag.retrieval.caption_table import CaptionTable, open_table, sorted_rows


def saved(folder: Path, ids: list[Any], **options: Any) -> CaptionTable:
    """Saves captions as a knowledge base does, and opens them."""
    columns = {
        "image_id": ids,
        "file_name": [f"{image_id}.jpg" for image_id in ids],
        "captions": [[f"caption of {image_id}", "another"] for image_id in ids],
    }
    Dataset.from_dict(columns).save_to_disk(str(folder), **options)
    return CaptionTable.open(folder)


@pytest.mark.parametrize("ids", [[30, -1, 7, 0, 2**40], ["30", "b", "7", "x y", "0"]])
@pytest.mark.parametrize("files", [1, 3])
def test_rows_are_found_by_number_or_text(tmp_path: Path, ids: list[Any], files: int) -> None:
    """Each id has its row, whether it is given as a number or as text; others have none."""
    table = saved(tmp_path / "a", ids, num_shards=files)
    assert [*table.image_ids] == ids == [table.image_ids[row] for row in range(5)]
    assert table.image_ids[1:4] == ids[1:4] and len(table) == 5
    for row, image_id in enumerate(ids):
        assert table.image_ids.row(image_id) == table.image_ids.row(str(image_id)) == row
    for unknown in (5, "5", "007", "", None, "1e3", 2**70, 3.5):
        assert table.image_ids.row(unknown) is None
    assert table.of_row(2) == (f"caption of {ids[2]}", "another")
    assert [*table][2:4] == [f"caption of {ids[1]}", "another"]


@pytest.mark.parametrize("ids", [[3, 4, 3], ["a", "b", "a"]])
def test_repeated_id_is_an_error(tmp_path: Path, ids: list[Any]) -> None:
    """An id that names two images would give one of them the other's captions."""
    with pytest.raises(ValueError, match="image ids are repeated"):
        saved(tmp_path / "a", ids)


def test_other_columns_or_a_selection_are_errors(tmp_path: Path) -> None:
    """A table of something else is told by its missing column."""
    Dataset.from_dict({"image_id": [1], "captions": [["a"]]}).save_to_disk(str(tmp_path / "a"))
    with pytest.raises(ValueError, match="has no column file_name, expected image_id"):
        CaptionTable.open(tmp_path / "a")


def test_selected_and_joined_rows_are_saved_as_rows(tmp_path: Path) -> None:
    """What datasets selected or joined before it saved is read in that order."""
    part = Dataset.from_dict(
        {"image_id": [1, 2, 3], "file_name": ["a"] * 3, "captions": [["x"]] * 3}
    )
    concatenate_datasets([part.select([2, 0]), part.select([1])]).save_to_disk(str(tmp_path / "a"))
    assert [*CaptionTable.open(tmp_path / "a").image_ids] == [3, 1, 2]


@pytest.mark.parametrize("ids", [[30, -1, 7, 0, 2**40], ["30", "b", "é", "x y", "", "𝒳", "\uffff"]])
def test_order_of_a_file_finds_the_same_rows(tmp_path: Path, ids: list[Any]) -> None:
    """The order that is written once is the one that opening an earlier version's table finds."""
    table = saved(tmp_path / "a", ids, num_shards=2)
    order = sorted_rows(open_table(tmp_path / "a").column("image_id"))
    assert [ids[row] for row in order] == sorted(ids)
    opened = CaptionTable.open(tmp_path / "a", order)
    for image_id in (*ids, "missing", 5, ""):
        assert opened.image_ids.row(image_id) == table.image_ids.row(image_id)


@pytest.mark.parametrize("ids", [[3, 4, 3], ["a", "b", "a"]])
def test_repeated_id_is_not_written(tmp_path: Path, ids: list[Any]) -> None:
    """Repeated ids are found where the order is written, which opening does not repeat."""
    column = pyarrow.chunked_array([ids[:2], ids[2:]])
    with pytest.raises(ValueError, match="image ids are repeated"):
        sorted_rows(column)


@pytest.mark.parametrize("order", [[0, 1], [1, 0, 2], [0, 1, 3], [0.0, 1.0, 2.0]])
def test_order_of_other_ids_is_an_error(tmp_path: Path, order: list[Any]) -> None:
    """An order of another length, of other ids, or past their end is refused."""
    saved(tmp_path / "a", ["a", "b", "c"])
    wrong = np.array(order)
    wrong = wrong if wrong.dtype.kind == "f" else wrong.astype(np.uint32)
    with pytest.raises(ValueError, match="the order of the image ids is not theirs"):
        CaptionTable.open(tmp_path / "a", wrong)
