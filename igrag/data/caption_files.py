"""Caption files in other formats than COCO's, recognized by their content and read as COCO's.

- Karpathy's dataset_coco.json, dataset_flickr8k.json and dataset_flickr30k.json, with their splits
- Flickr8k's and Flickr30k's lists, `NAME#0<tab>caption`, and COCO-CN's, `NAME#zhm#0 caption`
- Flickr's tables, `image,caption` and `image_name| comment_number| comment`

nocaps and VizWiz are COCO's format already.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from igrag.errors import DataError, UsageError
from igrag.files import is_file

_BEGINNING = 4096  # characters that show a format
_NUMBERED = re.compile(r"(?P<name>\S[^#\t]*)#(?:\w+#)?\d+\s+(?P<caption>.*)")
# Flickr30k's own table lacks the second bar in one line.
_BARRED = re.compile(r"(?P<name>[^|]+)\|\s*\d+\s*\|?\s(?P<caption>.*)")
_COCO_NAME = re.compile(r"COCO_[a-z]+\d{4}_(\d{12})")
_SUFFIX = ".jpg"  # of COCO-CN's names, which have none
# What Karpathy added to COCO's training images later.
_ALSO = {"train": ("train", "restval")}


def read_caption_lines(path: Path) -> dict[str, Any] | None:
    """Reads a list or table of captions; returns None for a file in another format.

    Returns:
        `images` and `annotations` as in COCO's files. An image's id is COCO's number where its
        name has one, else the name without its suffix.

    Raises:
        DataError: A line is not like the others.
    """
    if not is_file(path):
        return None
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline(_BEGINNING)
            stream.seek(0)
            if re.fullmatch(r"image,\s*caption\s*", first):
                return _as_coco(_table(path, stream))
            if re.fullmatch(r"image_name\|\s*comment_number\|\s*comment\s*", first):
                return _as_coco(_lines(path, stream, _BARRED, start=2))
            if _NUMBERED.fullmatch(first.rstrip()):
                return _as_coco(_lines(path, stream, _NUMBERED, start=1))
    except (OSError, UnicodeDecodeError):
        pass  # COCO's reader reports it.
    return None


def is_karpathy(data: dict[str, Any]) -> bool:
    """Returns whether a JSON object is one of Karpathy's datasets: captions inside of images."""
    images = data.get("images")
    return (
        isinstance(images, list)
        and bool(images)
        and isinstance(images[0], dict)
        and "sentences" in images[0]
    )


def karpathy_to_coco(path: Path, data: dict[str, Any], split: str | None) -> dict[str, Any]:
    """Returns the images of a split of one of Karpathy's datasets, and their captions.

    Args:
        path: The file, for an error.
        data: Its content.
        split: train (with restval), val, test, or another one of the file's.

    Raises:
        DataError: An image is not like those of Karpathy's datasets.
        UsageError: The file has splits, and none or an unknown one was chosen.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    splits = _splits(path, data["images"])
    if split not in splits:
        raise UsageError(
            f"{path}: found the splits {', '.join(sorted(splits))}, expected one of them as "
            f"--caption_split{'' if split is None else f', found {split}'}"
        )
    for index, image in enumerate(data["images"]):
        if image["split"] not in _ALSO.get(split or "", (split,)):
            continue
        try:
            image_id = image["cocoid"] if "cocoid" in image else image["imgid"]
            name = str(PurePosixPath(image.get("filepath", ""), image["filename"]))
            captions = [sentence["raw"] for sentence in image["sentences"]]
        except (KeyError, TypeError):
            raise DataError(
                f"{path}: images[{index}]: expected cocoid or imgid, filename, and sentences with "
                "raw, as in Karpathy's datasets"
            ) from None
        images.append({"id": image_id, "file_name": name})
        annotations += [{"image_id": image_id, "caption": caption} for caption in captions]
    return {"images": images, "annotations": annotations}


def _splits(path: Path, images: list[Any]) -> set[str]:
    found = {image.get("split") if isinstance(image, dict) else None for image in images}
    named = {name for name in found if isinstance(name, str)}
    if named != found:
        raise DataError(f"{path}: an image has no text 'split', expected one as Karpathy's have")
    return named


def _table(path: Path, stream: Any) -> Iterator[tuple[str, str]]:
    rows = csv.reader(stream, skipinitialspace=True)
    for row in rows:
        if rows.line_num == 1 or not row:
            continue
        if len(row) != 2:
            raise DataError(f"{path}:{rows.line_num}: found {len(row)} columns, expected 2")
        yield row[0], row[1]


def _lines(
    path: Path, stream: Any, pattern: re.Pattern[str], *, start: int
) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(stream, 1):
        if number < start or not line.strip():
            continue
        match = pattern.fullmatch(line.rstrip())
        if match is None:
            raise DataError(
                f"{path}:{number}: found {line.strip()!r:.60}, expected an image's name, a number "
                "and a caption as in the other lines"
            )
        yield match["name"].strip(), match["caption"]


def _as_coco(pairs: Iterator[tuple[str, str]]) -> dict[str, Any]:
    images: dict[str, dict[str, Any]] = {}
    annotations: list[dict[str, Any]] = []
    for name, caption in pairs:
        if name not in images:
            file = PurePosixPath(name)
            coco = _COCO_NAME.fullmatch(file.stem)
            image_id = int(coco[1]) if coco else file.stem
            images[name] = {"id": image_id, "file_name": name if file.suffix else name + _SUFFIX}
        annotations.append({"image_id": images[name]["id"], "caption": caption})
    return {"images": list(images.values()), "annotations": annotations}
