"""What is scored: pictures with their references, from a COCO captions file or from JSONL."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from igrag.caption_data import CaptionExample, iter_examples
from igrag.coco import ImageId, read_captions
from igrag.errors import DataError, ImageError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture.

    Attributes:
        image_id: Its id.
        references: What people wrote about it, one caption or more.
        prompt: What the model reads; None where retrieval is yet to build it.
        file: The picture itself, where it is known.
    """

    image_id: ImageId
    references: tuple[str, ...]
    prompt: str | None = None
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class Split:
    """The pictures to score.

    Attributes:
        path: The file they come from.
        pictures: All of them, each once.
        listed: The ids of all pictures that the file names, these and others.
    """

    path: Path
    pictures: tuple[Picture, ...]
    listed: frozenset[ImageId]

    @property
    def references(self) -> list[tuple[str, ...]]:
        """The references of every picture."""
        return [picture.references for picture in self.pictures]

    @property
    def prompts(self) -> list[str]:
        """The prompts of every picture; none where retrieval is yet to build them."""
        return [picture.prompt for picture in self.pictures if picture.prompt is not None]


def read_coco(path: Path, *, images: Path | None = None, limit: int | None = None) -> Split:
    """Reads a COCO captions file; a picture without captions cannot be scored and is left out.

    Args:
        path: The file.
        images: The folder of its pictures.
        limit: Take so many pictures, the first of the file.

    Raises:
        DataError: The file cannot be read, or none of its pictures has a caption.
    """
    entries = read_captions(path)
    captioned = [entry for entry in entries if entry.captions]
    if not captioned:
        raise DataError(f"{path}: none of its {len(entries)} pictures has a caption to score with")
    if len(captioned) < len(entries):
        count = len(entries) - len(captioned)
        logger.warning("%s: %d pictures without captions are left out", path, count)
    pictures = tuple(
        Picture(entry.image_id, entry.captions, file=images and images / entry.file_name)
        for entry in captioned[:limit]
    )
    return Split(path, pictures, frozenset(entry.image_id for entry in entries))


def read_jsonl(path: Path, *, images: Path | None = None, limit: int | None = None) -> Split:
    """Reads a JSONL file of prompts that are built already.

    A picture with several lines is captioned once, from its first prompt, and scored against the
    references of all. Where no line has an image id, its place stands for it; it finds no file.

    Args:
        path: The file; see `iter_examples`.
        images: A folder with its pictures, see `find_files`.
        limit: Take so many pictures, the first of the file.

    Raises:
        DataError: The file is wrong, or only some of its lines have an image id.
        ImageError: The folder is missing or holds no picture.
    """
    pictures: dict[ImageId, Picture] = {}
    unnamed = lines = 0
    for place, example in enumerate(iter_examples(path)):
        lines += 1
        unnamed += example.image_id is None
        _add(pictures, place if example.image_id is None else example.image_id, example)
    if 0 < unnamed < lines:
        raise DataError(
            f'{path}: {unnamed} of {lines} lines have no "image_id"; expected all of them or none'
        )
    if len(pictures) < lines:
        logger.warning(
            "%s: %d lines are about %d pictures; each is captioned once, from its first prompt",
            path, lines, len(pictures),
        )  # fmt: skip
    chosen = list(pictures.values())[:limit]
    if images is not None and unnamed:
        logger.warning('%s: no line has an "image_id", so no picture of %s is shown', path, images)
    elif images is not None:
        files = find_files(images, [picture.image_id for picture in chosen])
        chosen = [replace(picture, file=files.get(picture.image_id)) for picture in chosen]
    return Split(path, tuple(chosen), frozenset(pictures))


def find_files(folder: Path, image_ids: Sequence[ImageId]) -> dict[ImageId, Path]:
    """Finds pictures by their ids: the file's name, or the number that it ends with (COCO's names).

    A number that two files end with finds neither: no picture is better than a wrong one.

    Raises:
        ImageError: The folder is missing or holds no picture.
    """
    from igrag.images import list_images

    names: dict[str, Path] = {}
    numbers: dict[int, list[Path]] = {}
    for path in list_images(folder):
        names[path.stem] = path
        if number := re.search(r"[0-9]+$", path.stem):
            numbers.setdefault(int(number[0]), []).append(path)
    found = {}
    for image_id in image_ids:
        text = str(image_id)
        same = numbers.get(int(text), []) if re.fullmatch(r"[0-9]{1,18}", text) else []
        if text in names:
            found[image_id] = names[text]
        elif len(same) == 1:
            found[image_id] = same[0]
    if len(found) < len(image_ids):
        count = len(image_ids) - len(found)
        logger.warning("%s: %d of %d pictures are not there", folder, count, len(image_ids))
    return found


def check_files(split: Split) -> None:
    """Makes sure that every picture is there, before any model is loaded.

    Raises:
        ImageError: One is missing.
    """
    missing = [
        picture.file for picture in split.pictures if not (picture.file and picture.file.is_file())
    ]
    if missing:
        raise ImageError(
            f"{missing[0]}: no such picture ({len(missing)} of {len(split.pictures)} of "
            f"{split.path} are missing); give their folder as --images"
        )


def _add(pictures: dict[ImageId, Picture], image_id: ImageId, example: CaptionExample) -> None:
    first = pictures.get(image_id)
    if first is None:
        pictures[image_id] = Picture(image_id, example.references, example.prompt)
        return
    references = tuple(dict.fromkeys((*first.references, *example.references)))
    pictures[image_id] = replace(first, references=references)
