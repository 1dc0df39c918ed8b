"""Where a soft prompt begins: noise, a text, frequent tokens, or another prompt."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

Initialization = Literal["random", "text", "vocab", "file"]
# Lester et al. (2021), section 3.2, sample from the 5,000 most common tokens; a vocabulary of
# sentencepiece or BPE is ordered about so.
_FREQUENT_TOKENS = 5000


def first_prompt(
    initialization: Initialization,
    table: Tensor,
    tokenizer: PreTrainedTokenizerBase,
    prompt_length: int,
    *,
    scale: float | None,
    text: str,
    source: Tensor | None,
    generator: torch.Generator,
) -> Tensor:
    """Makes the prompt [P, H] that training begins with, in float32 on the CPU.

    Args:
        initialization: Which of the ways below.
        table: The model's embeddings [V, H].
        tokenizer: The model's.
        prompt_length: Soft tokens, P.
        scale: See `random_prompt`.
        text: See `text_prompt`.
        source: For "file": another prompt [N, H], repeated or cut to P.
        generator: Decides what is drawn.

    Raises:
        ValueError: The initialization is unknown, or lacks its text or source.
    """
    if initialization == "random":
        return random_prompt(table, prompt_length, scale=scale, generator=generator)
    if initialization == "text":
        return text_prompt(table, tokenizer, prompt_length, text=text)
    if initialization == "vocab":
        return vocabulary_prompt(table, tokenizer, prompt_length, generator=generator)
    if initialization != "file":
        raise ValueError(
            f"initialization: found {initialization!r}, expected random, text, vocab or file"
        )
    if source is None:
        raise ValueError("initialization file: found no init_file, expected another prompt's file")
    if source.shape[1] != table.shape[1]:
        raise ValueError(
            f"initialization file: found embeddings of width {source.shape[1]}, expected the "
            f"model's {table.shape[1]}"
        )
    return fit_length(source, prompt_length)


def random_prompt(
    table: Tensor, prompt_length: int, *, scale: float | None, generator: torch.Generator
) -> Tensor:
    """Draws a prompt from a normal distribution.

    Args:
        table: The model's embeddings [V, H].
        prompt_length: Soft tokens, P.
        scale: Standard deviation; None takes that of `table`, so that the soft tokens are as
            long as real ones. The classic value is 0.02.
        generator: On the CPU, so that the prompt does not depend on the device.

    Returns:
        [P, H] in float32.
    """
    deviation = float(table.float().std()) if scale is None else scale
    return torch.randn(prompt_length, table.shape[1], generator=generator) * deviation


def text_prompt(
    table: Tensor, tokenizer: PreTrainedTokenizerBase, prompt_length: int, *, text: str
) -> Tensor:
    """Takes the embeddings of a text [P, H], repeated or cut to P tokens.

    Raises:
        ValueError: The text has no token.
    """
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not tokens:
        raise ValueError(f"the text {text!r} has no token, expected at least one")
    return fit_length(table[torch.tensor(tokens, device=table.device)], prompt_length)


def vocabulary_prompt(
    table: Tensor,
    tokenizer: PreTrainedTokenizerBase,
    prompt_length: int,
    *,
    generator: torch.Generator,
) -> Tensor:
    """Takes the embeddings of P frequent tokens [P, H], as few of them twice as can be."""
    tokens = torch.tensor(frequent_tokens(table, tokenizer))
    rounds = -(-prompt_length // len(tokens))
    order = torch.cat([torch.randperm(len(tokens), generator=generator) for _ in range(rounds)])
    chosen = tokens[order[:prompt_length]]
    return table[chosen.to(table.device)].detach().float().cpu()


def frequent_tokens(table: Tensor, tokenizer: PreTrainedTokenizerBase) -> Sequence[int]:
    """Lists the ids of the most frequent tokens, without the special ones."""
    special = set(tokenizer.all_special_ids)
    known = min(len(tokenizer), len(table))
    return [token for token in range(known) if token not in special][:_FREQUENT_TOKENS]


def fit_length(prompt: Tensor, prompt_length: int) -> Tensor:
    """Repeats or cuts the rows of `prompt` [N, H] to [P, H] in float32 on the CPU."""
    rows = torch.arange(prompt_length, device=prompt.device) % len(prompt)
    return prompt[rows].detach().float().cpu()
