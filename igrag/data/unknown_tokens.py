"""Text that a tokenizer turns into unknown tokens: the model sees the same token for all of it."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

# Shares of a text's characters: from the first on it is worth a warning, from the second on the
# text is mostly lost. A prompt's instruction is in the model's language even where its captions
# are not.
NOTICEABLE, MOST = 0.25, 0.5


def unknown_shares(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], ids: Sequence[Sequence[int]]
) -> list[float]:
    """Returns for each text the share of its characters, without spaces, in unknown tokens.

    Args:
        tokenizer: The model's tokenizer.
        texts: The texts.
        ids: Their tokens.
    """
    unknown = tokenizer.unk_token_id
    return [
        _share(tokenizer, text, tokens) if unknown is not None and unknown in tokens else 0.0
        for text, tokens in zip(texts, ids, strict=True)
    ]


def _share(tokenizer: PreTrainedTokenizerBase, text: str, ids: Sequence[int]) -> float:
    length = len("".join(text.split()))
    if not tokenizer.is_fast:  # It knows no offsets: tokens are counted, one for a whole run.
        return ids.count(tokenizer.unk_token_id) / max(1, len(ids) - 1)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    # A run of unknown characters, spaces between them included, may be one token.
    lost = sum(
        len("".join(text[start:end].split()))
        for token, (start, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        if token == tokenizer.unk_token_id
    )
    return lost / max(1, length)
