"""Batches of examples of about equal length, padded to tensors."""

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IMAGE_ROW = "image_row"  # column of examples whose images' vectors are given to a collator
LABEL_IGNORED = -100  # The index that torch's and transformers' losses leave out by default.
# Examples sorted by length together: enough to save padding, few enough to keep batches random.
_POOL_SIZE = 1024


class LengthGroupedBatches:
    """Batches of examples of about equal length, in another random order each epoch.

    Args:
        lengths: Length of each example in tokens.
        batch_size: Examples in a batch; the last one may be smaller. Nothing is dropped.
        seed: The order depends on the seed and the epoch alone.
    """

    def __init__(self, lengths: Sequence[int], *, batch_size: int, seed: int) -> None:
        self._lengths = lengths
        self._batch_size = batch_size
        self._seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return -(-len(self._lengths) // self._batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        # A generator of its own, seeded by the epoch: a run resumed in the middle of an epoch finds
        # the same order again, whatever the global random state is.
        rng = Random(f"{self._seed}-{self.epoch}")
        order = rng.sample(range(len(self._lengths)), len(self._lengths))
        pool = self._batch_size * max(1, _POOL_SIZE // self._batch_size)
        batches = []
        # Sorting everything would give each batch the same neighbors in every epoch; sorting random
        # pools pads nearly as little, and mixes.
        for start in range(0, len(order), pool):
            by_length = sorted(order[start : start + pool], key=self._lengths.__getitem__)
            batches += [
                by_length[first : first + self._batch_size]
                for first in range(0, len(by_length), self._batch_size)
            ]
        rng.shuffle(batches)  # Otherwise each pool would go from short to long.
        return iter(batches)


class Collator:
    """Pads examples to a batch.

    Args:
        pad_token_id: Fills the source; labels are filled with `LABEL_IGNORED`.
        pad_to_multiple_of: Rounds widths up, so that few shapes occur.
        image_vectors: Vectors [N, D], perhaps memory-mapped, whose rows the examples name in the
            column `IMAGE_ROW`; None for none.
    """

    def __init__(
        self,
        pad_token_id: int,
        *,
        pad_to_multiple_of: int = 8,
        image_vectors: NDArray[np.floating[Any]] | None = None,
    ) -> None:
        self._pad_token_id = pad_token_id
        self._multiple = pad_to_multiple_of
        self._image_vectors = image_vectors

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Returns input_ids and attention_mask [B, T], labels [B, L], and image_vectors [B, D]."""
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


def longest_first_order(lengths: Sequence[int]) -> list[int]:
    """Returns indices, the longest first: little padding, and the peak of memory at the start."""
    return sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
