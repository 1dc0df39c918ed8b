"""The micro-batch of `per_device_train_batch_size: auto`: the largest that fits into memory."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from igrag.config.choices import AUTO
from igrag.config.training import FIRST_BATCH_SIZE, OptimizationSettings
from igrag.data.batching import Collator
from igrag.memory import explain_out_of_memory, largest_that_fits

KEY = "training.per_device_train_batch_size"
_Settings = TypeVar("_Settings", bound=OptimizationSettings)


def fit_batch_size(
    options: _Settings,
    step: Callable[[dict[str, Tensor]], object],
    train: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    saved: Mapping[str, Any] | None = None,
    agree: Callable[[int], int] = int,
) -> _Settings:
    """Replaces `auto` by the largest micro-batch that fits, in more micro-batches if it is smaller.

    The examples of an optimizer step stay as many.

    Args:
        options: The settings; returned as they are if they have a number.
        step: Forward and backward pass of one micro-batch.
        train: The training examples; the longest ones are tried.
        tokenizer: The model's.
        saved: These settings in the checkpoint to resume from: its number is tried first.
        agree: Returns the smallest number of all processes.

    Raises:
        MemoryExhaustedError: Not even one example fits.
    """
    if options.per_device_train_batch_size != AUTO:
        return options
    lengths = train["source_length"][:]
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    collate = Collator(tokenizer.pad_token_id)

    def attempt(size: int) -> None:
        step(collate([train[index] for index in order[:size]]))

    first = FIRST_BATCH_SIZE
    if saved is not None and isinstance(saved.get("per_device_train_batch_size"), int):
        first = saved["per_device_train_batch_size"]
    with explain_out_of_memory(KEY, 1):
        size = agree(largest_that_fits(attempt, first=first))
    micro_batches = options.gradient_accumulation_steps * (FIRST_BATCH_SIZE // size)
    print(f"{KEY}: auto: {size} examples fit, {micro_batches} of these in an optimizer step")
    return options.model_copy(
        update={"per_device_train_batch_size": size, "gradient_accumulation_steps": micro_batches}
    )


def to_device(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Returns a batch on a device."""
    return {name: tensor.to(device) for name, tensor in batch.items()}
