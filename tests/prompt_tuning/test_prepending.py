"""Prompts prepended to a batch: each row computes what it computes alone."""

from typing import Any

import pytest
import torch
from torch import Tensor

from igrag.captioning.language_model import LanguageModel
from prompt_tuning.prepending import prepend_prompt
from tests.prompt_tuning.models import (
    assert_same,
    batch_of,
    inputs_of,
    noise,
    row,
    trimmed,
    tuner_of,
)

LENGTHS = {"long": 30, "short": 1, "default": 4}
MIXTURES = (
    ("long", None, "default"),
    (None, "short", "long"),
    ("short", "short", "default"),
    (None, None, "short"),
)


def numbered(count: int, *, first: int) -> Tensor:
    """Returns vectors [count, 2] that differ: first, first + 1, ..."""
    return torch.arange(first, first + count)[:, None].expand(-1, 2).float()


def shown(embeddings: Tensor, mask: Tensor) -> list[list[int]]:
    """Returns the numbers where the mask is 1, row by row."""
    return [
        [int(value) for value in line[visible == 1, 0]]
        for line, visible in zip(embeddings, mask, strict=True)
    ]


def source_of(*masks: list[int]) -> tuple[Tensor, Tensor]:
    """Returns a source [B, T, 2] that counts from 100 b, with its mask [B, T]."""
    rows = [numbered(len(mask), first=100 * place) for place, mask in enumerate(masks, start=1)]
    return torch.stack(rows), torch.tensor(masks)


def test_one_prompt_is_prepended_to_every_row() -> None:
    """Right-padded rows are not moved; the mask grows by the prompt."""
    source, mask = source_of([1, 1, 1], [1, 0, 0])
    prompt = numbered(2, first=1)
    embeddings, extended = prepend_prompt([prompt, prompt], source, mask)
    assert extended.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert embeddings[:, :, 0].tolist() == [[1, 2, 100, 101, 102], [1, 2, 200, 201, 202]]


def test_left_padding_is_moved_to_the_right() -> None:
    """Prompt and text are adjacent, and the padding follows them."""
    source, mask = source_of([1, 1, 1, 1], [0, 0, 1, 1])
    prompt = numbered(2, first=1)
    embeddings, extended = prepend_prompt([prompt, prompt], source, mask)
    assert extended.tolist() == [[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]]
    assert shown(embeddings, extended) == [[1, 2, 100, 101, 102, 103], [1, 2, 202, 203]]


def test_prompts_of_several_lengths_are_adjacent_to_their_text() -> None:
    """Each row begins with its own prompt, and no row is longer than necessary."""
    source, mask = source_of([1, 1, 1], [1, 1, 0], [0, 0, 1])
    prompts = [numbered(1, first=1), numbered(0, first=1), numbered(3, first=11)]
    embeddings, extended = prepend_prompt(prompts, source, mask)
    assert shown(embeddings, extended) == [[1, 100, 101, 102], [200, 201], [11, 12, 13, 302]]
    assert extended.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1]]


def test_two_prompts_of_equal_length_stay_different() -> None:
    """Each row begins with its own prompt."""
    source, mask = source_of([1], [1])
    embeddings, _ = prepend_prompt([numbered(2, first=1), numbered(2, first=11)], source, mask)
    assert embeddings[:, :, 0].tolist() == [[1, 2, 100], [11, 12, 200]]


@pytest.mark.parametrize("lengths", [(2, 2), (2, 5)])
@pytest.mark.parametrize("dtype", [torch.long, torch.bool, torch.float32])
def test_output_has_the_dtypes_of_the_source(lengths: tuple[int, int], dtype: torch.dtype) -> None:
    """A float32 prompt becomes bfloat16 with a bfloat16 source, whatever dtype the mask has."""
    source, mask = source_of([1, 1], [0, 1])
    prompts = [numbered(length, first=1) for length in lengths]
    embeddings, extended = prepend_prompt(prompts, source.bfloat16(), mask.to(dtype))
    assert (embeddings.dtype, extended.dtype) == (torch.bfloat16, dtype)


@pytest.mark.parametrize("lengths", [(2, 2), (1, 3)])
def test_gradient_reaches_every_prompt(lengths: tuple[int, int]) -> None:
    """Every vector of every prompt gets its own row's gradient, also in moved rows."""
    source, mask = source_of([0, 1], [1, 1])
    prompts = [numbered(length, first=1).requires_grad_() for length in lengths]
    embeddings, extended = prepend_prompt(prompts, source, mask)
    weights = torch.tensor([3.0, 5.0])[:, None, None]
    (embeddings * extended[:, :, None] * weights).sum().backward()
    for prompt, weight in zip(prompts, (3.0, 5.0), strict=True):
        assert prompt.grad is not None
        assert torch.equal(prompt.grad, torch.full_like(prompt, weight))


def test_number_of_prompts_other_than_rows_is_refused() -> None:
    """The error has both numbers."""
    source, mask = source_of([1], [1])
    for count in (1, 3):
        with pytest.raises(ValueError, match=f"found {count} prompts, .* 2 sequences"):
            prepend_prompt([numbered(2, first=1)] * count, source, mask)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("names", MIXTURES)
def test_batch_of_several_prompts_equals_single_prompts(
    language: LanguageModel, names: tuple[str | None, ...], side: str
) -> None:
    """Logits to 1e-5 of the largest and tokens equal those of a tuner with one prompt."""
    prompts = {name: noise(length, seed=length) for name, length in LENGTHS.items()}
    mixed = tuner_of(language, prompts["default"])
    for added in ("long", "short"):
        mixed.add_prompt(added, prompts[added])
    batch = batch_of(language.tokenizer, side=side)
    greedy: dict[str, Any] = {"max_new_tokens": 8, "num_beams": 1, "do_sample": False}
    with torch.no_grad():
        together = mixed(**batch, prompts=names).logits
        tokens = mixed.generate(**inputs_of(batch), prompts=names, **greedy)
        for place, name in enumerate(names):
            alone = row(batch, place)
            one: Any = language.model if name is None else tuner_of(language, prompts[name])
            assert_same(together[place], one(**alone).logits[0])
            single = one.generate(**inputs_of(alone), **greedy)
            assert trimmed(tokens[place]) == trimmed(single[0])
