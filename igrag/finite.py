"""Finds values that are not finite, in weights that are loaded and in what a model computes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from igrag.errors import ModelError
from igrag.fingerprints import sample

if TYPE_CHECKING:  # torch takes seconds to load
    from torch import Tensor, nn


def find_not_finite(tensors: Iterable[tuple[str, Tensor]]) -> str | None:
    """Returns the name of the first tensor with a value that is not finite; None if all are."""
    return next((name for name, tensor in tensors if not bool(tensor.isfinite().all())), None)


def check_weights(model: nn.Module, name: str) -> None:
    """Checks a sample of every weight: a damaged file or a failed training spoils whole tensors.

    Raises:
        ModelError: A value is not finite.
    """
    weights = dict(model.named_parameters())
    if wrong := find_not_finite((key, sample(value)) for key, value in weights.items()):
        raise ModelError(
            f"{name}: {wrong} holds values that are not finite in {_explain(weights[wrong])}"
        )


def watch_logits(model: nn.Module, name: str) -> None:
    """Has a language model raise an error instead of logits that are not finite.

    Generation would take the padding token for the likeliest, and return empty captions. A step
    of a training is not looked at: its loss is.

    Args:
        model: Its output has `logits`.
        name: Folder or hub id, for the error.
    """
    import torch

    def check(module: nn.Module, inputs: Any, output: Any) -> None:
        if torch.is_grad_enabled() or not output.logits.numel():  # a batch without targets
            return
        if not bool(torch.stack(output.logits.aminmax()).isfinite().all()):
            raise ModelError(
                f"{name}: computes values that are not finite in {_explain(output.logits)}"
            )

    model.register_forward_hook(check)


def _explain(tensor: Tensor) -> str:
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype == "float16":
        return "float16, whose range is too small for it; use --dtype bfloat16 or float32"
    return f"{dtype}, expected numbers; use a model, a soft prompt and an adapter that are whole"
