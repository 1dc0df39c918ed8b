"""Batches of examples of about equal length, padded to tensors."""

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any

import numpy as np
import pyarrow.compute as compute
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor

IMAGE_ROW = "image_row"  # column of examples whose images' vectors are given to a collator
LABEL_IGNORED = -100  # The index that torch's and transformers' losses leave out by default.
# Examples sorted by length together: enough to save padding, few enough to keep batches random.
_POOL_SIZE = 4096
# Batches' worth of examples of about equal source length that are sorted by target length. Fewer
# pad targets more, more pad sources more; with sources of 60 to 512 tokens this wastes least.
_BLOCK_BATCHES = 4


class LengthGroupedBatches:
    """Batches of examples of about equal length, in another random order each epoch.

    The examples of a batch are sorted by source length.

    Args:
        sources: Source length of each example in tokens.
        targets: Target length of each example in tokens.
        batch_size: Examples in a batch; the last one may be smaller. Nothing is dropped.
        seed: The order depends on the seed and the epoch alone.
    """

    def __init__(
        self, sources: Sequence[int], targets: Sequence[int], *, batch_size: int, seed: int
    ) -> None:
        self._sources = sources
        self._targets = targets
        self._batch_size = batch_size
        self._seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return -(-len(self._sources) // self._batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        # A generator of its own, seeded by the epoch: a run resumed in the middle of an epoch finds
        # the same order again, whatever the global random state is.
        rng = Random(f"{self._seed}-{self.epoch}")
        order = rng.sample(range(len(self._sources)), len(self._sources))
        block = self._batch_size * _BLOCK_BATCHES
        # Sorting everything would give each batch the same neighbors in every epoch; sorting random
        # pools pads nearly as little, and mixes.
        batches = [
            sorted(batch, key=self._sources.__getitem__)
            for pool in _cut(order, block * max(1, _POOL_SIZE // block))
            for alike in _cut(sorted(pool, key=self._sources.__getitem__), block)
            for batch in _cut(sorted(alike, key=self._targets.__getitem__), self._batch_size)
        ]
        rng.shuffle(batches)  # Otherwise each pool would go from short to long.
        return iter(batches)


class Collator:
    """Pads examples to a batch; no examples to a row of padding, whose loss and gradient are zero.

    Args:
        pad_token_id: Fills the source; labels are filled with `LABEL_IGNORED`.
        pad_to_multiple_of: Rounds widths up, so that few shapes occur; 1 pads least.
        image_vectors: Vectors [N, D], perhaps memory-mapped, whose rows the examples name in the
            column `IMAGE_ROW`; None for none.
    """

    def __init__(
        self,
        pad_token_id: int,
        *,
        pad_to_multiple_of: int = 1,
        image_vectors: NDArray[np.floating[Any]] | None = None,
    ) -> None:
        self._pad_token_id = pad_token_id
        self._multiple = pad_to_multiple_of
        self._image_vectors = image_vectors

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Returns input_ids and attention_mask [B, T], labels [B, L], and image_vectors [B, D]."""
        if not examples:
            examples = [
                {"input_ids": [self._pad_token_id], "labels": [LABEL_IGNORED], IMAGE_ROW: 0}
            ]
        sources = [example["input_ids"] for example in examples]
        # The mask comes from the lengths: a pad token inside a text is still text.
        ones = [[1] * len(source) for source in sources]
        batch = {
            "input_ids": self._pad(sources, self._pad_token_id),
            "attention_mask": self._pad(ones, 0),
            "labels": self._pad([example["labels"] for example in examples], LABEL_IGNORED),
        }
        if self._image_vectors is not None:
            rows = self._image_vectors[[example[IMAGE_ROW] for example in examples]]
            batch["image_vectors"] = torch.from_numpy(rows.astype(np.float32))
        return batch

    def _pad(self, sequences: Sequence[Sequence[int]], filler: int) -> Tensor:
        width = -(-max(map(len, sequences)) // self._multiple) * self._multiple
        return torch.tensor([[*ids, *[filler] * (width - len(ids))] for ids in sequences])


def model_columns(columns: Sequence[str]) -> list[str]:
    """Returns which of a dataset's columns a `Collator` reads."""
    return ["input_ids", "labels", *([IMAGE_ROW] if IMAGE_ROW in columns else [])]


def target_lengths(dataset: Dataset) -> list[int]:
    """Returns the number of target tokens of each example."""
    # Not of dataset.data, which has the rows before they were selected or sorted.
    labels = dataset.select_columns(["labels"]).with_format("arrow")[:]["labels"]
    lengths: list[int] = compute.list_value_length(labels).to_pylist()
    return lengths


def longest_first_order(lengths: Sequence[int]) -> list[int]:
    """Returns indices, the longest first: little padding, and the peak of memory at the start."""
    return sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)


def _cut(indices: Sequence[int], size: int) -> list[Sequence[int]]:
    return [indices[start : start + size] for start in range(0, len(indices), size)]
