"""Where the decoder's cross-attention reads while it generates a caption, word by word."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedTokenizerBase

from prompt_tuning.prompt_tuner import PromptTuner

Span = tuple[int, int]  # the first character, and the one after the last


@dataclass(frozen=True, slots=True)
class WordAttention:
    """How the attention of one generated word is spread; all shares together are 1.

    Attributes:
        word: The word, with punctuation that follows it.
        soft_tokens: Share of each soft token: the P learned ones, then Q of the image.
        captions: Share of each retrieved caption.
        rest: Share of the rest of the text: instruction, list marks, the end token.
    """

    word: str
    soft_tokens: tuple[float, ...]
    captions: tuple[float, ...]
    rest: float


@torch.inference_mode()
def attend(
    tuner: PromptTuner,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    spans: Sequence[Span],
    *,
    decoding: GenerationConfig,
    max_source_length: int,
    image_vectors: Tensor | None = None,
) -> list[WordAttention]:
    """Generates a caption and sums what its words attend to, over heads and layers.

    Args:
        tuner: The model with its soft prompt; its attention implementation must be eager, the only
            one that returns weights.
        tokenizer: The model's.
        text: The prompt's text.
        spans: Where the retrieved captions stand in it.
        decoding: How the caption is generated.
        max_source_length: Longest text in tokens.
        image_vectors: The image's vector [1, D], for a prompt with image tokens.

    Returns:
        The words of the caption.
    """
    encoded = tokenizer(
        [text],
        truncation=True,
        max_length=max_source_length,
        return_offsets_mapping=True,
        return_tensors="pt",
    )
    offsets = encoded.pop("offset_mapping")[0].tolist()
    batch = encoded.to(tuner.device)
    tokens = tuner.generate(
        batch["input_ids"],
        batch["attention_mask"],
        image_vectors=image_vectors,
        generation_config=decoding,
    )  # [1, L]
    output = tuner(
        batch["input_ids"],
        batch["attention_mask"],
        image_vectors=image_vectors,
        decoder_input_ids=tokens[:, :-1],  # Position i is where token i + 1 is chosen.
        output_attentions=True,
    )
    weights = summed_attention(output.cross_attentions)  # [L - 1, P + Q + T]
    sources = _sources(offsets, spans)
    words = []
    for word, positions in _words(tokenizer, tokens[0, 1:].tolist()):
        shares = weights[positions].mean(dim=0)  # [P + Q + T]
        prompt, source = shares.split([len(shares) - len(sources), len(sources)])
        by_source = torch.zeros(len(spans) + 1).index_add(0, sources, source)
        *captions, rest = by_source.tolist()
        words.append(WordAttention(word, tuple(prompt.tolist()), tuple(captions), rest))
    return words


def summed_attention(layers: Sequence[Tensor]) -> Tensor:
    """Sums weights [1, heads, L, S] of each layer over heads and layers.

    Returns:
        [L, S], each row divided by its sum.
    """
    total = torch.stack([layer[0].float().cpu() for layer in layers]).sum(dim=(0, 1))
    return total / total.sum(dim=1, keepdim=True)


def _sources(offsets: Sequence[Sequence[int]], spans: Sequence[Span]) -> Tensor:
    """Returns for each token of the text its caption's index [T]; of none, the number of them."""
    found = [
        next(
            (index for index, (start, end) in enumerate(spans) if start < last and first < end),
            len(spans),
        )
        for first, last in offsets
    ]
    return torch.tensor(found)


def _words(tokenizer: Any, tokens: list[int]) -> list[tuple[str, list[int]]]:
    """Returns the words of a caption, each with the positions of its tokens."""
    special = set(tokenizer.all_special_ids)
    positions = [index for index, token in enumerate(tokens) if token not in special]
    words: list[list[int]] = []
    for number, index in enumerate(positions):
        read = tokenizer.decode([tokens[each] for each in positions[: number + 1]])
        if len(read.split()) > len(words):
            words.append([])
        if words:  # else a token of a space alone
            words[-1].append(index)
    texts = tokenizer.decode([tokens[each] for each in positions]).split()
    return list(zip(texts, words, strict=False))
