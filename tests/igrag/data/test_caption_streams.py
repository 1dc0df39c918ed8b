"""Files of captions that are read image by image."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from igrag.data import caption_streams
from igrag.data.caption_streams import stream_captions
from igrag.data.coco import CaptionedImage, read_captions
from igrag.errors import DataError

ROWS = [
    {"file_name": "a/1.jpg", "captions": ["A  dog.", "Two dogs."], "id": 7},
    {"file_name": "./b.png", "captions": [], "id": 8},
]
IMAGES = [
    CaptionedImage(7, "a/1.jpg", ("A dog.", "Two dogs.")),
    CaptionedImage(8, "b.png", ()),
]
COCO: dict[str, Any] = {
    # The captions come first, as some files have it.
    "annotations": [
        {"image_id": 3, "caption": "Third."},
        {"image_id": 1, "caption": " First  one. "},
        {"image_id": 9, "caption": "Of no image."},
        {"image_id": 3, "caption": ""},
        {"image_id": 3, "caption": "Rejected.", "is_rejected": True},
        {"image_id": 3, "caption": "Third again."},
    ],
    "info": {"version": 1.5},
    "images": [
        {"id": 3, "file_name": "3.jpg"},
        {"id": 2, "file_name": "2.jpg"},
        {"id": 1, "file_name": "./1.jpg"},
    ],
}


def save(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Saves rows in the format of a file's name."""
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return path
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["c.jsonl", "c.jsonl.gz", "c.parquet"])
def test_rows_are_images(tmp_path: Path, name: str) -> None:
    """A row has a file name, captions, and an id, or else the name without its suffix is one."""
    assert list(stream_captions(save(tmp_path / name, ROWS))) == IMAGES
    rows = [{"file_name": "a/1.jpg", "text": "A dog."}]
    found = CaptionedImage("a/1", "a/1.jpg", ("A dog.",))
    assert list(stream_captions(save(tmp_path / name, rows))) == [found]


def test_rows_of_a_table_may_share_an_image(tmp_path: Path) -> None:
    """The captions of rows that follow one another with the same file name are one image's."""
    path = tmp_path / "c.csv"
    path.write_text(
        "file_name,caption\n1.jpg,A dog.\n1.jpg,'Two, dogs.'\n2.jpg,\n".replace("'", '"')
    )
    assert list(stream_captions(path)) == [
        CaptionedImage("1", "1.jpg", ("A dog.", "Two, dogs.")),
        CaptionedImage("2", "2.jpg", ()),
    ]


def test_flickr_tables_are_read_as_before(tmp_path: Path) -> None:
    """A table with other heads is left to the reader of known datasets."""
    path = tmp_path / "captions.csv"
    path.write_text("image,caption\n1.jpg,A dog.\n")
    assert list(stream_captions(path)) == read_captions(path)


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("change", ["numbers", "texts", "mixed"])
def test_large_coco_file_is_read_as_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kept: bool,
    change: str,
) -> None:  # fmt: skip
    """In pieces or as a whole: the same images, captions, ids and warnings, in the same order."""
    data = json.loads(json.dumps(COCO))
    for image in data["images"][: {"numbers": 0, "texts": 3, "mixed": 1}[change]]:
        image["id"] = str(image["id"])
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(data))
    expected = read_captions(path, keep_rejected=kept)
    warned = list(caplog.messages)
    caplog.clear()
    monkeypatch.setattr(caption_streams, "LARGE", 1)
    monkeypatch.setattr(caption_streams, "read_captions", None)  # It is not used.
    assert list(stream_captions(path, keep_rejected=kept)) == expected
    assert caplog.messages == warned and len(warned) == 3 - kept


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [{"id": 1, "file_name": "a"}', "not valid JSON"),
        ('{"images": []}', "lists no images"),
        ('{"images": [{"id": 1, "file_name": "a"}, {"id": "1", "file_name": "b"}]}',
         r"images\[1\]: the id '1' is there twice"),
        ('{"images": [{"id": 1}]}', "image 1: expected a text 'file_name', found no such key"),
        ('{"images": [{"id": 1, "file_name": "a"}], "annotations": [3]}',
         r"annotations\[0\]: expected a number or text 'image_id', found a number"),
    ],
)  # fmt: skip
def test_damaged_large_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, message: str
) -> None:
    """The entry that is wrong is named, as in a file that is read as a whole."""
    monkeypatch.setattr(caption_streams, "LARGE", 1)
    path = tmp_path / "captions.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        list(stream_captions(path))


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("c.jsonl", {"captions": ["a"]}, r"c.jsonl:1: expected a text 'file_name'"),
        ("c.jsonl", {"file_name": "a", "caption": 3}, r"c.jsonl:1: expected a text 'caption'"),
        ("c.jsonl", {"file_name": "a", "id": 1.5}, r"c.jsonl:1: expected a number or text 'id'"),
        ("c.parquet", {"captions": ["a"]}, r"c.parquet: row 0: expected a text 'file_name'"),
    ],
)
def test_row_that_is_no_image_is_named(
    tmp_path: Path, name: str, row: dict[str, Any], message: str
) -> None:
    """The error has the line or row."""
    with pytest.raises(DataError, match=message):
        list(stream_captions(save(tmp_path / name, [row])))


@pytest.mark.parametrize("name", ["c.jsonl", "c.csv", "c.parquet", "c.json"])
def test_missing_file_is_an_error(tmp_path: Path, name: str) -> None:
    """Whatever its format would be."""
    with pytest.raises(DataError, match=f"{name}: no such file"):
        list(stream_captions(tmp_path / name))
