"""What is scored: images with their references, from a COCO captions file or from JSONL."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from igrag.data.coco import ImageId, read_captions
from igrag.data.examples import CaptionExample, iter_examples
from igrag.errors import DataError, ImageError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EvaluationImage:
    """One image.

    Attributes:
        image_id: Its id.
        references: What people wrote about it, one caption or more.
        prompt: What the model reads; None where retrieval is yet to build it.
        file: The image itself, where it is known.
    """

    image_id: ImageId
    references: tuple[str, ...]
    prompt: str | None = None
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class Split:
    """The images to score.

    Attributes:
        path: The file they come from.
        images: All of them, each once.
        listed: The ids of all images that the file names, these and others.
    """

    path: Path
    images: tuple[EvaluationImage, ...]
    listed: frozenset[ImageId]

    @property
    def references(self) -> list[tuple[str, ...]]:
        """The references of every image."""
        return [image.references for image in self.images]

    @property
    def prompts(self) -> list[str]:
        """The prompts of every image; none where retrieval is yet to build them."""
        return [image.prompt for image in self.images if image.prompt is not None]


def read_coco(path: Path, *, image_dir: Path | None = None, limit: int | None = None) -> Split:
    """Reads a COCO captions file; a image without captions cannot be scored and is left out.

    Args:
        path: The file.
        image_dir: The folder of its images.
        limit: Take so many images, the first of the file.

    Raises:
        DataError: The file cannot be read, or none of its images has a caption.
    """
    entries = read_captions(path)
    captioned = [entry for entry in entries if entry.captions]
    if not captioned:
        raise DataError(f"{path}: none of its {len(entries)} images has a caption to score with")
    if len(captioned) < len(entries):
        count = len(entries) - len(captioned)
        logger.warning("%s: %d images without captions are left out", path, count)
    images = tuple(
        EvaluationImage(
            entry.image_id, entry.captions, file=image_dir and image_dir / entry.file_name
        )
        for entry in captioned[:limit]
    )
    return Split(path, images, frozenset(entry.image_id for entry in entries))


def read_jsonl(path: Path, *, image_dir: Path | None = None, limit: int | None = None) -> Split:
    """Reads a JSONL file of prompts that are built already.

    A image with several lines is captioned once, from its first prompt, and scored against the
    references of all. Where no line has an image id, its place stands for it; it finds no file.

    Args:
        path: The file; see `iter_examples`.
        image_dir: A folder with its images, see `find_files`.
        limit: Take so many images, the first of the file.

    Raises:
        DataError: The file is wrong, or only some of its lines have an image id.
        ImageError: The folder is missing or holds no image.
    """
    images: dict[ImageId, EvaluationImage] = {}
    unnamed = lines = 0
    for place, example in enumerate(iter_examples(path)):
        lines += 1
        unnamed += example.image_id is None
        _add(images, place if example.image_id is None else example.image_id, example)
    if 0 < unnamed < lines:
        raise DataError(
            f'{path}: {unnamed} of {lines} lines have no "image_id"; expected all of them or none'
        )
    if len(images) < lines:
        logger.warning(
            "%s: %d lines are about %d images; each is captioned once, from its first prompt",
            path, lines, len(images),
        )  # fmt: skip
    chosen = list(images.values())[:limit]
    if image_dir is not None and unnamed:
        logger.warning('%s: no line has an "image_id", so no image of %s is shown', path, image_dir)
    elif image_dir is not None:
        files = find_files(image_dir, [image.image_id for image in chosen])
        chosen = [replace(image, file=files.get(image.image_id)) for image in chosen]
    return Split(path, tuple(chosen), frozenset(images))


def find_files(folder: Path, image_ids: Sequence[ImageId]) -> dict[ImageId, Path]:
    """Finds images by their ids: the file's name, or the number that it ends with (COCO's names).

    A number that two files end with finds neither: no image is better than a wrong one.

    Raises:
        ImageError: The folder is missing or holds no image.
    """
    from igrag.data.images import list_images

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
        logger.warning("%s: %d of %d images are not there", folder, count, len(image_ids))
    return found


def check_files(split: Split) -> None:
    """Makes sure that every image is there, before any model is loaded.

    Raises:
        ImageError: One is missing.
    """
    missing = [image.file for image in split.images if not (image.file and image.file.is_file())]
    if missing:
        raise ImageError(
            f"{missing[0]}: no such image ({len(missing)} of {len(split.images)} of "
            f"{split.path} are missing); give their folder as --images"
        )


def _add(
    images: dict[ImageId, EvaluationImage], image_id: ImageId, example: CaptionExample
) -> None:
    first = images.get(image_id)
    if first is None:
        images[image_id] = EvaluationImage(image_id, example.references, example.prompt)
        return
    references = tuple(dict.fromkeys((*first.references, *example.references)))
    images[image_id] = replace(first, references=references)
