"""The vocabulary entries that soft tokens are nearest to."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class NearestEntry:
    """A vocabulary entry and its cosine with a soft token."""

    token: str
    cosine: float


def nearest_entries(
    prompt: Tensor, embedding_weight: Tensor, tokenizer: PreTrainedTokenizerBase, *, count: int
) -> list[list[NearestEntry]]:
    """Finds for each soft token the vocabulary entries with the largest cosine.

    Special tokens and rows of the embedding matrix without a token are left out.

    Args:
        prompt: [P, H].
        embedding_weight: The model's embedding matrix [V, H].
        tokenizer: The model's.
        count: Entries for each.

    Returns:
        For each soft token its entries, the nearest one first.
    """
    special = set(tokenizer.all_special_ids)
    known = min(len(tokenizer), len(embedding_weight))
    ids = torch.tensor([token for token in range(known) if token not in special])
    rows = embedding_weight.detach().float().cpu()[ids]  # [V', H]
    unit = torch.nn.functional.normalize
    cosines = unit(prompt.float(), dim=1) @ unit(rows, dim=1).T  # [P, V']
    found = cosines.topk(min(count, len(ids)), dim=1)
    return [
        [
            NearestEntry(_text(tokenizer, int(ids[column])), float(cosine))
            for cosine, column in zip(values, columns, strict=True)
        ]
        for values, columns in zip(found.values, found.indices, strict=True)
    ]


def _text(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """Returns an entry as it reads in a text; one of white space alone under its own name."""
    read = str(tokenizer.decode([token])).strip()
    return read or str(tokenizer.convert_ids_to_tokens(token))
