"""The micro-batch of `per_device_train_batch_size: auto`: the largest that fits into memory."""

from collections.abc import Callable
from pathlib import Path

from datasets import Dataset
from torch import Tensor

from igrag.data.batching import Collator, longest_first_order
from igrag.memory import explain_out_of_memory, largest_that_fits
from igrag.processes import Ranks
from igrag.training.checkpoints import record_of
from igrag.training.record import TrainingRecord

KEY = "training.per_device_train_batch_size"


def fit_batch_size(
    step: Callable[[dict[str, Tensor]], object],
    train: Dataset,
    collator: Collator,
    *,
    size: int,
    micro_batches: int,
    checkpoint: Path | None = None,
    agree: Callable[[int], int] = int,
) -> tuple[int, int]:
    """Finds the largest micro-batch that fits; the examples of an optimizer step stay as many.

    Args:
        step: Forward and backward pass of one micro-batch.
        train: The training examples; the longest ones are tried.
        collator: Pads them to a batch.
        size: Examples of a micro-batch where memory does not run out.
        micro_batches: Micro-batches of an optimizer step then.
        checkpoint: The one to resume from, whose micro-batch is tried first; None for `size`.
        agree: Returns the smallest number of all processes.

    Returns:
        Examples of a micro-batch, and micro-batches of an optimizer step.

    Raises:
        MemoryExhaustedError: Not even one example fits.
    """
    order = longest_first_order(train["source_length"][:])

    def attempt(count: int) -> None:
        step(collator([train[index] for index in order[:count]]))

    first = _saved_size(record_of(checkpoint)) if checkpoint else None
    with explain_out_of_memory(KEY, 1):
        fitting = agree(largest_that_fits(attempt, first=first or size))
    micro_batches *= size // fitting
    if Ranks.from_environment().is_first:
        print(f"{KEY}: auto: {fitting} examples fit, {micro_batches} of these in an optimizer step")
    return fitting, micro_batches


def _saved_size(record: TrainingRecord) -> int | None:
    """Returns the micro-batch of an earlier run of the same training."""
    size = record.config.get("training", {}).get("per_device_train_batch_size")
    return size if isinstance(size, int) else None
