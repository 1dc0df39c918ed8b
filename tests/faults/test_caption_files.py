"""Caption files as they lie on the web: rejected captions, ids of two types, other formats."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from evaluation.coco_results import match_results
from evaluation.dataset import read_coco
from igrag.data.coco import read_captions
from igrag.errors import DataError, UsageError


def save(path: Path, content: Any) -> Path:
    """Saves a text, or data as JSON."""
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8")
    return path


def read(path: Path, **options: Any) -> list[tuple[Any, ...]]:
    """Returns what is read as (id, file name, *captions)."""
    return [(e.image_id, e.file_name, *e.captions) for e in read_captions(path, **options)]


def test_rejected_captions_are_left_out_with_a_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """VizWiz's stock sentences and rejected captions are no references, unless they are kept."""
    annotations = [
        {"image_id": 1, "caption": "a dog", "is_rejected": False, "is_precanned": False},
        {"image_id": 1, "caption": "Quality issues are too severe", "is_precanned": True},
        {"image_id": 1, "caption": "spam", "is_rejected": True},
    ]
    images = [{"id": 1, "file_name": "1.jpg"}]
    path = save(tmp_path / "vizwiz.json", {"images": images, "annotations": annotations})
    with caplog.at_level(logging.WARNING):
        assert read(path) == [(1, "1.jpg", "a dog")]
    assert "2 captions were rejected" in caplog.text
    assert len(read(path, keep_rejected=True)[0]) == 5


def test_text_ids_beside_number_ids_are_the_same_images(tmp_path: Path) -> None:
    """42 and "42" are one image in the captions file, and between it and a results file."""
    images = [{"id": 42, "file_name": "./a.jpg"}, {"id": 7, "file_name": "b.jpg"}]
    annotations = [{"image_id": "42", "caption": "a dog"}, {"image_id": 7, "caption": "a cat"}]
    path = save(tmp_path / "captions.json", {"images": images, "annotations": annotations})
    assert read(path) == [(42, "a.jpg", "a dog"), (7, "b.jpg", "a cat")]
    found = match_results("mine", {"7": "one", 42: "two"}, read_coco(path))
    assert found == ("two", "one")
    images[1]["id"] = "seven"
    save(path, {"images": images, "annotations": annotations[:1]})
    assert [each[0] for each in read(path)] == ["42", "seven"]  # one type for Arrow


def test_special_tokens_in_results_are_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Captions that were decoded with their special tokens score lower: that is told."""
    images = [{"id": 1, "file_name": "1.jpg"}]
    annotations = [{"image_id": 1, "caption": "a dog"}]
    path = save(tmp_path / "captions.json", {"images": images, "annotations": annotations})
    with caplog.at_level(logging.WARNING):
        match_results("mine", {1: "a dog"}, read_coco(path))
        assert caplog.text == ""
        match_results("mine", {1: "<pad> a dog</s>"}, read_coco(path))
    assert "mine: 1 of 1 captions hold special tokens" in caplog.text


KARPATHY = {
    "dataset": "coco",
    "images": [
        {
            "filepath": "val2014",
            "filename": f"COCO_{number}.jpg",
            "cocoid": number,
            "split": split,
            "sentences": [{"raw": "a dog"}, {"raw": "a cat"}],
        }
        for number, split in enumerate(("train", "restval", "val", "test"))
    ],
}


def test_karpathy_file_is_read_by_its_splits(tmp_path: Path) -> None:
    """Train comes with restval; without a split the error names them."""
    path = save(tmp_path / "dataset_coco.json", KARPATHY)
    assert [each[0] for each in read(path, split="train")] == [0, 1]
    assert read(path, split="test") == [(3, "val2014/COCO_3.jpg", "a dog", "a cat")]
    for split in (None, "dev"):
        with pytest.raises(UsageError, match=r"restval, test, train, val, .* --caption_split"):
            read_captions(path, split=split)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.jpg#0\ta dog\n1.jpg#1\ta cat\n2.jpg#0\ta bus\n",
         [("1", "1.jpg", "a dog", "a cat"), ("2", "2.jpg", "a bus")]),
        ("image,caption\na_1.jpg,\"A dog, and a cat .\"\na_1.jpg,a cat\n",
         [("a_1", "a_1.jpg", "A dog, and a cat .", "a cat")]),
        ("image_name| comment_number| comment\n1.jpg| 0| a dog\n1.jpg| 4   A dog runs .\n",
         [("1", "1.jpg", "a dog", "A dog runs .")]),
        ("COCO_train2014_000000000042#zhm#0 一只狗\nCOCO_train2014_000000000042#zhm#1 狗\n",
         [(42, "COCO_train2014_000000000042.jpg", "一只狗", "狗")]),
    ],
    ids=["flickr30k-token", "flickr8k-csv", "flickr30k-table", "coco-cn"],
)  # fmt: skip
def test_lists_and_tables_of_captions_are_read(
    tmp_path: Path, text: str, expected: list[tuple[Any, ...]]
) -> None:
    """Flickr's and COCO-CN's files are told apart by their content."""
    assert read(save(tmp_path / "captions.txt", text)) == expected


def test_line_unlike_the_others_is_an_error_with_its_number(tmp_path: Path) -> None:
    """A list that breaks off is not read in part."""
    path = save(tmp_path / "results.token", "1.jpg#0\ta dog\nnonsense\n")
    with pytest.raises(DataError, match=r"results\.token:2: found 'nonsense'"):
        read_captions(path)
