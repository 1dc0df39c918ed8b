"""Reading COCO-format files."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from igrag.data.coco import CaptionedImage, DetectedObject, read_captions, read_instances
from igrag.errors import DataError

IMAGES = [
    {"id": 7, "file_name": "7.jpg", "width": 200, "height": 100},
    {"id": 3, "file_name": "3.jpg", "width": 200, "height": 100},
]


def save(path: Path, data: object) -> Path:
    """Writes JSON and returns the file."""
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def captions(**changes: Any) -> dict[str, Any]:
    """Returns a small captions file's data with some keys replaced."""
    annotations = [
        {"id": 1, "image_id": 3, "caption": "A cat."},
        {"id": 2, "image_id": 7, "caption": "  A dog \n runs. "},
        {"id": 3, "image_id": 7, "caption": "One dog."},
    ]
    return {"images": IMAGES, "annotations": annotations, **changes}


def instances(**changes: Any) -> dict[str, Any]:
    """Returns a small instances file's data with some keys replaced."""
    return {
        "images": IMAGES,
        "annotations": [{"image_id": 7, "category_id": 18, "bbox": [20, 10, 100, 50]}],
        "categories": [{"id": 18, "name": "dog"}],
        **changes,
    }


def test_captions_keep_the_order_of_the_file(tmp_path: Path) -> None:
    """Images and captions keep the file's order, and white space is normalized."""
    assert read_captions(save(tmp_path / "c.json", captions())) == [
        CaptionedImage(7, "7.jpg", ("A dog runs.", "One dog.")),
        CaptionedImage(3, "3.jpg", ("A cat.",)),
    ]


def test_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    """A file saved by an editor with a byte order mark reads as any other."""
    path = tmp_path / "c.json"
    path.write_text(json.dumps(captions()), encoding="utf-8-sig")
    assert len(read_captions(path)) == 2


def test_empty_and_unlisted_captions_are_skipped_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Captions without text or image are skipped, and the log has their number."""
    annotations = [
        {"image_id": 3, "caption": "  "},
        {"image_id": 99, "caption": "Nobody's."},
        {"image_id": 98, "caption": "Nobody's."},
    ]
    with caplog.at_level(logging.WARNING, logger="igrag.data.coco"):
        read = read_captions(save(tmp_path / "c.json", captions(annotations=annotations)))
    assert [entry.captions for entry in read] == [(), ()]
    assert "1 captions are empty" in caplog.text
    assert "2 captions belong to no listed image" in caplog.text


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "found a list"),
        ({"annotations": []}, "'images'"),
        (captions(images=[]), "no images"),
        (captions(annotations={}), "found an object"),
        (captions(images=[{"id": 1}], annotations=[]), "'file_name'"),
        (captions(images=[3]), "images[0]"),
        (captions(images=[{"id": True, "file_name": "a"}]), "images[0]"),
        (captions(images=[{"id": 2**63, "file_name": "a"}]), "images[0]"),
        (captions(images=[*IMAGES, IMAGES[0]]), "7 is there twice"),
        (captions(images=[*IMAGES, {"id": "7", "file_name": "a"}]), "'7' is there twice"),
        (captions(annotations=[{"image_id": 7, "caption": 5}]), "annotations[0]"),
        (captions(annotations=[{"caption": "A dog."}]), "'image_id'"),
        (
            captions(annotations=[{"image_id": 7, "caption": "A \ud800."}]),
            "annotations[0]: 'caption' has half a surrogate pair",
        ),
        (
            captions(images=[{"id": 7, "file_name": "\udcff.jpg"}], annotations=[]),
            "image 7: 'file_name' has half a surrogate pair",
        ),
        (captions(images=[{"id": "\ud800", "file_name": "a"}]), "images[0]: 'id' has half"),
    ],
)
def test_invalid_captions_file_is_refused(tmp_path: Path, data: object, words: str) -> None:
    """Each wrong structure gives one line that names the file and the position."""
    path = save(tmp_path / "c.json", data)
    with pytest.raises(DataError) as caught:
        read_captions(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b'{\n"images": [', ":2: not valid JSON"), (b"\xff\xfe{", "UTF-8"), (b"", "not valid JSON")],
)
def test_invalid_json_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    """Damaged JSON is refused with its line, bad UTF-8 with its byte."""
    (tmp_path / "c.json").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_captions(tmp_path / "c.json")


def test_missing_annotation_file_is_refused(tmp_path: Path) -> None:
    """A missing file and a folder are named."""
    with pytest.raises(DataError, match=r"missing\.json: no such file"):
        read_captions(tmp_path / "missing.json")
    with pytest.raises(DataError, match="cannot be read"):
        read_captions(tmp_path)


def test_boxes_are_relative_and_inside_the_image(tmp_path: Path) -> None:
    """Boxes become fractions of the image, cut at its edge; every image has its list."""
    annotations = [
        {"image_id": 7, "category_id": 18, "bbox": [20, 10, 100, 50]},
        {"image_id": 7, "category_id": 18, "bbox": [150, -20, 100, 70]},
    ]
    read = read_instances(save(tmp_path / "i.json", instances(annotations=annotations)))
    assert read == {
        "7.jpg": [
            DetectedObject("dog", (0.1, 0.1, 0.5, 0.5)),
            DetectedObject("dog", (0.75, 0.0, 0.25, 0.5)),
        ],
        "3.jpg": [],
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"annotations": [{"image_id": 7, "category_id": 1, "bbox": [0] * 4}]}, "category_id 1"),
        ({"annotations": [{"image_id": 9, "category_id": 18, "bbox": [0] * 4}]}, "image_id 9"),
        ({"annotations": [{"image_id": 7, "category_id": 18, "bbox": [0] * 3}]}, "four numbers"),
        ({"annotations": [{"image_id": 7, "category_id": 18, "bbox": [9, 9, -5, 9]}]}, "negative"),
        ({"categories": [{"id": 18}]}, "'name'"),
        ({"categories": [{"id": 18, "name": "\udc00"}]}, "categories[0]: 'name' has half"),
        ({"images": [{"id": 7, "file_name": "7.jpg"}]}, "'width'"),
        ({"images": [{**IMAGES[0], "file_name": ""}]}, "'file_name'"),
        ({"images": [*IMAGES, {**IMAGES[0], "id": 8}]}, "'7.jpg' is there twice"),
    ],
)
def test_invalid_instances_file_is_refused(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    """Each wrong entry gives one line that names its position."""
    with pytest.raises(DataError) as caught:
        read_instances(save(tmp_path / "i.json", instances(**changes)))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
