"""The training loss as a sum, from which the mean over any number of batches can be made."""

from torch import Tensor
from torch.nn.functional import cross_entropy

from igrag.data.batching import LABEL_IGNORED


def summed_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the summed cross-entropy of a batch's target tokens, in nats and in float32.

    The model's own loss is a mean over the batch's tokens, from which no mean over a global batch
    can be made, and it is rounded to the model's dtype.

    Args:
        logits: [B, L, V].
        labels: Token ids [B, L]; `LABEL_IGNORED` marks padding.
    """
    return cross_entropy(
        logits.flatten(0, 1).float(),  # [B * L, V]
        labels.flatten(),
        ignore_index=LABEL_IGNORED,
        reduction="sum",
    )
