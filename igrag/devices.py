"""The device and dtype of models, and the memory allocator's settings."""

from __future__ import annotations

import ctypes
import logging
import sys
import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from igrag.errors import ModelError
from igrag.processes import Processes

if TYPE_CHECKING:  # torch takes seconds to load
    import torch

# mallopt's parameters, from glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_INT_MAX = 2**31 - 1
# Of the race: large enough for the cores, and over in milliseconds even where bfloat16 is a
# hundred times slower.
_RACE_SHAPE = (128, 256, 256)
_RACE_ROUNDS = 3
_TYPES = ("cpu", "cuda", "mps")
_AGREED: dict[str, str] = {}  # Type of device -> what the run's first process has chosen.
logger = logging.getLogger(__name__)


def resolve_device(name: str) -> torch.device:
    """Returns the device of a name; "auto" takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        ModelError: This machine has no such device.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ModelError(f"device {name!r}: expected auto, cpu, cuda, cuda:1 or mps") from None
    try:
        torch.empty(1, device=device)  # the only check that works for every type of device
    except Exception:
        raise ModelError(f"device {name!r} is not available on this machine; try auto") from None
    return device


@dataclass(frozen=True, slots=True)
class DtypeRace:
    """The fastest of some small matrix products on the CPU, in seconds."""

    float32: float
    bfloat16: float

    @property
    def bfloat16_wins(self) -> bool:
        """Whether bfloat16 was faster."""
        return self.bfloat16 < self.float32


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """Returns torch's dtype of a name; "auto" is bfloat16 where the device is faster with it."""
    import torch

    dtype: torch.dtype = getattr(torch, auto_dtype(device.type) if name == "auto" else name)
    return dtype


def auto_dtype(device_type: str) -> str:
    """Returns the dtype of "auto" on a type of device: bfloat16 or float32."""
    return _AGREED.get(device_type) or fastest_dtype(device_type)


def agree_on_dtypes(processes: Processes) -> None:
    """Makes all processes of a run take what the first one chooses for "auto".

    Races end differently on another machine, or on a busy one, and then the processes would
    compute with different precision.
    """
    if processes.ranks.size > 1:
        chosen = processes.from_first("dtypes", lambda: {each: auto_dtype(each) for each in _TYPES})
        _AGREED.update(chosen)


@cache
def fastest_dtype(device_type: str) -> str:
    """Chooses between bfloat16 and float32, and logs why, once for each type of device."""
    import torch

    chosen, reason = "float32", "the device has no fast bfloat16"
    if device_type == "cuda" and torch.cuda.is_bf16_supported():
        chosen, reason = "bfloat16", "the GPU has it"
    elif device_type == "cpu" and (race := race_on_cpu()):
        chosen = "bfloat16" if race.bfloat16_wins else "float32"
        reason = (
            f"a matrix product takes {race.float32 * 1e6:.0f} us in float32 and "
            f"{race.bfloat16 * 1e6:.0f} us in bfloat16"
        )
    logger.info("dtype auto: %s on %s: %s", chosen, device_type, reason)
    return chosen


@cache
def race_on_cpu() -> DtypeRace | None:
    """Times matrix products in float32 and in bfloat16, once in a process.

    Returns:
        The times; None for a CPU without instructions for bfloat16, where it is up to 240 times
        slower (measured on an AVX2-only one).
    """
    import torch

    has_amx, has_avx512 = torch.cpu._is_amx_tile_supported, torch.cpu._is_avx512_bf16_supported
    if not (has_amx() or has_avx512()):
        return None
    return DtypeRace(_fastest_product(torch.float32), _fastest_product(torch.bfloat16))


def _fastest_product(dtype: torch.dtype) -> float:
    import torch

    rows, inner, columns = _RACE_SHAPE
    left = torch.ones(rows, inner, dtype=dtype)
    right = torch.ones(inner, columns, dtype=dtype)
    left @ right  # The first one prepares the kernel.
    seconds = []
    for _ in range(_RACE_ROUNDS):
        started = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def tune_allocator() -> None:
    """Keeps freed memory in the process, where the C library is glibc.

    Batches of varying shape otherwise make glibc return memory and fault it in again at every
    step, which can take more time than the arithmetic.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # musl, or another C library
        return
    mallopt(_M_MMAP_THRESHOLD, 1 << 30)
    mallopt(_M_TRIM_THRESHOLD, _INT_MAX)
