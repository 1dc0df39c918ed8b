"""Choose the device that the models run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from igrag.errors import ModelError

if TYPE_CHECKING:  # torch takes seconds to load
    import torch


def resolve_device(name: str) -> torch.device:
    """Turn a device's name into the device; "auto" takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        ModelError: There is no device of that name on this machine.
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
        torch.empty(1, device=device)  # the only check that holds for every kind of device
    except Exception:
        raise ModelError(f"device {name!r} is not available on this machine; try auto") from None
    return device
