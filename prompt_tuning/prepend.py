"""Puts prompts before the rows of a batch: of one length or of several, padded left or right."""

from collections.abc import Sequence

import torch
from torch import Tensor


def prepend(
    prompts: Sequence[Tensor], source: Tensor, attention_mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Puts a prompt before each row of the source.

    T5's attention sees the distance between two positions, so a row computes what it computes
    alone only if nothing stands between its prompt and its text: such rows are moved together,
    and all padding stands on the right.

    Args:
        prompts: For each row its prompt [P_b, H]; P_b may be 0.
        source: Embeddings of the text [B, T, H].
        attention_mask: [B, T].

    Returns:
        Embeddings [B, S, H] in the source's dtype and their mask [B, S], S = max(P_b) + T, or
        less where no row is that long.

    Raises:
        ValueError: There is not one prompt for each row.
    """
    if len(prompts) != len(source):
        raise ValueError(
            f"found {len(prompts)} prompts, expected one for each of {len(source)} rows"
        )
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=source.device)
    longest = int(lengths.max())
    if all(prompt is prompts[0] for prompt in prompts):
        soft = prompts[0].to(source.dtype).expand(len(prompts), -1, -1)
    else:
        soft = torch.stack([_padded(prompt.to(source.dtype), longest) for prompt in prompts])
    # [B, P]: the end of a shorter prompt is padding.
    soft_mask = torch.arange(longest, device=source.device) < lengths[:, None]
    embeddings = torch.cat([soft, source], dim=1)  # [B, P + T, H]
    mask = torch.cat([soft_mask.to(attention_mask.dtype), attention_mask], dim=1)  # [B, P + T]
    has_gaps = (mask[:, 1:] > mask[:, :-1]).any()
    return _move_together(embeddings, mask) if has_gaps else (embeddings, mask)


def _padded(prompt: Tensor, length: int) -> Tensor:
    return torch.nn.functional.pad(prompt, (0, 0, 0, length - len(prompt)))  # [P, H]


def _move_together(embeddings: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Moves what the mask shows to the left of each row, in its order, and cuts what is empty."""
    width = int(mask.sum(dim=1).max())
    order = (mask == 0).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]  # [B, S]
    places = order[:, :, None].expand(-1, -1, embeddings.shape[2])  # [B, S, H]
    return embeddings.gather(1, places), mask.gather(1, order)
