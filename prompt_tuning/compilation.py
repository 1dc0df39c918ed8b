"""torch.compile for long trainings: the encoder's blocks, one compiled code for all of them.

The encoder sees a hundred times more tokens than the decoder, and has no cache whose state would
be compiled again. Its blocks are compiled one by one: the same code serves all of them, and batches
of any shape.
"""

import logging
import shutil
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from igrag.config.choices import AUTO, Auto
from igrag.devices import auto_dtype
from igrag.errors import ConfigError

# Below it, a training takes less time than compiling may cost.
LONG_RUN = 2000  # micro-batches
logger = logging.getLogger(__name__)


def is_worthwhile(choice: bool | Auto, device: torch.device, *, micro_batches: int) -> bool:
    """Returns whether to compile.

    Args:
        choice: `training.compile`; auto compiles long trainings on GPUs, and on CPUs with fast
            bfloat16: arithmetic is so fast there that passes over memory count.
        device: Where the model is.
        micro_batches: Forward passes of the whole training.
    """
    if choice != AUTO:
        return bool(choice)
    fast = device.type == "cuda" or (device.type == "cpu" and auto_dtype("cpu") == "bfloat16")
    return fast and micro_batches >= LONG_RUN


def compile_encoder(model: Any, first_step: Callable[[], object], *, required: bool) -> bool:
    """Compiles the encoder's blocks of a seq2seq model; returns whether that worked.

    Args:
        model: The frozen model, whose encoder has T5's list `block`.
        first_step: Runs the model forward and backward, which compiles.
        required: Whether it must work; otherwise the training goes on without.

    Raises:
        ConfigError: It does not work here, but is required.
    """
    blocks: Iterable[nn.Module] = getattr(model.get_encoder(), "block", ())
    started = time.perf_counter()
    try:
        if not blocks:
            raise RuntimeError(f"{type(model).__name__} has no list of encoder blocks")
        for block in blocks:
            block.compile(dynamic=True)
        first_step()
    except Exception as error:  # Whatever a compiler may raise.
        for block in blocks:
            block._compiled_call_impl = None
        reason = _reason(error)
        if required:
            raise ConfigError(
                f"training.compile: true does not work here ({reason}); set it to false"
            ) from error
        logger.warning("not compiled (%s); the training goes on without", reason)
        return False
    logger.info("compiled the encoder in %.1f s", time.perf_counter() - started)
    return True


def _reason(error: Exception) -> str:
    if "compiler" in str(error).lower() and not shutil.which("g++"):
        return "there is no C++ compiler"
    first_line = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first_line}"[:200]
