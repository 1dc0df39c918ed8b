"""What the decoder's cross-attention reads, by word and by source."""

import pytest
import torch

from igrag.captioning.generator import Decoding, prepare_decoding
from igrag.captioning.language_model import LanguageModel
from prompt_tuning.analysis.attention import WordAttention, attend, summed_attention
from prompt_tuning.analysis.attention_page import average
from tests.prompt_tuning.models import noise, tuner_of

TEXT = "generate a caption : a dog in the field . two birds"
SPANS = [(21, 39), (42, 51)]  # the two captions
LENGTH = 5


@pytest.fixture
def words(language: LanguageModel) -> list[WordAttention]:
    """The words of a caption of the tiny model."""
    tuner = tuner_of(language, noise(LENGTH, seed=1, scale=20.0))
    decoding = prepare_decoding(language.model, Decoding(max_new_tokens=4, num_beams=1))
    return attend(
        tuner, language.tokenizer, TEXT, SPANS, decoding=decoding, max_source_length=64
    )  # fmt: skip


def test_shares_of_a_word_add_up_to_one(words: list[WordAttention]) -> None:
    """Soft tokens, captions and the rest are all that the decoder can read."""
    assert [TEXT[start:end] for start, end in SPANS] == ["a dog in the field", "two birds"]
    assert len(words) >= 1
    for word in words:
        assert len(word.soft_tokens) == LENGTH and len(word.captions) == len(SPANS)
        shares = [*word.soft_tokens, *word.captions, word.rest]
        assert sum(shares) == pytest.approx(1, abs=1e-5) and min(shares) >= 0


@torch.no_grad()
def test_shares_are_those_of_the_sources(
    language: LanguageModel, words: list[WordAttention]
) -> None:
    """A caption has the attention of its tokens, a soft token that of its position."""
    tuner = tuner_of(language, noise(LENGTH, seed=1, scale=20.0))
    batch = language.tokenizer([TEXT], return_tensors="pt")
    start = torch.zeros(1, 1, dtype=torch.long)
    inputs = batch["input_ids"], batch["attention_mask"]
    output = tuner(*inputs, decoder_input_ids=start, output_attentions=True)
    # Layers and heads summed: the attention with which the first word was chosen.
    weights = sum(layer[0, :, 0].sum(dim=0) for layer in output.cross_attentions)
    weights = weights / weights.sum()
    assert torch.allclose(torch.tensor(words[0].soft_tokens), weights[:LENGTH], atol=1e-5)
    # A word is a token: 4 words, 5 of the first caption, the full stop, 2 words, the end.
    first, second = weights[LENGTH + 4 : LENGTH + 9].sum(), weights[LENGTH + 10 : LENGTH + 12].sum()
    assert words[0].captions == pytest.approx((float(first), float(second)), abs=1e-5)


def test_attention_is_summed_over_heads_and_layers() -> None:
    """Rows are divided by their own sum."""
    layers = [torch.rand(1, 3, 2, 4), torch.rand(1, 3, 2, 4)]
    found = summed_attention(layers)
    expected = (layers[0] + layers[1]).sum(dim=(0, 1))
    assert torch.allclose(found, expected / expected.sum(dim=1, keepdim=True))


def test_average_of_words() -> None:
    """The last row of the page is the mean of the others; an empty caption has none."""
    words = [
        WordAttention("a", (0.2, 0.4), (0.3,), 0.1),
        WordAttention("b", (0.4, 0.0), (0.5,), 0.1),
    ]
    found = average(words)
    assert found is not None and found.soft_tokens == pytest.approx((0.3, 0.2))
    assert (found.captions, found.rest) == ((0.4,), 0.1)
    assert average([]) is None
