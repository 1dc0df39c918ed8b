"""The same layers of T5 in fewer passes over memory: torch's own fused operators.

The library computes the tanh approximation of GELU by ten operators, and T5's layer norm by five,
each with a tensor of its own that a backward pass keeps. torch has one operator for either.
"""

from torch import Tensor, nn
from transformers.activations import NewGELUActivation


def fuse_layers(model: nn.Module) -> None:
    """Replaces activations and layer norms by operators that compute the same, up to rounding.

    Parameters keep their names, and stay the same objects.

    Args:
        model: T5, mT5 or a relative; of other models what is not known stays as it is.
    """
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, NewGELUActivation):
                setattr(module, name, nn.GELU(approximate="tanh"))
            elif _is_rms_norm(child):
                setattr(module, name, _fused_norm(child))


def _is_rms_norm(module: nn.Module) -> bool:
    # T5's, mT5's and UMT5's are classes of their own with the same code; where NVIDIA's apex is
    # installed, the library has replaced T5's by a fused one without this attribute.
    return type(module).__name__.endswith("T5LayerNorm") and hasattr(module, "variance_epsilon")


class _FusedNorm(nn.RMSNorm):
    """T5's layer norm, whose output has the dtype of its weights.

    In float16 the feed-forward layers put out float32, which the next ones do not take.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes the last dimension of a tensor."""
        return super().forward(x).to(self.weight.dtype)


def _fused_norm(norm: nn.Module) -> nn.RMSNorm:
    weight: nn.Parameter = norm.weight  # type: ignore[assignment]
    fused = _FusedNorm(weight.shape, eps=norm.variance_epsilon)  # type: ignore[arg-type]
    fused.weight = weight
    return fused
