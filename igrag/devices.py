"""The device and dtype of models, and the memory allocator's settings."""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING

from igrag.errors import ModelError

if TYPE_CHECKING:  # torch takes seconds to load
    import torch

# mallopt's parameters, from glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_INT_MAX = 2**31 - 1


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


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """Returns torch's dtype of a name; "auto" is bfloat16 only on a GPU that has it."""
    import torch

    if name != "auto":
        return getattr(torch, name)  # type: ignore[no-any-return]
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return torch.float32


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
