"""BLEU as COCO's caption evaluation computes it."""

import json
from dataclasses import astuple
from math import exp
from pathlib import Path

import numpy as np
import pytest

from igrag.metrics import bleu
from igrag.metrics.bleu import bleu_statistics, corpus_bleu
from igrag.metrics.tokens import tokenize_corpus

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text(encoding="utf-8"))["cases"]


def test_bleu_of_an_example_by_hand() -> None:
    """Matches are clipped, and the closest reference length gives the brevity penalty."""
    # Unigrams: the, cat (the second "the" is clipped: each reference has one) of 3 words.
    # Bigrams: "the cat" of 2. Lengths: 3 against the closest of 4 and 6.
    score = bleu(["the cat the"], [["the cat sits down", "a cat is on the mat"]])
    assert score.bleu1 == pytest.approx(exp(1 - 4 / 3) * 2 / 3, abs=1e-8)
    assert score.bleu2 == pytest.approx(exp(1 - 4 / 3) * (2 / 3 * 1 / 2) ** 0.5, abs=1e-8)


def test_captions_equal_to_a_reference_score_one() -> None:
    """Captions equal to one of their references score 1 at every order."""
    texts = ["A dog runs in a field.", "Two cats sleep on the bed."]
    score = bleu(texts, [["Something else.", texts[0]], [texts[1]]])
    assert astuple(score) == pytest.approx((1, 1, 1, 1), abs=1e-8)


def test_statistics_of_an_example_by_hand() -> None:
    """An image has matches, n-grams, length and closest reference length, also if it is empty."""
    hypotheses = [["the", "cat", "the"], []]
    references = [
        [["the", "cat", "sits", "down"], ["a", "cat", "is", "on", "the", "mat"]],
        [["a", "dog"], ["a"]],
    ]
    assert bleu_statistics(hypotheses, references).tolist() == [
        [2, 1, 0, 0, 3, 2, 1, 0, 3, 4],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    ]


@pytest.mark.parametrize("name", GOLDEN)
def test_bleu_equals_pycocoevalcap(name: str) -> None:
    """BLEU-1 to 4 of the corpus are pycocoevalcap's to 1e-9, in unusual cases too."""
    case = GOLDEN[name]
    score = bleu(case["hypotheses"], case["references"])
    assert astuple(score) == pytest.approx(case["corpus"][:4], abs=1e-9)


@pytest.mark.parametrize("name", GOLDEN)
def test_bleu_of_every_image_equals_pycocoevalcap(name: str) -> None:
    """BLEU of each image, from its statistics alone, is pycocoevalcap's."""
    case = GOLDEN[name]
    statistics = bleu_statistics(*tokenize_corpus(case["hypotheses"], case["references"]))
    expected = np.array(case["images"])[:, :4]
    assert corpus_bleu(statistics) == pytest.approx(expected, abs=1e-9)


def test_image_without_references_is_an_error() -> None:
    """An image without references is an error with its index."""
    with pytest.raises(ValueError, match=r"references\[1\]"):
        bleu(["a", "b"], [["a"], []])
