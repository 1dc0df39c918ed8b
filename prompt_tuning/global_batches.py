"""Accumulation windows: which examples make one step, and which of them each process takes.

A window does not depend on how many processes share it: its examples are cut into micro-batches,
which are dealt out in turn. So two processes compute the same update as one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import pyarrow.compute as compute
import torch
from accelerate.utils import send_to_device
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader

from igrag.data.batching import Collator, LengthGroupedBatches

Batch = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Window:
    """The examples of one step.

    Attributes:
        index: Its place in the epoch.
        target_tokens: Target tokens of all its micro-batches, on all processes.
        batches: This process's micro-batches, on its device: input_ids and attention_mask [B, T],
            labels [B, L].
    """

    index: int
    target_tokens: int
    batches: Iterator[Batch]


class AccumulationWindows:
    """The windows of each epoch.

    Args:
        dataset: What `tokenized_dataset` returned.
        collator: Pads examples to a batch.
        micro_batch_size: Examples in a forward pass.
        micro_batches: Forward passes in a window, over all processes; the last window of an
            epoch may have fewer, and counts.
        rank: This process's number.
        processes: How many there are.
        seed: The order depends on this and the epoch alone.
        workers: Processes that prepare batches.
        device: Where batches go.
    """

    def __init__(
        self,
        dataset: Dataset,
        collator: Collator,
        *,
        micro_batch_size: int,
        micro_batches: int,
        rank: int = 0,
        processes: int = 1,
        seed: int,
        workers: int = 0,
        device: torch.device | None = None,
    ) -> None:
        self._dataset = dataset.select_columns(["input_ids", "labels"])
        self._collator = collator
        self._size = micro_batch_size
        self._rank = rank
        self._processes = processes
        self._workers = workers
        self._device = device or torch.device("cpu")
        self._target_lengths = target_lengths(dataset)
        self._windows = LengthGroupedBatches(
            dataset["source_length"][:], batch_size=micro_batch_size * micro_batches, seed=seed
        )

    def __len__(self) -> int:
        """Windows in an epoch."""
        return len(self._windows)

    def of_epoch(self, epoch: int, *, skip: int = 0) -> Iterator[Window]:
        """Yields the windows of an epoch from number `skip` on."""
        self._windows.epoch = epoch
        windows = list(self._windows)[skip:]
        mine = [self._deal(window) for window in windows]
        loader = iter(self._load([batch for batches in mine for batch in batches]))
        for index, (window, batches) in enumerate(zip(windows, mine, strict=True), start=skip):
            tokens = sum(self._target_lengths[example] for example in window)
            yield Window(index, tokens, self._on_device(islice(loader, len(batches))))

    def _on_device(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            yield send_to_device(batch, self._device, non_blocking=True)

    def _deal(self, window: list[int]) -> list[list[int]]:
        """Cuts a window, which is sorted by length, into micro-batches and takes its share."""
        cut = [window[start : start + self._size] for start in range(0, len(window), self._size)]
        return cut[self._rank :: self._processes]

    def _load(self, batches: list[list[int]]) -> "DataLoader[Batch]":
        return DataLoader(
            self._dataset,
            batch_sampler=batches,
            collate_fn=self._collator,
            num_workers=self._workers,
            pin_memory=torch.cuda.is_available(),
        )


def target_lengths(dataset: Dataset) -> list[int]:
    """Counts each example's target tokens."""
    lengths: list[int] = compute.list_value_length(dataset.data.column("labels")).to_pylist()
    return lengths
