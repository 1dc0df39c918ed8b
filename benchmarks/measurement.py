"""What a training took: wall clock, CPU time, memory, and the machine's peak beside it."""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.memory import peak_bytes


@dataclass(frozen=True, slots=True)
class Measured:
    """What one contestant took.

    Attributes:
        train_wall: Seconds of the steps, each example once.
        train_cpu: The same in CPU seconds of all threads.
        samples: Examples of those steps.
        caption_wall: Seconds of the validation, loss and captions.
        caption_cpu: The same in CPU seconds.
        captions: Captions of that validation.
        peak_bytes: Largest resident memory of the process.
        peak_flops: Floating-point operations per second of a large float32 matmul.
        sample_flops: Those of the matmuls of an example's step, padding included; 0: not counted.
    """

    train_wall: float
    train_cpu: float
    samples: int
    caption_wall: float
    caption_cpu: float
    captions: int
    peak_bytes: int
    peak_flops: float
    sample_flops: float = 0.0


Clock = tuple[float, float]


def now() -> Clock:
    """Returns wall and CPU seconds, after what a GPU has still to do."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def measured(
    started: Clock,
    steps: Sequence[Clock],
    arguments: argparse.Namespace,
    validation: Clock,
    peak: int,
) -> Measured:
    """Joins the figures of a training whose steps ended at these times.

    All steps together have each example once, in any order: a part of them could have the short
    ones of a contestant that groups examples by length.

    Raises:
        ValueError: There were more or fewer steps.
    """
    if len(steps) != arguments.steps:
        raise ValueError(f"found {len(steps)} steps, expected {arguments.steps}: too few examples")
    last_wall, last_cpu = steps[-1]
    return Measured(
        train_wall=last_wall - started[0],
        train_cpu=last_cpu - started[1],
        samples=len(steps) * arguments.batch_size * arguments.accumulation,
        caption_wall=validation[0],
        caption_cpu=validation[1],
        captions=arguments.captions,
        peak_bytes=peak,
        peak_flops=matmul_peak(),
    )


def max_memory() -> int:
    """Returns the most memory of the GPU, else the largest resident memory so far, in bytes."""
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    return peak_bytes()


def matmul_peak() -> float:
    """Returns the floating-point operations a second of the best large matmul here.

    In float32 on a CPU, in bfloat16 where `dtype: auto` chooses it.
    """
    import torch

    from igrag.devices import resolve_device, resolve_dtype

    device = resolve_device("auto")
    options: dict[str, Any] = {"device": device, "dtype": resolve_dtype("auto", device)}
    size = 2048 if device.type == "cpu" else 8192
    left, right = torch.randn(size, size, **options), torch.randn(size, size, **options)
    best = float("inf")
    for _ in range(5):
        started = now()[0]
        left @ right
        best = min(best, now()[0] - started)
    return float(2 * size**3 / best)


def since(before: Clock) -> Clock:
    """Returns wall and CPU seconds since then."""
    wall, cpu = now()
    return wall - before[0], cpu - before[1]


@contextmanager
def printing_to_stderr() -> Iterator[None]:
    """Keeps stdout for the figures."""
    kept = os.dup(1)
    sys.stdout.flush()
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
