"""Global batches: which examples one optimizer step sees, and each process's share of them.

A global batch does not depend on how many processes share it: its examples are cut into
micro-batches, which are dealt out in turn. So two processes compute the same step as one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from accelerate.utils import send_to_device
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader

from igrag.data.batching import Collator, LengthGroupedBatches, model_columns, target_lengths
from igrag.data.workers import prepare_worker
from prompt_tuning.caption_sampling import CaptionSampler

Batch = dict[str, Tensor]
# Source tokens of a forward pass on a CPU: the matmuls are as fast as with more, and what a pass
# keeps for the backward pass grows with them.
CPU_PASS_TOKENS = 3072


@dataclass(frozen=True, slots=True)
class GlobalBatch:
    """The examples of one optimizer step.

    Attributes:
        target_tokens: Target tokens of all its micro-batches, over all processes.
        micro_batches: This process's micro-batches, on its device: input_ids and attention_mask
            [B, T], labels [B, L], for an image prompt image_vectors [B, D].
    """

    target_tokens: int
    micro_batches: Iterator[Batch]


class GlobalBatches:
    """The global batches of each epoch.

    Args:
        dataset: What `tokenized_dataset` returned.
        collator: Pads examples to a batch.
        micro_batch_size: Examples in a forward pass, at most.
        micro_batches: Forward passes in a global batch, over all processes; the last one of an
            epoch may have fewer.
        rank: This process's index.
        processes: Number of processes.
        seed: The order depends on this and the epoch alone.
        workers: Data-loading processes.
        device: Where batches go.
        sampler: Draws the captions in the prompts of each epoch; None for the prompts as they are.
        pass_tokens: Source tokens in a forward pass, padding included; a micro-batch with more is
            cut, which changes its gradient by rounding alone. None: as many as it has.
        is_sharded: All processes must run the model equally often: one that has no micro-batch
            where others have gets an empty one.
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
        sampler: CaptionSampler | None = None,
        pass_tokens: int | None = None,
        is_sharded: bool = False,
    ) -> None:
        self._dataset = dataset.select_columns(model_columns(dataset.column_names))
        self._sampler = sampler
        self._collator = collator
        self._micro_batch_size = micro_batch_size
        self._rank = rank
        self._processes = processes
        self._workers = workers
        self._device = device or torch.device("cpu")
        self._pass_tokens = pass_tokens
        self._is_sharded = is_sharded
        self._source_lengths: list[int] = dataset["source_length"][:]
        self._target_lengths = target_lengths(dataset)
        self._indices = LengthGroupedBatches(
            self._source_lengths,
            self._target_lengths,
            batch_size=micro_batch_size * micro_batches,
            seed=seed,
        )

    def __len__(self) -> int:
        """Optimizer steps in an epoch."""
        return len(self._indices)

    @property
    def micro_batch_size(self) -> int:
        """Examples in a forward pass, at most."""
        return self._micro_batch_size

    def of_epoch(self, epoch: int, *, start: int = 0) -> Iterator[GlobalBatch]:
        """Yields the global batches of an epoch from index `start` on.

        Each must be consumed before the next is asked for: all come from one loader.
        """
        self._indices.epoch = epoch
        examples = list(self._indices)[start:]
        shares = [self._share(indices) for indices in examples]
        loader = iter(self._load([batch for share in shares for batch in share], epoch))
        for indices, share in zip(examples, shares, strict=True):
            tokens = sum(self._target_lengths[index] for index in indices)
            yield GlobalBatch(tokens, self._on_device(islice(loader, len(share))))

    def _share(self, indices: list[int]) -> list[list[int]]:
        """Cuts a global batch, which is sorted by length, and takes this process's part."""
        size = self._micro_batch_size
        micro_batches = [indices[start : start + size] for start in range(0, len(indices), size)]
        share = micro_batches[self._rank :: self._processes]
        if self._is_sharded and len(share) < -(-len(micro_batches) // self._processes):
            return [*share, []]
        return [part for micro_batch in share for part in self._parts(micro_batch)]

    def _parts(self, indices: list[int]) -> list[list[int]]:
        """Cuts a micro-batch into as few parts of about equal size as `pass_tokens` allows."""
        if self._pass_tokens is None:
            return [indices]
        width = max(self._source_lengths[index] for index in indices)
        count = -(-len(indices) * width // self._pass_tokens)
        size = -(-len(indices) // min(count, len(indices)))
        return [indices[start : start + size] for start in range(0, len(indices), size)]

    def _on_device(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            yield send_to_device(batch, self._device, non_blocking=True)

    def _load(self, batches: list[list[int]], epoch: int) -> "DataLoader[Batch]":
        sampler = self._sampler
        # Drawn prompts are about as long as those that the batches are grouped by.
        dataset: Any = self._dataset if sampler is None else sampler.of_epoch(epoch)
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=self._collator,
            num_workers=self._workers,
            worker_init_fn=prepare_worker,
            pin_memory=torch.cuda.is_available(),
        )
