"""Diversity of a set of captions."""

from random import Random

import pytest

from igrag.metrics.bleu import bleu_statistics, corpus_bleu
from igrag.metrics.diversity import diversity, self_bleu4
from igrag.metrics.tokens import Tokens


def words(*captions: str) -> list[Tokens]:
    """Returns the words of captions."""
    return [caption.split() for caption in captions]


def test_figures_of_two_captions() -> None:
    """Distinct words and pairs are shares of all; the vocabulary and the length are numbers."""
    found = diversity(words("a dog sees a dog", "a cat"), training={"a cat", "a bus"})
    assert found.distinct_1 == pytest.approx(4 / 7)
    assert found.distinct_2 == pytest.approx(4 / 5)
    assert (found.vocabulary, found.mean_length, found.seen) == (4, 3.5, 0.5)


def test_copies_are_seen() -> None:
    """A method that copies training captions has a share of 1, one that repeats itself BLEU 1."""
    captions = words(*["a dog runs on the grass"] * 3)
    found = diversity(captions, training={"a dog runs on the grass"})
    assert found.seen == 1.0 and found.self_bleu4 == pytest.approx(1.0)
    assert diversity(captions).seen is None
    other = diversity(words("a dog runs on the grass", "two birds in some old tree"))
    assert other.self_bleu4 == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_self_bleu_equals_bleu_against_all_others(seed: int) -> None:
    """It is the project's BLEU-4 with all other captions as references."""
    random = Random(seed)
    captions = [random.choices("abcde", k=random.randint(0, 9)) for _ in range(12)]
    others = [[*captions[:index], *captions[index + 1 :]] for index in range(len(captions))]
    expected = corpus_bleu(bleu_statistics(captions, others).sum(axis=0))[-1]
    assert self_bleu4(captions) == pytest.approx(expected)


def test_single_and_empty_captions() -> None:
    """A single caption has no other one; empty captions have no words; none is an error."""
    assert diversity(words("a dog")).self_bleu4 is None
    empty = diversity([[], []], training=set())
    assert (empty.distinct_1, empty.distinct_2, empty.vocabulary, empty.seen) == (0, 0, 0, 0)
    with pytest.raises(ValueError, match="no captions"):
        diversity([])
