"""Which captioned images become train and which val; no image becomes both."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from igrag.data.coco import CaptionedImage, read_captions
from igrag.data.images import file_in
from igrag.errors import ConfigError, DataError
from lora_training.settings import DataSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Split:
    """The images of train or val, and their folder."""

    name: str
    images: Sequence[CaptionedImage]
    folder: Path


def choose_images(data: DataSettings) -> list[Split]:
    """Chooses the images of train and val; none is in both.

    Raises:
        ConfigError: Only one of the two val paths is set.
        DataError: A split would be empty, the val file holds images of the train file, or an
            image is outside its folder.
    """
    if (data.val_captions_path is None) != (data.val_images_path is None):
        raise ConfigError("data: val_captions_path and val_images_path: set both or neither")
    sampled = sample_images(
        read_captions(data.captions_path, split="train", keep_rejected=data.keep_rejected),
        count=data.sample_count,
        seed=data.seed,
    )
    shared = _image_files(sampled, data.images_path, data.captions_path)
    if data.val_captions_path is None or data.val_images_path is None:
        train, val = split_images(sampled, train_ratio=data.train_ratio)
        return [Split("train", train, data.images_path), Split("val", val, data.images_path)]
    listed = read_captions(data.val_captions_path, split="val", keep_rejected=data.keep_rejected)
    val = sample_images(listed, count=None, seed=data.seed)
    splits = [Split("train", sampled, data.images_path), Split("val", val, data.val_images_path)]
    # By file, not by id: unrelated captions files may both number their images from 1.
    shared &= _image_files(val, data.val_images_path, data.val_captions_path)
    if shared:
        raise DataError(
            f"{data.val_captions_path}: {len(shared)} images (such as {min(shared)}) "
            f"are also in {data.captions_path}; an image must not be in both splits"
        )
    return splits


def _image_files(images: Sequence[CaptionedImage], folder: Path, captions: Path) -> set[str]:
    """Returns the files of the images without links; one outside the folder is an ImageError."""
    files = (file_in(folder, image.file_name, listed_in=captions) for image in images)
    return {os.path.realpath(file) for file in files}


def sample_images(
    images: Sequence[CaptionedImage], *, count: int | None, seed: int
) -> list[CaptionedImage]:
    """Draws `count` images that have captions (None: all), in random order."""
    captioned = [image for image in images if image.captions]
    if count is not None and count > len(captioned):
        logger.warning("%d samples requested, only %d images have captions", count, len(captioned))
        count = len(captioned)
    return Random(seed).sample(captioned, len(captioned) if count is None else count)


def split_images(
    images: Sequence[CaptionedImage], *, train_ratio: float
) -> tuple[Sequence[CaptionedImage], Sequence[CaptionedImage]]:
    """Splits sampled images into train and val, each image into one of them.

    A file that is listed twice, under two ids, is one image: both go where it comes first.

    Raises:
        DataError: A split would be empty.
    """
    cut = round(len(images) * train_ratio)
    if not 0 < cut < len(images):
        raise DataError(
            f"train_ratio {train_ratio} of {len(images)} images leaves a split empty; "
            "expected at least one image for train and one for val: take more images"
        )
    files = {image.file_name for image in images[:cut]}
    repeated = [image for image in images[cut:] if image.file_name in files]
    val = [image for image in images[cut:] if image.file_name not in files]
    if not val:
        raise DataError("the images are all one file, expected another one for val")
    return [*images[:cut], *repeated], val
