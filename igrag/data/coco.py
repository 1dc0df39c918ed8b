"""COCO annotation files: captions and object instances."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from igrag.data.caption_files import is_karpathy, karpathy_to_coco, read_caption_lines
from igrag.errors import DataError
from igrag.files import is_whole, json_type_name, read_json

logger = logging.getLogger(__name__)

ImageId = int | str  # Compared as text: 42 and "42" are one image.


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """An image: its id, its file name relative to the images' folder, and its captions."""

    image_id: ImageId
    file_name: str
    captions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DetectedObject:
    """An object in an image; `box` is (x, y, width, height) as fractions of the image."""

    label: str
    box: tuple[float, float, float, float]
    score: float | None = None


def read_captions(
    path: Path, *, split: str | None = None, keep_rejected: bool = False
) -> list[CaptionedImage]:
    """Reads a COCO captions file, or one of the formats of `igrag.data.caption_files`.

    Images come in the order of `images`, captions in the order of `annotations` with their
    white space normalized. An image without captions has an empty tuple. Captions that are empty,
    belong to no listed image, or were rejected (VizWiz), are skipped with a warning.

    Args:
        path: The file.
        split: Which of its images, where the file has splits.
        keep_rejected: Keep captions with `is_rejected` or `is_precanned`.

    Raises:
        DataError: The file cannot be read, is no COCO captions file, or repeats an image id.
        UsageError: It has splits, and `split` is none of them.
    """
    data = read_caption_lines(path) or _read_object(path)
    if is_karpathy(data):
        data = karpathy_to_coco(path, data, split)
    images = _read_images(path, data)
    captions: dict[str, list[str]] = {str(image_id): [] for image_id in images}
    skipped: Counter[str] = Counter()
    for index, annotation in enumerate(_list(path, data, "annotations")):
        where = f"{path}: annotations[{index}]"
        own = captions.get(str(checked_id(annotation, "image_id", where)))
        text = " ".join(checked_text(annotation, "caption", where).split())
        if is_usable(annotation, text, own is not None, keep_rejected, skipped):
            captions[str(annotation["image_id"])].append(text)
    warn_of_skipped(path, skipped)
    return [
        CaptionedImage(image_id, checked_file_name(image, f"{path}: image {image_id}"), tuple(own))
        for (image_id, image), own in zip(images.items(), captions.values(), strict=True)
    ]


def is_usable(
    annotation: Mapping[str, Any],
    text: str,
    is_listed: bool,
    keep_rejected: bool,
    skipped: Counter[str],
) -> bool:
    """Returns whether a caption is used; counts why it is not.

    Args:
        annotation: Its entry.
        text: Its text.
        is_listed: Whether the file lists its image.
        keep_rejected: See `read_captions`.
        skipped: How many captions are not used, by why.
    """
    if not text:
        skipped["are empty"] += 1
    if not is_listed:
        skipped["belong to no listed image"] += 1
        return False
    if not keep_rejected and (annotation.get("is_rejected") or annotation.get("is_precanned")):
        skipped["were rejected or are stock sentences (is_rejected, is_precanned)"] += 1
        return False
    return bool(text)


def warn_of_skipped(path: Path, skipped: Mapping[str, int]) -> None:
    """Logs how many captions of a file are not used, and why."""
    for what, count in skipped.items():
        logger.warning("%s: %d captions %s and are skipped", path, count, what)


@dataclass(frozen=True, slots=True)
class InstancesFile:
    """The content of a COCO instances file.

    Attributes:
        objects: By image id the objects of every listed image, in the file's order; boxes are
            relative to the image and clipped at its edges.
        file_names: By image id its `file_name`.
        synonyms: By category its "synonyms" (LVIS's categories have some), None without any.
    """

    objects: Mapping[ImageId, list[DetectedObject]]
    file_names: Mapping[ImageId, str]
    synonyms: Mapping[str, tuple[str, ...] | None]


def read_instances(path: Path) -> dict[str, list[DetectedObject]]:
    """Reads a COCO instances file: the objects of every listed image, by its `file_name`.

    Raises:
        DataError: The file cannot be read, is no COCO instances file, or repeats a `file_name`.
    """
    content = read_instances_file(path)
    named: dict[str, list[DetectedObject]] = {}
    for image_id, name in content.file_names.items():
        if name in named:
            raise DataError(f"{path}: image {image_id}: the file_name {name!r} is there twice")
        named[name] = content.objects[image_id]
    return named


