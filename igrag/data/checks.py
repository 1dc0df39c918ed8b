"""Training and validation share no image: memorized captions would be scored."""

import filecmp
from collections.abc import Iterator
from pathlib import Path

from datasets import Dataset

from igrag.data.arrow_cache import content_key, remembered
from igrag.errors import DataError

_BATCH = 1000


def refuse_shared_images(train_file: Path, val_file: Path, train: Dataset, val: Dataset) -> None:
    """Makes sure that no image is both in the training and in the validation examples.

    Images are compared by id and captions, since two data sets may number their images alike.
    Examples without an id are not compared; the two files must differ, though. Only hashes of the
    smaller set are held in memory, and the result is remembered for the same content.

    Args:
        train_file: File of `train`, for the error message.
        val_file: File of `val`, likewise.
        train: Training examples, see `tokenized_dataset`.
        val: Validation examples.

    Raises:
        DataError: An image is in both, or both files have the same content.
    """
    if filecmp.cmp(train_file, val_file, shallow=False):  # Files of other sizes are not read.
        raise DataError(
            f"{train_file} and {val_file}: have the same content, expected other images for "
            "validation; give another file as the second one"
        )
    key = ["shared image", content_key(train), content_key(val)]
    shared = remembered(key, lambda: _first_shared(train, val))
    if shared is not None:
        raise DataError(
            f"{train_file} and {val_file}: both hold the image {shared} with the same "
            "captions, expected each image in one of them; build them again with python "
            "lora_training/data_builder.py --overwrite_output_dir"
        )


def _first_shared(train: Dataset, val: Dataset) -> str | None:
    """Returns the id of an image that both hold; None if there is none."""
    smaller, larger = sorted((train, val), key=len)
    hashes = {hash(image) for image in _images(smaller)}
    return next((image[0] for image in _images(larger) if hash(image) in hashes), None)


def _images(dataset: Dataset) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yields the id of each example's image, if known, and its captions in order."""
    for batch in dataset.select_columns(["image_id", "references"]).iter(_BATCH):
        for image_id, references in zip(batch["image_id"], batch["references"], strict=True):
            if image_id:
                yield image_id, tuple(sorted(references))
