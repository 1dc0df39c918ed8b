"""The initial prompt: noise, a text, frequent tokens, or another prompt."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from igrag.config.choices import Initialization, in_words
from prompt_tuning.prompt_file import load_prompt

DEFAULT_TEXT = "Generate a concise and accurate image caption:"
# Lester et al. (2021), section 3.2, sample from the 5,000 most common tokens; a vocabulary of
# sentencepiece or BPE is ordered about so.
_FREQUENT_TOKENS = 5000


def make_initial_prompt(
    initialization: Initialization,
    embedding_weight: Tensor,
    tokenizer: PreTrainedTokenizerBase,
    prompt_length: int,
    *,
    scale: float | None = None,
    text: str = DEFAULT_TEXT,
    file: Path | None = None,
    generator: torch.Generator,
) -> Tensor:
    """Makes the prompt [P, H] that training starts from, in float32 on the CPU.

    Args:
        initialization: "random", "text", "vocab" (frequent tokens) or "file" (another prompt).
        embedding_weight: The model's embedding matrix [V, H].
        tokenizer: The model's.
        prompt_length: Soft tokens, P.
        scale: See `random_prompt`.
        text: See `text_prompt`.
        file: For "file": another prompt's file, repeated or cut to P.
        generator: Random state of what is drawn.

    Raises:
        ValueError: The initialization is unknown, or lacks its text or file; P is below 1.
        CheckpointError: The file cannot be read, or its prompt has another width.
    """
    if prompt_length < 1:
        raise ValueError(f"prompt_length: found {prompt_length}, expected at least 1")
    if initialization == "random":
        return random_prompt(embedding_weight, prompt_length, scale=scale, generator=generator)
    if initialization == "text":
        return text_prompt(embedding_weight, tokenizer, prompt_length, text=text)
    if initialization == "vocab":
        return vocabulary_prompt(embedding_weight, tokenizer, prompt_length, generator=generator)
    if initialization != "file":
        raise ValueError(
            f"initialization: found {initialization!r}, expected {in_words(Initialization)}"
        )
    if file is None:
        raise ValueError("initialization file: found no init_file, expected another prompt's file")
    prompt = load_prompt(file, embedding_dim=embedding_weight.shape[1])
    return fit_length(prompt.embeddings, prompt_length)


def random_prompt(
    embedding_weight: Tensor,
    prompt_length: int,
    *,
    scale: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draws a prompt from a normal distribution.

    Args:
        embedding_weight: The model's embedding matrix [V, H].
        prompt_length: Soft tokens, P.
        scale: Standard deviation; None takes that of `embedding_weight`, so that soft tokens have
            the norm of real ones. The classic value is 0.02.
        generator: On the CPU, so that the prompt does not depend on the device; None draws from
            torch's global random state.

    Returns:
        [P, H] in float32.
    """
    deviation = float(embedding_weight.detach().float().std()) if scale is None else scale
    return torch.randn(prompt_length, embedding_weight.shape[1], generator=generator) * deviation


def text_prompt(
    embedding_weight: Tensor, tokenizer: PreTrainedTokenizerBase, prompt_length: int, *, text: str
) -> Tensor:
    """Takes the embeddings of a text [P, H], repeated or cut to P tokens.

    Raises:
        ValueError: The text has no token.
    """
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not tokens:
        raise ValueError(f"the text {text!r} has no token, expected at least one")
    return fit_length(
        embedding_weight[torch.tensor(tokens, device=embedding_weight.device)], prompt_length
    )


def vocabulary_prompt(
    embedding_weight: Tensor,
    tokenizer: PreTrainedTokenizerBase,
    prompt_length: int,
    *,
    generator: torch.Generator,
) -> Tensor:
    """Takes the embeddings of P frequent tokens [P, H], repeating as few as possible."""
    tokens = torch.tensor(frequent_tokens(embedding_weight, tokenizer))
    rounds = -(-prompt_length // len(tokens))
    order = torch.cat([torch.randperm(len(tokens), generator=generator) for _ in range(rounds)])
    chosen = tokens[order[:prompt_length]]
    return embedding_weight[chosen.to(embedding_weight.device)].detach().float().cpu()


def frequent_tokens(embedding_weight: Tensor, tokenizer: PreTrainedTokenizerBase) -> Sequence[int]:
    """Lists the ids of the most frequent tokens, without the special ones."""
    special = set(tokenizer.all_special_ids)
    known = min(len(tokenizer), len(embedding_weight))
    return [token for token in range(known) if token not in special][:_FREQUENT_TOKENS]


def fit_length(prompt: Tensor, prompt_length: int) -> Tensor:
    """Repeats or cuts the soft tokens of `prompt` [N, H] to [P, H] in float32 on the CPU."""
    rows = torch.arange(prompt_length, device=prompt.device) % len(prompt)
    return prompt[rows].detach().float().cpu()
