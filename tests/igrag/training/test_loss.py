"""The summed loss against the model's own mean."""

from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from igrag.data.batching import LABEL_IGNORED
from igrag.training.loss import head_on, summed_cross_entropy


def test_sum_over_target_tokens_equals_mean_times_their_number() -> None:
    """Padding does not count, and logits in bfloat16 are summed in float32."""
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 7)
    labels = torch.tensor([[1, 2, LABEL_IGNORED], [4, LABEL_IGNORED, LABEL_IGNORED]])
    mean = cross_entropy(logits.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(summed_cross_entropy(logits, labels), 3 * mean)
    assert summed_cross_entropy(logits.bfloat16(), labels).dtype == torch.float32


class _Model(nn.Module):
    """A head behind hidden states."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 7)

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def forward(self, hidden: Any) -> Any:
        return self.head(hidden)


def test_head_sees_the_chosen_positions_alone() -> None:
    """Inside the block logits are those of the positions, afterwards of all again."""
    model, hidden = _Model(), torch.randn(2, 3, 4)
    positions = torch.tensor([[True, True, False], [True, False, False]])
    every = model(hidden)
    with head_on(model, positions):
        torch.testing.assert_close(model(hidden), every[positions])
    assert model(hidden).shape == every.shape
