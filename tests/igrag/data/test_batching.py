"""Batches by length, and their padding."""

from itertools import pairwise

import numpy as np
import torch
from datasets import Dataset

from igrag.data.batching import (
    IMAGE_ROW,
    Collator,
    LengthGroupedBatches,
    model_columns,
    target_lengths,
)

LENGTHS = [(7 * n) % 97 + 3 for n in range(1003)]
TARGETS = [(5 * n) % 23 + 2 for n in range(1003)]


def batches(*, seed: int = 0, epoch: int = 0, lengths: list[int] = LENGTHS) -> list[list[int]]:
    """Returns the batches of an epoch."""
    grouped = LengthGroupedBatches(lengths, TARGETS, batch_size=8, seed=seed)
    grouped.epoch = epoch
    assert len(list(grouped)) == len(grouped)
    return list(grouped)


def test_every_example_is_in_one_batch_of_an_epoch() -> None:
    """An epoch's batches hold every example once; only one batch is not full."""
    found = batches()
    assert sorted(index for batch in found for index in batch) == list(range(1003))
    assert sorted(map(len, found))[:2] == [3, 8]
    assert batches(lengths=[]) == []


def test_batch_order_depends_on_seed_and_epoch_alone() -> None:
    """The same seed and epoch give the same batches, others give others."""
    assert batches(seed=1, epoch=2) == batches(seed=1, epoch=2)
    different = [batches(), batches(epoch=1), batches(seed=1), batches(seed=1, epoch=1)]
    assert len({str(found) for found in different}) == 4


def test_batches_group_lengths_in_random_order() -> None:
    """Little of a batch is padding, and epochs do not run from short to long."""

    def padding(found: list[list[int]], lengths: list[int]) -> int:
        return sum(max(lengths[n] for n in b) * len(b) - sum(lengths[n] for n in b) for b in found)

    unsorted = [list(range(start, min(start + 8, 1003))) for start in range(0, 1003, 8)]
    assert padding(batches(), LENGTHS) < 0.1 * padding(unsorted, LENGTHS)
    assert padding(batches(), TARGETS) < 0.5 * padding(unsorted, TARGETS)
    assert all(LENGTHS[a] <= LENGTHS[b] for batch in batches() for a, b in pairwise(batch))
    longest = [max(LENGTHS[index] for index in batch) for batch in batches()]
    rises = sum(left < right for left, right in pairwise(longest))
    assert 0.3 * len(longest) < rises < 0.7 * len(longest)


def test_collator_pads_and_masks_a_batch() -> None:
    """Sources get the pad token and a mask by length, labels get -100, widths are rounded up."""
    rows = [{"input_ids": [5, 0, 1], "labels": [7, 1]}, {"input_ids": [6], "labels": [8, 9, 1]}]
    batch = Collator(0, pad_to_multiple_of=4)(rows)
    assert batch["input_ids"].tolist() == [[5, 0, 1, 0], [6, 0, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]
    assert batch["labels"].tolist() == [[7, 1, -100, -100], [8, 9, 1, -100]]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}
    wide = Collator(0, pad_to_multiple_of=4)([{"input_ids": [1] * 4, "labels": [1] * 5}])
    assert (wide["input_ids"].shape, wide["labels"].shape) == ((1, 4), (1, 8))


def test_collator_gives_each_example_the_vector_of_its_row() -> None:
    """Vectors become float32; examples without them make a batch without them."""
    rows = [{"input_ids": [5], "labels": [1], IMAGE_ROW: row} for row in (2, 0)]
    vectors = np.arange(6, dtype=np.float16).reshape(3, 2)
    found = Collator(0, image_vectors=vectors)(rows)["image_vectors"]
    assert found.tolist() == [[4.0, 5.0], [0.0, 1.0]] and found.dtype == torch.float32
    assert "image_vectors" not in Collator(0)(rows)
    assert model_columns(["prompt", "labels", "input_ids"]) == ["input_ids", "labels"]
    assert model_columns(["input_ids", "labels", IMAGE_ROW])[-1] == IMAGE_ROW


def test_target_lengths_follow_selected_rows() -> None:
    """Of a dataset that was sorted, they are in its order; another order would pad wrongly."""
    data = Dataset.from_dict({"labels": [[1], [1, 2], [1, 2, 3]], "other": [0, 0, 0]})
    assert target_lengths(data) == [1, 2, 3]
    assert target_lengths(data.select([2, 0])) == [3, 1]
