"""The images to score with their references, from a COCO captions file or from JSONL."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from igrag.data import image_folder
from igrag.data.coco import ImageId, read_captions
from igrag.data.examples import CaptionExample, iter_examples
from igrag.data.images import file_in
from igrag.errors import DataError, ImageError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EvaluationImage:
    """One image.

    Attributes:
        image_id: Its id.
        references: Its reference captions, one or more.
        prompt: The model's input; None if retrieval is to build it.
        file: The image file, if known.
        matches: The similar images that its prompt shows, the nearest first: id and cosine; empty
            if they are not known.
        vector: Its unit vector [D] by the configured encoder; None if it is not encoded yet.
    """

    image_id: ImageId
    references: tuple[str, ...]
    prompt: str | None = None
    file: Path | None = None
    matches: tuple[tuple[ImageId, float], ...] = ()
    vector: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class EvaluationDataset:
    """The images to score.

    Attributes:
        path: The file they come from.
        images: The images, each once.
        known_ids: The ids, as text, of all images in the file, including those that are not scored.
        has_ids: Whether the file has ids; else they are indices.
    """

    path: Path
    images: tuple[EvaluationImage, ...]
    known_ids: frozenset[str]
    has_ids: bool = True

    @property
    def references(self) -> list[tuple[str, ...]]:
        """The references of every image."""
        return [image.references for image in self.images]

    @property
    def prompts(self) -> list[str]:
        """The prompts of every image; empty if retrieval is to build them."""
        return [image.prompt for image in self.images if image.prompt is not None]


def read_coco(
    path: Path,
    *,
    image_dir: Path | None = None,
    limit: int | None = None,
    split: str | None = None,
    keep_rejected: bool = False,
) -> EvaluationDataset:
    """Reads a COCO captions file; images without captions cannot be scored and are left out.

    Args:
        path: The file.
        image_dir: The folder of its images.
        limit: Read only the first images, so many.
        split: See `read_captions`.
        keep_rejected: See `read_captions`.

    Raises:
        DataError: The file cannot be read, none of its images has a caption, or one is outside
            the folder.
    """
    entries = read_captions(path, split=split, keep_rejected=keep_rejected)
    captioned = [entry for entry in entries if entry.captions]
    if not captioned:
        raise DataError(f"{path}: none of its {len(entries)} images has a caption to score with")
    if len(captioned) < len(entries):
        count = len(entries) - len(captioned)
        logger.warning("%s: %d images without captions are left out", path, count)
    images = tuple(
        EvaluationImage(
            entry.image_id,
            entry.captions,
            file=image_dir and file_in(image_dir, entry.file_name, listed_in=path),
        )
        for entry in captioned[:limit]
    )
    return EvaluationDataset(path, images, frozenset(str(entry.image_id) for entry in entries))


def read_jsonl(
    path: Path, *, image_dir: Path | None = None, limit: int | None = None
) -> EvaluationDataset:
    """Reads a JSONL file whose prompts are built already.

    An image with several lines is captioned once, from its first prompt, and scored against the
    references of all lines. If no line has an image id, its index is the id, and it has no file.

    Args:
        path: The file; see `iter_examples`.
        image_dir: A folder with its images, see `find_files`.
        limit: Read only the first images, so many.

    Raises:
        DataError: The file is invalid, or only some of its lines have an image id.
        ImageError: The folder is missing or holds no image.
    """
    images: dict[str, EvaluationImage] = {}
    without_id = lines = 0
    for index, example in enumerate(iter_examples(path)):
        lines += 1
        without_id += example.image_id is None
        _add(images, index if example.image_id is None else example.image_id, example)
    if 0 < without_id < lines:
        raise DataError(
            f'{path}: {without_id} of {lines} lines have no "image_id"; expected all of them or '
            "none"
        )
    if len(images) < lines:
        logger.warning(
            "%s: %d lines are about %d images; each is captioned once, from its first prompt",
            path, lines, len(images),
        )  # fmt: skip
    selected = list(images.values())[:limit]
    if image_dir is not None and without_id:
        logger.warning('%s: no line has an "image_id", so no image of %s is shown', path, image_dir)
    elif image_dir is not None:
        files = find_files(image_dir, [image.image_id for image in selected])
        selected = [replace(image, file=files.get(image.image_id)) for image in selected]
    return EvaluationDataset(path, tuple(selected), frozenset(images), has_ids=not without_id)


def find_files(folder: Path, image_ids: Sequence[ImageId]) -> dict[ImageId, Path]:
    """Finds image files by id, see `igrag.data.image_folder.find_files`; logs how many lack one.

    Raises:
        ImageError: The folder is missing or holds no image, or a link leads out of it.
    """
    found = image_folder.find_files(folder, image_ids)
    if len(found) < len(image_ids):
        missing = len(image_ids) - len(found)
        logger.warning("%s: %d of %d images are missing", folder, missing, len(image_ids))
    return found


def check_images(dataset: EvaluationDataset) -> None:
    """Checks that every image file exists, before any model is loaded.

    Raises:
        ImageError: One is missing.
    """
    images = dataset.images
    missing = [image.file for image in images if not (image.file and image.file.is_file())]
    if missing:
        raise ImageError(
            f"{missing[0]}: no such image ({len(missing)} of {len(images)} of {dataset.path} are "
            "missing); give their folder as --images"
        )


def _add(images: dict[str, EvaluationImage], image_id: ImageId, example: CaptionExample) -> None:
    first = images.get(str(image_id))
    if first is None:
        images[str(image_id)] = EvaluationImage(
            image_id, example.references, example.prompt, matches=_matches(example.metadata)
        )
        return
    references = tuple(dict.fromkeys((*first.references, *example.references)))
    images[str(image_id)] = replace(first, references=references)


def _matches(metadata: Mapping[str, Any]) -> tuple[tuple[ImageId, float], ...]:
    """Returns the matches that the data builder noted: [[image id, cosine], ...]; else none."""
    found = metadata.get("retrieved")
    matches = []
    for entry in found if isinstance(found, list) else []:
        match entry:
            case [int() | str() as image_id, int() | float() as cosine]:
                matches.append((image_id, float(cosine)))
            case _:
                return ()
    return tuple(matches)
