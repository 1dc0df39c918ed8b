"""Compares an exported model with the PromptTuner that it was made from, token by token."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedTokenizerBase

from igrag.captioning.generator import GenerativeModel
from igrag.data.examples import iter_examples
from igrag.metrics.bleu import bleu

# A batch of prompts -> their token ids [B, L].
Generate = Callable[[list[str]], Tensor]


@dataclass(frozen=True, slots=True)
class Sample:
    """Prompts to compare on.

    Attributes:
        prompts: The prompts.
        references: The references of each.
    """

    prompts: list[str]
    references: list[list[str]]

    @classmethod
    def read(cls, path: Path, count: int) -> Sample:
        """Reads the first examples of a JSONL file.

        Raises:
            DataError: It is missing or damaged.
        """
        examples = list(islice(iter_examples(path), count))
        return cls([each.prompt for each in examples], [[*each.references] for each in examples])


@dataclass(frozen=True, slots=True)
class GeneratedTokens:
    """What one model generated for a sample.

    Attributes:
        tokens: Ids of each caption, without special tokens around it.
        bleu_4: BLEU-4 of the captions.
        seconds: Wall-clock time of all of them.
    """

    tokens: list[list[int]]
    bleu_4: float
    seconds: float

    def equal_to(self, other: GeneratedTokens) -> int:
        """Returns how many captions have the same tokens."""
        return sum(ours == theirs for ours, theirs in zip(self.tokens, other.tokens, strict=True))


def model_generate(
    model: GenerativeModel,
    tokenizer: PreTrainedTokenizerBase,
    config: GenerationConfig,
    *,
    max_length: int,
) -> Generate:
    """Returns a model's generation from texts of up to `max_length` tokens."""

    def generate(prompts: list[str]) -> Tensor:
        inputs = tokenizer(
            prompts, padding=True, truncation=True, max_length=max_length, return_tensors="pt"
        )
        return model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            generation_config=config,
        )

    return generate


def generate_tokens(
    generate: Generate, sample: Sample, tokenizer: PreTrainedTokenizerBase, *, batch_size: int
) -> GeneratedTokens:
    """Generates a sample's captions, after one batch that warms up and is not timed."""
    batches = [
        sample.prompts[start : start + batch_size]
        for start in range(0, len(sample.prompts), batch_size)
    ]
    with torch.inference_mode():
        generate(batches[0])
        started = time.perf_counter()
        found = [row for batch in batches for row in generate(batch).tolist()]
        seconds = time.perf_counter() - started
    tokens = [_trim(row, tokenizer) for row in found]
    captions = [" ".join(str(tokenizer.decode(each)).split()) for each in tokens]
    return GeneratedTokens(tokens, bleu(captions, sample.references).bleu4, seconds)


def comparable(config: GenerationConfig, *, early_stopping: bool = False) -> GenerationConfig:
    """Returns a decoding by which the PromptTuner generates what an export must generate.

    Greedy where captions are sampled: the draws differ. Beam search scores a token among those that
    may be generated, which every export does to leave out the soft tokens; this changes nothing
    but with no_repeat_ngram_size or repetition_penalty.

    Args:
        config: The decoding.
        early_stopping: End beam search with the first `num_beams` captions, as CTranslate2 does.
    """
    options: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None}
    options |= {"top_k": None}
    beams: Any = config
    if beams.num_beams > 1:
        options |= {"renormalize_logits": True, "early_stopping": early_stopping}
    return GenerationConfig(**{**config.to_dict(), **options})


def _trim(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Drops the start token, the end token with what follows, and padding at the end."""
    caption = ids[1:]
    if tokenizer.eos_token_id in caption:
        caption = caption[: caption.index(tokenizer.eos_token_id)]
    while caption and caption[-1] == tokenizer.pad_token_id:
        caption = caption[:-1]
    return caption
