"""A image that trains must not validate: its score would be of what was learnt by heart."""

import filecmp
from collections.abc import Iterator
from pathlib import Path

from datasets import Dataset

from igrag.errors import DataError

_ROWS_AT_ONCE = 1000


def refuse_shared_images(train_file: Path, val_file: Path, train: Dataset, val: Dataset) -> None:
    """Makes sure that no image both trains and validates.

    Examples need not say which image they are of; what they share is known then only where both
    files are the same. The captions count beside the id, for two data sets may number their
    images alike. Of the smaller side hashes are held; the other is read by.

    Args:
        train_file: Where `train` comes from, for the error.
        val_file: Where `val` comes from, likewise.
        train: What `tokenized_dataset` returned.
        val: Likewise.

    Raises:
        DataError: A image is on both sides, or both files have the same content.
    """
    if filecmp.cmp(train_file, val_file, shallow=False):  # Files of other sizes are not read.
        raise DataError(
            f"{train_file} and {val_file}: have the same content, expected other images to "
            "validate on; give a file of its own as the second one"
        )
    few, many = sorted((train, val), key=len)
    held = {hash(image) for image in _images(few)}
    for image in _images(many):
        if hash(image) in held:
            raise DataError(
                f"{train_file} and {val_file}: both hold the image {image[0]} with the same "
                "captions, expected each image on one side; build them again with python "
                "lora_training/train_lora.py --build-data --force-rebuild"
            )


def _images(rows: Dataset) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yields the id of each example's image, where it is known, and its captions in order."""
    for batch in rows.select_columns(["image_id", "references"]).iter(_ROWS_AT_ONCE):
        for image_id, references in zip(batch["image_id"], batch["references"], strict=True):
            if image_id:
                yield image_id, tuple(sorted(references))
