"""The summed loss against the model's own mean."""

import torch
from torch.nn.functional import cross_entropy

from igrag.data.batching import LABEL_IGNORED
from igrag.training.loss import summed_cross_entropy


def test_sum_over_target_tokens_equals_mean_times_their_number() -> None:
    """Padding does not count, and logits in bfloat16 are summed in float32."""
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 7)
    labels = torch.tensor([[1, 2, LABEL_IGNORED], [4, LABEL_IGNORED, LABEL_IGNORED]])
    mean = cross_entropy(logits.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(summed_cross_entropy(logits, labels), 3 * mean)
    assert summed_cross_entropy(logits.bfloat16(), labels).dtype == torch.float32
