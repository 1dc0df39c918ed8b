"""Mixed precision, under the names that the settings use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from igrag.config.choices import MixedPrecision
from igrag.devices import resolve_dtype

if TYPE_CHECKING:  # torch takes seconds to load
    import torch


def resolve_mixed_precision(name: MixedPrecision, device: torch.device) -> Literal["bf16", "no"]:
    """Returns what Accelerate calls `mixed_precision`; "auto" is bf16 where it is faster."""
    if name == "auto":
        return "bf16" if str(resolve_dtype("auto", device)) == "torch.bfloat16" else "no"
    return "bf16" if name == "bf16" else "no"
