"""Prompts to captions."""

from pathlib import Path
from typing import Any

import pytest
import torch

from igrag.captioning.generator import CaptionGenerator, Decoding
from igrag.captioning.language_model import LanguageModel, load_language_model

PROMPTS = [
    "describe the image : a dog runs in the field near a tree",
    "a cat",
    "two horse in a green field",
    "a man rides a red bus on the street",
    "the",
]
GREEDY = Decoding(max_new_tokens=8, num_beams=1)
BEAMS = Decoding(max_new_tokens=8, num_beams=3, length_penalty=0.5, no_repeat_ngram_size=2)
SAMPLED = Decoding(max_new_tokens=8, num_beams=1, do_sample=True, temperature=1.5)


@pytest.fixture(scope="module")
def language(tiny_t5: Path) -> LanguageModel:
    """The tiny model, its outputs spread wide so that captions differ from prompt to prompt."""
    loaded = load_language_model(str(tiny_t5), device="cpu")
    head = torch.randn(loaded.model.lm_head.weight.shape, generator=torch.manual_seed(3))
    loaded.model.lm_head.weight.copy_(head)
    # Its encoder hardly tells prompts apart: let the decoder listen to it.
    model: Any = loaded.model
    for block in model.decoder.block:
        block.layer[1].EncDecAttention.o.weight.mul_(20)
    return loaded


def captions(
    language: LanguageModel, decoding: Decoding, prompts: list[str] = PROMPTS, **options: int
) -> list[str]:
    """Generate with a generator of its own."""
    generator = CaptionGenerator(language.model, language.tokenizer, decoding=decoding, **options)
    return generator.generate(prompts)


@pytest.mark.parametrize("decoding", [GREEDY, BEAMS])
def test_captions_equal_transformers_generate(language: LanguageModel, decoding: Decoding) -> None:
    """Each caption is what transformers' generate gives for the prompt alone."""
    options: dict[str, float] = {"max_new_tokens": 8, "num_beams": decoding.num_beams}
    if decoding is BEAMS:
        options |= {"length_penalty": 0.5, "no_repeat_ngram_size": 2}
    model: Any = language.model
    expected = []
    for prompt in PROMPTS:
        encoded = language.tokenizer(prompt, return_tensors="pt")
        tokens = model.generate(
            input_ids=encoded["input_ids"],
            attention_mask=encoded["attention_mask"],
            do_sample=False,
            **options,
        )
        expected.append(language.tokenizer.decode(tokens[0], skip_special_tokens=True))
    assert len(set(expected)) == len(PROMPTS)
    assert captions(language, decoding) == expected


@pytest.mark.parametrize("decoding", [GREEDY, BEAMS])
def test_batches_change_nothing_and_the_order_stays(
    language: LanguageModel, decoding: Decoding
) -> None:
    """Whatever the batch size, captions come in the order of the prompts and are the same."""
    alone = captions(language, decoding, batch_size=1)
    for size in (2, 8):
        assert captions(language, decoding, batch_size=size) == alone
    assert captions(language, decoding, PROMPTS[::-1], batch_size=2) == alone[::-1]
    assert captions(language, decoding, []) == []


def test_sampling_is_seeded_and_leaves_the_global_state(language: LanguageModel) -> None:
    """The same call samples the same, another seed otherwise; nobody else's numbers change."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    generator = CaptionGenerator(language.model, language.tokenizer, decoding=SAMPLED, seed=1)
    first = generator.generate(PROMPTS)
    assert torch.equal(torch.rand(3), expected)
    assert generator.generate(PROMPTS) == first
    assert captions(language, SAMPLED, seed=2) != first
    assert captions(language, GREEDY) != first


def test_sampling_is_not_cut_to_the_librarys_top_k(language: LanguageModel) -> None:
    """All tokens can be drawn, where the library would take the likeliest 50 silently."""
    assert SAMPLED.to_generation_config(language.model).top_k == 0


def test_generation_config_of_the_model_folder_is_ignored(language: LanguageModel) -> None:
    """The decoding options of a model's generation_config.json are not used."""
    expected = captions(language, GREEDY)
    language.model.generation_config.num_beams = 7
    language.model.generation_config.repetition_penalty = 9.0
    assert captions(language, GREEDY) == expected


def test_max_new_tokens_cuts(language: LanguageModel) -> None:
    """A caption has at most so many tokens."""
    longer = captions(language, Decoding(max_new_tokens=6, num_beams=1))
    shorter = captions(language, Decoding(max_new_tokens=2, num_beams=1))
    assert max(len(text.split()) for text in longer) > 2
    assert max(len(text.split()) for text in shorter) <= 2


def test_tokens_are_counted_as_the_model_reads_them(language: LanguageModel) -> None:
    """The end token counts."""
    assert CaptionGenerator(language.model, language.tokenizer).count_tokens("a dog runs") == 4
