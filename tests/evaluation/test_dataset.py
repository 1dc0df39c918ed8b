"""Images and references from COCO's format and from JSONL."""

import json
from pathlib import Path
from typing import Any

import pytest

from evaluation.dataset import EvaluationImage, check_images, find_files, read_coco, read_jsonl
from igrag.errors import DataError, ImageError
from tests.tiny import CocoFolder


def save_lines(path: Path, *lines: dict[str, Any]) -> Path:
    """Saves examples, with a prompt and a caption by default."""
    full = [{"prompt": f"p{number}", "caption": "a", **line} for number, line in enumerate(lines)]
    path.write_text("".join(json.dumps(line) + "\n" for line in full), encoding="utf-8")
    return path


def save_names(folder: Path, *names: str) -> Path:
    """Creates empty files with these names."""
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def test_coco_images_have_captions_and_files(coco: CocoFolder) -> None:
    """Every image has all its captions and its file, in the order of the captions file."""
    dataset = read_coco(coco.captions, image_dir=coco.images)
    assert [image.image_id for image in dataset.images] == list(range(1, 13))
    assert dataset.images[4] == EvaluationImage(
        5, ("A dog in field 5, way 0.", "A dog in field 5, way 1."), file=coco.image(5)
    )
    assert dataset.prompts == []
    check_images(dataset)


def test_images_without_captions_are_left_out(
    coco: CocoFolder, caplog: pytest.LogCaptureFixture
) -> None:
    """Images without captions are left out with a warning, but their ids are known."""
    coco.edit(lambda data: data["annotations"].__delitem__(slice(2, 6)))  # of images 2 and 3
    dataset = read_coco(coco.captions, limit=2)
    assert [image.image_id for image in dataset.images] == [1, 4]
    assert "2 images without captions" in caplog.text
    assert dataset.known_ids == frozenset(map(str, range(1, 13)))


def test_coco_file_without_captions_is_an_error(coco: CocoFolder) -> None:
    """A COCO file without any caption is an error."""
    coco.edit(lambda data: data["annotations"].clear())
    with pytest.raises(DataError, match="none of its 12 images has a caption"):
        read_coco(coco.captions)


def test_missing_images_are_counted(coco: CocoFolder) -> None:
    """The error has the first missing image and their number."""
    coco.image(3).unlink()
    with pytest.raises(ImageError, match=r"000000000003\.jpg: .*1 of 12"):
        check_images(read_coco(coco.captions, image_dir=coco.images))


@pytest.mark.parametrize("ids", [(7, 3), ("seven", "003")])
def test_jsonl_ids_keep_their_type(tmp_path: Path, ids: tuple[Any, Any]) -> None:
    """Ids stay numbers or texts; without references the caption is the reference."""
    lines = ({"image_id": ids[0]}, {"image_id": ids[1], "references": ["b", "c"]})
    dataset = read_jsonl(save_lines(tmp_path / "a.jsonl", *lines))
    assert dataset.images == (
        EvaluationImage(ids[0], ("a",), "p0"),
        EvaluationImage(ids[1], ("b", "c"), "p1"),
    )
    assert dataset.prompts == ["p0", "p1"]


def test_jsonl_without_ids_is_numbered(tmp_path: Path) -> None:
    """Without ids the index of a line, from 0, is its id."""
    dataset = read_jsonl(save_lines(tmp_path / "a.jsonl", {}, {}, {}), limit=2)
    assert [image.image_id for image in dataset.images] == [0, 1]


def test_jsonl_without_ids_has_no_image_files(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An index is not used to find an image, and a warning is logged."""
    folder = save_names(tmp_path / "images", "0.jpg", "000000000001.jpg")
    dataset = read_jsonl(save_lines(tmp_path / "a.jsonl", {}, {}), image_dir=folder)
    assert [image.file for image in dataset.images] == [None, None]
    assert 'no line has an "image_id"' in caplog.text


def test_jsonl_with_some_ids_is_an_error(tmp_path: Path) -> None:
    """An index could be another line's id, so either all lines have an id or none."""
    with pytest.raises(DataError, match='1 of 2 lines have no "image_id"'):
        read_jsonl(save_lines(tmp_path / "a.jsonl", {"image_id": 1}, {}))


def test_lines_about_one_image_are_merged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Several lines of one image are its references, and a warning is logged."""
    lines = [{"image_id": 4, "caption": text} for text in ("b", "c", "b")]
    dataset = read_jsonl(save_lines(tmp_path / "a.jsonl", *lines, {"image_id": 5}))
    assert dataset.images == (
        EvaluationImage(4, ("b", "c"), "p0"),
        EvaluationImage(5, ("a",), "p3"),
    )
    assert "4 lines are about 2 images" in caplog.text


def test_image_files_are_found_by_id(tmp_path: Path) -> None:
    """An image is found by its name, or by the number at the end of its name."""
    folder = save_names(
        tmp_path / "a", "000000000802.jpg", "COCO_val2014_000000000042.jpg", "beach.png", "7.txt"
    )
    found = find_files(folder, [802, 42, "42", "beach", 7, "harbor"])
    assert {key: path.name for key, path in found.items()} == {
        802: "000000000802.jpg",
        42: "COCO_val2014_000000000042.jpg",
        "42": "COCO_val2014_000000000042.jpg",
        "beach": "beach.png",
    }


def test_ambiguous_number_finds_no_image(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A number at the end of two names finds neither file."""
    folder = save_names(tmp_path / "a", "train_5.jpg", "val_5.jpg", "6.jpg", "old_6.jpg")
    assert find_files(folder, [5, 6]) == {6: folder / "6.jpg"}
    assert "1 of 2 images are missing" in caplog.text


def test_jsonl_images_have_files(tmp_path: Path) -> None:
    """The images of a folder are assigned to the lines with their ids."""
    folder = save_names(tmp_path / "images", "1.jpg")
    data = save_lines(tmp_path / "a.jsonl", {"image_id": 1}, {"image_id": 2})
    dataset = read_jsonl(data, image_dir=folder)
    assert [image.file for image in dataset.images] == [folder / "1.jpg", None]
