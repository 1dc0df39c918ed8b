"""Loss and captions of a batch of validation examples, from one pass through the encoder."""

from typing import Any, cast

import torch
from torch import Tensor

from igrag.captioning.shared_cross_attention import CrossAttentionCache, forward_from, generate_from
from igrag.training.loss import head_on_targets, summed_cross_entropy


@torch.no_grad()
def batch_loss(
    model: Any,
    states: Tensor,
    mask: Tensor,
    labels: Tensor,
    *,
    keys_and_values: CrossAttentionCache | None = None,
) -> float:
    """Returns the cross-entropy summed over a batch's target tokens, in nats.

    Args:
        model: A seq2seq model of transformers, or a PeftModel around one.
        states: The encoder's states [B, S, H].
        mask: Their mask [B, S].
        labels: Target tokens [B, L]; `LABEL_IGNORED` marks padding.
        keys_and_values: An empty cache that keeps those of the states.
    """
    if keys_and_values is None:  # The digits are those of `loss_and_tokens`.
        keys_and_values = CrossAttentionCache()
    with head_on_targets(model, labels) as (inputs, targets):
        output = forward_from(
            model, states, mask, keys_and_values=keys_and_values, decoder_input_ids=inputs
        )
    return float(summed_cross_entropy(cast(Tensor, output.logits), targets))


def loss_and_tokens(
    model: Any, states: Tensor, mask: Tensor, labels: Tensor, **options: Any
) -> tuple[float, Tensor]:
    """Returns a batch's loss, see `batch_loss`, and the token ids [B, L'] of its captions.

    Args:
        model: See `batch_loss`.
        states: Likewise.
        mask: Likewise.
        labels: Likewise.
        **options: As the model's `generate` takes them.
    """
    shared = CrossAttentionCache()
    loss = batch_loss(model, states, mask, labels, keys_and_values=shared)
    return loss, generate_from(model, states, mask, keys_and_values=shared, **options)
