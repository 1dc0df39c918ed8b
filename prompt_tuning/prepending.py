"""Soft prompts before the texts of a batch, with no padding between the two."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def prepend_prompt(
    prompts: Sequence[Tensor], source: Tensor, attention_mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Prepends a prompt to each sequence of a batch.

    T5's attention sees the distance between two positions, so that a sequence computes what it
    computes alone only if no padding stands between its prompt and its text: such sequences are
    shifted together, and all padding stands on the right.

    Args:
        prompts: For each sequence its prompt [P_b, H]; P_b may be 0.
        source: Embeddings of the text [B, T, H].
        attention_mask: [B, T].

    Returns:
        Embeddings [B, S, H] in the source's dtype and their mask [B, S], S = max(P_b) + T, or
        less on a CPU where no sequence is that long.

    Raises:
        ValueError: There is not one prompt for each sequence.
    """
    if len(prompts) != len(source):
        raise ValueError(
            f"found {len(prompts)} prompts, expected one for each of {len(source)} sequences"
        )
    lengths = [len(prompt) for prompt in prompts]
    longest = max(lengths)
    # [B, P]: the end of a shorter prompt is padding.
    soft_mask = attention_mask.new_ones(len(prompts), longest)
    if all(prompt is prompts[0] for prompt in prompts):
        soft = prompts[0].to(source.dtype).expand(len(prompts), -1, -1)  # [B, P, H], no copy
    else:
        padded = (
            nn.functional.pad(prompt.to(source.dtype), (0, 0, 0, longest - len(prompt)))
            for prompt in prompts
        )
        soft = torch.stack(list(padded))  # [B, P, H]
        for row, length in enumerate(lengths):
            soft_mask[row, length:] = 0
    embeddings = torch.cat([soft, source], dim=1)  # [B, P + T, H]
    mask = torch.cat([soft_mask, attention_mask], dim=1)  # [B, P + T]
    # To ask a GPU whether there are gaps would make the host wait; moving nothing is cheap there.
    if mask.device.type == "cpu" and not (mask[:, 1:] > mask[:, :-1]).any():
        return embeddings, mask
    return _shift_left(embeddings, mask)


def _shift_left(embeddings: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Moves unmasked positions to the left, in their order; a CPU cuts what is padding in all."""
    width = int(mask.sum(dim=1).max()) if mask.device.type == "cpu" else mask.shape[1]
    order = (mask == 0).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]  # [B, S]
    index = order[:, :, None].expand(-1, -1, embeddings.shape[2])  # [B, S, H]
    return embeddings.gather(1, index), mask.gather(1, order)
