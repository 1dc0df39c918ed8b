"""Builds training data: captioned images + knowledge base -> JSONL, split by image."""

import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from igrag.data.coco import CaptionedImage
from igrag.data.images import open_image
from igrag.errors import DataError, ImageError
from igrag.files import atomic_path
from igrag.retrieval.image_encoder import ImageEncoder
from igrag.retrieval.knowledge_base import KnowledgeBase
from lora_training.examples import ExampleBuilder
from lora_training.image_objects import ImageObjects

logger = logging.getLogger(__name__)
_CHUNK = 512  # Images in work at a time: memory does not grow with the number of examples.


@dataclass(frozen=True, slots=True)
class SplitReport:
    """What became of a split's images."""

    written: int
    reused: int
    skipped: tuple[str, ...]


class ImageVectors:
    """Vectors of captioned images: from the knowledge base where they are, else encoded.

    Args:
        knowledge_base: Its vectors are reused.
        images_path: Folder that file names count from.
        get_encoder: Loads the encoder; called only if a image must be encoded.
        batch_size: Images encoded at once.
    """

    def __init__(
        self,
        knowledge_base: KnowledgeBase,
        images_path: Path,
        *,
        get_encoder: Callable[[], ImageEncoder],
        batch_size: int,
    ) -> None:
        self._knowledge_base = knowledge_base
        self._images_path = images_path
        self._get_encoder = get_encoder
        self._batch_size = batch_size
        self.reused = 0
        self.skipped: list[str] = []

    def __call__(
        self, images: Sequence[CaptionedImage]
    ) -> tuple[list[CaptionedImage], NDArray[np.float32]]:
        """Returns the readable images, in order, and their unit vectors [B, D]."""
        found: dict[int, NDArray[np.float32]] = {}
        missing = []
        for place, image in enumerate(images):
            vector = self._known_vector(image)
            if vector is None:
                missing.append(place)
            else:
                found[place] = vector
        self.reused += len(found)
        for start in range(0, len(missing), self._batch_size):
            found |= self._encode(images, missing[start : start + self._batch_size])
        places = sorted(found)
        empty = np.empty((0, self._knowledge_base.dimension), np.float32)
        vectors = np.stack([found[place] for place in places]) if places else empty
        return [images[place] for place in places], vectors

    def _known_vector(self, image: CaptionedImage) -> NDArray[np.float32] | None:
        """The vector of this very image: another data set may number its images alike."""
        if self._knowledge_base.captions_of(image.image_id) != image.captions:
            return None
        return self._knowledge_base.vector(image.image_id)

    def _encode(
        self, images: Sequence[CaptionedImage], places: Sequence[int]
    ) -> dict[int, NDArray[np.float32]]:
        opened = {}
        for place in places:
            try:
                opened[place] = open_image(self._images_path / images[place].file_name)
            except ImageError as error:
                self.skipped.append(str(error))
        if not opened:
            return {}
        vectors = self._get_encoder().encode(list(opened.values()))
        return dict(zip(opened, vectors, strict=True))


def sample_images(
    images: Sequence[CaptionedImage], *, count: int | None, seed: int
) -> list[CaptionedImage]:
    """Draws `count` images that have captions (None: all), in random order."""
    captioned = [image for image in images if image.captions]
    if count is not None and count > len(captioned):
        logger.warning("%d samples asked for, only %d images have captions", count, len(captioned))
        count = len(captioned)
    return Random(seed).sample(captioned, len(captioned) if count is None else count)


def split_images(
    images: Sequence[CaptionedImage], *, train_ratio: float
) -> tuple[Sequence[CaptionedImage], Sequence[CaptionedImage]]:
    """Splits sampled images into train and val; each image is on one side only.

    A file that is listed twice, under two ids, is one image: all of it goes where it comes first.

    Raises:
        DataError: A side would be empty.
    """
    cut = round(len(images) * train_ratio)
    if not 0 < cut < len(images):
        raise DataError(
            f"train_ratio {train_ratio} of {len(images)} images leaves a side empty; "
            "expected at least one image for train and one for val: take more images"
        )
    files = {image.file_name for image in images[:cut]}
    again = [image for image in images[cut:] if image.file_name in files]
    val = [image for image in images[cut:] if image.file_name not in files]
    if not val:
        raise DataError("the images are one file again and again, expected one for val too")
    return [*images[:cut], *again], val


def build_split(
    path: Path,
    images: Sequence[CaptionedImage],
    *,
    vectors: ImageVectors,
    builder: ExampleBuilder,
    split: str,
    objects: ImageObjects | None = None,
    progress: bool = True,
) -> SplitReport:
    """Writes one JSONL file, whole or not at all, in chunks.

    Args:
        path: The file to write.
        images: The images to make examples of.
        vectors: Where their vectors come from.
        builder: Makes the examples.
        split: Its name, noted in each line.
        objects: Where the objects of the prompts come from; None shows none.
        progress: Show a progress bar on stderr, where that is a terminal.

    Raises:
        DataError: No image was readable.
    """
    objects = objects or ImageObjects(None, Path())
    before, written = vectors.reused, 0
    skips = [(reasons, len(reasons)) for reasons in (vectors.skipped, objects.skipped)]
    hidden = None if progress else True  # None: disabled where stderr is no terminal
    bar = tqdm(total=len(images), desc=split, unit="image", file=sys.stderr, disable=hidden)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream, bar:
        for chunk in _chunks(images):
            for example in _build_chunk(chunk, vectors, objects, builder, split):
                stream.write(json.dumps(example, ensure_ascii=False) + "\n")
                written += 1
            bar.update(len(chunk))
        skipped = tuple(reason for reasons, start in skips for reason in reasons[start:])
        if not written:
            first = next(iter(skipped), "no images")
            raise DataError(f"{split}: none of the images could be used ({first})")
    return SplitReport(written, vectors.reused - before, skipped)


def _build_chunk(
    chunk: Sequence[CaptionedImage],
    vectors: ImageVectors,
    objects: ImageObjects,
    builder: ExampleBuilder,
    split: str,
) -> list[dict[str, Any]]:
    readable, found = vectors(chunk)
    places, things = objects(readable)
    if not places:
        return []
    return builder.build([readable[place] for place in places], found[places], things, split=split)


def _chunks(images: Sequence[CaptionedImage]) -> Iterator[Sequence[CaptionedImage]]:
    for start in range(0, len(images), _CHUNK):
        yield images[start : start + _CHUNK]