def read_instances_file(path: Path) -> InstancesFile:
    """Reads a COCO instances file, with image ids and the synonyms of its categories.

    Raises:
        DataError: The file cannot be read or is no COCO instances file.
    """
    data = _read_object(path)
    images = _read_images(path, data)
    labels: dict[object, str] = {}
    synonyms: dict[str, tuple[str, ...] | None] = {}
    for index, category in enumerate(_list(path, data, "categories")):
        where = f"{path}: categories[{index}]"
        name = checked_text(category, "name", where)
        labels[checked_id(category, "id", where)] = name
        synonyms[name] = _synonyms(category, where)
    objects: dict[ImageId, list[DetectedObject]] = {image_id: [] for image_id in images}
    listed = {str(image_id): image_id for image_id in images}
    for index, annotation in enumerate(_list(path, data, "annotations")):
        where = f"{path}: annotations[{index}]"
        image_id = listed.get(str(checked_id(annotation, "image_id", where)))
        label = labels.get(checked_id(annotation, "category_id", where))
        if image_id is None or label is None:
            found = "image_id" if image_id is None else "category_id"
            raise DataError(f"{where}: {found} {annotation[found]!r} is not listed in the file")
        box = _relative_box(annotation, images[image_id], where)
        objects[image_id].append(DetectedObject(label, box))
    file_names = {
        image_id: checked_file_name(image, f"{path}: image {image_id}")
        for image_id, image in images.items()
    }
    return InstancesFile(objects, file_names, synonyms)


def _synonyms(category: Mapping[str, Any], where: str) -> tuple[str, ...] | None:
    value = category.get("synonyms")
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise DataError(f"{where}: expected 'synonyms' as a list of texts, found {value!r:.80}")
    return tuple(value)


def _read_object(path: Path) -> dict[str, Any]:
    data = read_json(path, expected="a COCO annotation file")
    if not isinstance(data, dict):
        raise DataError(
            f"{path}: expected a JSON object in COCO's format, found {json_type_name(data)}"
        )
    return data


def _read_images(path: Path, data: dict[str, Any]) -> dict[ImageId, dict[str, Any]]:
    """Indexes the `images` list by id; where only some ids are numbers, all become texts."""
    images: dict[ImageId, dict[str, Any]] = {}
    seen: set[str] = set()
    for index, image in enumerate(_list(path, data, "images")):
        image_id = checked_id(image, "id", f"{path}: images[{index}]")
        if str(image_id) in seen:
            raise DataError(f"{path}: images[{index}]: the id {image_id!r} is there twice")
        seen.add(str(image_id))
        images[image_id] = image
    if not images:
        raise DataError(f"{path}: lists no images")
    if len({type(image_id) for image_id in images}) > 1:  # A column of Arrow's has one type.
        return {str(image_id): image for image_id, image in images.items()}
    return images


def _list(path: Path, data: dict[str, Any], key: str) -> list[Any]:
    value = data.get(key)
    if not isinstance(value, list):
        found = json_type_name(value) if key in data else "no such key"
        raise DataError(f"{path}: expected a list {key!r} as in COCO's files, found {found}")
    return value


def checked_id(entry: object, key: str, where: str) -> ImageId:
    """Returns an entry's id.

    Raises:
        DataError: It has none, or one that cannot be written.
    """
    value = entry.get(key) if isinstance(entry, Mapping) else None
    too_large = isinstance(value, int) and abs(value) >= 2**63  # Arrow's and NumPy's limit
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "" or too_large:
        raise DataError(f"{where}: expected a number or text {key!r}, found {_found(entry, key)}")
    return _whole(value, key, where) if isinstance(value, str) else value


def checked_file_name(image: object, where: str) -> str:
    """Returns an image's `file_name` without "./"; errors as `checked_id`'s."""
    name = checked_text(image, "file_name", where)
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name


def checked_text(entry: object, key: str, where: str) -> str:
    """Returns a text of an entry, a caption perhaps empty; errors as `checked_id`'s."""
    value = entry.get(key) if isinstance(entry, Mapping) else None
    if not isinstance(value, str) or (key != "caption" and not value):
        raise DataError(f"{where}: expected a text {key!r}, found {_found(entry, key)}")
    return _whole(value, key, where)


def _whole(text: str, key: str, where: str) -> str:
    # Checked here: it could not be written, hours later, next to its image's vector.
    if not is_whole(text):
        raise DataError(
            f"{where}: {key!r} has half a surrogate pair, expected whole characters, "
            f"found {ascii(text)[:80]}"
        )
    return text


def _relative_box(
    annotation: Mapping[str, Any], image: Mapping[str, Any], where: str
) -> tuple[float, float, float, float]:
    """Converts a box in pixels, `[x, y, width, height]`, to fractions of the image."""
    width: Any = image.get("width")
    height: Any = image.get("height")
    if not (_is_number(width) and _is_number(height) and width > 0 and height > 0):
        raise DataError(f"{where}: its image has no 'width' and 'height' above 0")
    box = annotation.get("bbox")
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
        raise DataError(f"{where}: expected 'bbox' as four numbers, found {box!r}")
    left, right = (_clip(edge / width) for edge in (box[0], box[0] + box[2]))
    top, bottom = (_clip(edge / height) for edge in (box[1], box[1] + box[3]))
    if right < left or bottom < top:
        raise DataError(f"{where}: 'bbox' has a negative size: {box!r}")
    return left, top, right - left, bottom - top


def _clip(value: float) -> float:
    return min(1.0, max(0.0, value))


def _is_number(value: object) -> bool:
    # Not a number is not below the bound either; a number of 400 digits is no float at all.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63


def _found(entry: object, key: str) -> str:
    if not isinstance(entry, Mapping):
        return json_type_name(entry)
    return repr(entry[key])[:80] if key in entry else "no such key"
