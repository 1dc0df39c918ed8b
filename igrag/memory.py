"""Explains that memory ran out, on a GPU or on the CPU, with the setting to lower."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from igrag.errors import MemoryExhaustedError

# torch has a type for a GPU's memory alone; the others are RuntimeErrors with these words.
_WORDS = (
    "not enough memory",
    "can't allocate memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error of Python or torch means that memory ran out."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


@contextmanager
def explain_out_of_memory(key: str, batch_size: int) -> Iterator[None]:
    """Turns an error of memory into one line with the batch size to try.

    Args:
        key: The setting of the batch size.
        batch_size: Its value.

    Raises:
        MemoryExhaustedError: Memory ran out inside the block.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        fix = f"try {key}={batch_size // 2}"
        if batch_size < 2:
            fix = "use a smaller model, shorter prompts, or --dtype bfloat16"
        raise MemoryExhaustedError(
            f"out of memory with {key}={batch_size}; {fix} ({_first_line(error)})"
        ) from error


def largest_that_fits(attempt: Callable[[int], object], *, first: int) -> int:
    """Halves a number until an attempt with it does not run out of memory.

    Raises:
        MemoryError, RuntimeError: What an attempt with one raised, or another error.
    """
    size = first
    while not _fits(attempt, size):
        size //= 2  # Outside of the handler, whose traceback holds the attempt's tensors.
    return size


def _fits(attempt: Callable[[int], object], size: int) -> bool:
    import torch

    try:
        attempt(size)
    except (MemoryError, RuntimeError) as error:
        if size == 1 or not is_out_of_memory(error):
            raise
    else:
        return True
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False


def _first_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:150] or type(error).__name__
