"""Captions from prompts: the library's own, whatever the batch, and the same every time."""

from pathlib import Path

import pytest
import torch

from igrag.generator import CaptionGenerator, Decoding
from igrag.language_model import LanguageModel, load_language_model

_PROMPTS = ["a dog", "describe a red bus in the street with two cats near a house", "cat", "man"]


@pytest.fixture(scope="module")
def language(tiny_t5: Path) -> LanguageModel:
    """The tiny T5, loaded."""
    return load_language_model(str(tiny_t5), device="cpu")


def _generator(language: LanguageModel, **options: object) -> CaptionGenerator:
    decoding = Decoding(**{"max_new_tokens": 6, **options})  # type: ignore[arg-type]
    return CaptionGenerator(language.model, language.tokenizer, decoding=decoding, batch_size=3)


def test_greedy_decoding_is_the_argmax_step_by_step(language: LanguageModel) -> None:
    """The caption is what taking the likeliest token at each step gives."""
    batch = language.tokenizer(_PROMPTS[1], return_tensors="pt")
    tokens = torch.zeros(1, 1, dtype=torch.long)
    with torch.inference_mode():
        for _ in range(6):
            logits = language.model(**batch, decoder_input_ids=tokens).logits
            tokens = torch.cat([tokens, logits[:, -1:].argmax(-1)], dim=1)
            if tokens[0, -1] == language.tokenizer.eos_token_id:
                break
    expected = language.tokenizer.decode(tokens[0], skip_special_tokens=True)
    assert _generator(language, num_beams=1).generate([_PROMPTS[1]]) == [" ".join(expected.split())]


@pytest.mark.parametrize("beams", [1, 4])
def test_batched_equals_single_in_the_order_given(language: LanguageModel, beams: int) -> None:
    """Padding and sorting by length change nothing."""
    generator = _generator(language, num_beams=beams)
    single = [generator.generate([prompt])[0] for prompt in _PROMPTS]
    assert generator.generate(_PROMPTS) == single
    assert len(set(single)) > 1


def test_sampling_is_seeded_and_leaves_the_global_state(language: LanguageModel) -> None:
    """The same call samples the same captions, other than greedy, and disturbs nobody else."""
    generator = _generator(language, num_beams=1, do_sample=True, temperature=2.0)
    torch.manual_seed(11)
    first = generator.generate(_PROMPTS)
    after = torch.rand(1)
    torch.manual_seed(11)
    assert torch.equal(torch.rand(1), after)
    assert generator.generate(_PROMPTS) == first
    assert first != _generator(language, num_beams=1).generate(_PROMPTS)


def test_nothing_to_do_is_nothing_done(language: LanguageModel) -> None:
    """No prompts, no captions."""
    assert _generator(language).generate([]) == []


def test_tokens_are_counted_with_the_end(language: LanguageModel) -> None:
    """The count is of what the model sees."""
    assert _generator(language).count_tokens("a dog runs") == 4
