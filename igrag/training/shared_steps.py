"""What the processes of one training agree on, and what each draws for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:  # accelerate takes a while to load
    from accelerate import Accelerator


def any_process(accelerator: Accelerator, flag: bool) -> bool:
    """Returns whether a flag is set in any of the training's processes."""
    if accelerator.num_processes == 1:
        return flag
    flags = torch.tensor(float(flag), device=accelerator.device)
    return bool(accelerator.reduce(flags, reduction="sum") > 0)


def step_seed(seed: int, step: int, rank: int) -> int:
    """Returns the seed of what a process draws in a step, such as dropout.

    A function of the run's seed, the step and the process: a resumed run draws what the
    uninterrupted one would have drawn.
    """
    return (seed * 1_000_003 + step) * 1_009 + rank
