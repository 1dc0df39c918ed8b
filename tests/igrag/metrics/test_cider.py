"""CIDEr-D as COCO's caption evaluation computes it."""

import json
from math import exp
from pathlib import Path

import numpy as np
import pytest

from igrag.metrics.cider import CiderD, cider_d
from igrag.metrics.registry import TokenizedCorpus
from igrag.metrics.tokens import tokenize_corpus

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text(encoding="utf-8"))["cases"]
CAT = ["a", "cat"]
DOG = ["a", "dog"]


def test_cider_d_of_an_example_by_hand() -> None:
    """Words of all images weigh nothing; each order counts a quarter, and 10 is the maximum."""
    # Of "a dog" only "dog" and "a dog" weigh: cosine 1 in two orders of four. The second image's
    # caption shares nothing with its reference but "a", which both images have.
    assert cider_d([DOG, ["a", "bus"]], [[DOG], [CAT]]) == pytest.approx([5, 0])


def test_repeated_rare_word_is_clipped() -> None:
    """The weight is clipped to the reference's, and another length is penalized."""
    scores = cider_d([["dog", "dog"], ["cat"]], [[["dog"]], [["cat"]]])
    # Order 1: the clipped product over the norms is 1 / 2; one word more than the reference.
    assert scores == pytest.approx([10 / 4 / 2 * exp(-1 / 72), 10 / 4])


def test_references_are_averaged() -> None:
    """A second reference that has nothing in common halves the score."""
    alone = cider_d([DOG, CAT], [[DOG], [CAT]])
    both = cider_d([DOG, CAT], [[DOG, ["two", "boats"]], [CAT]])
    assert both == pytest.approx(alone * [0.5, 1])


def test_single_image_has_no_score() -> None:
    """CIDEr-D of a single image, all of whose weights are 0, is not defined."""
    assert cider_d([DOG], [[DOG]]).tolist() == [0]
    assert CiderD().compute(TokenizedCorpus([DOG], [[DOG]])).value is None


def test_empty_caption_scores_zero() -> None:
    """An empty caption scores 0, against an empty reference too; the others keep their scores."""
    assert cider_d([[], CAT, []], [[DOG], [CAT], [[]]]) == pytest.approx([0, 5, 0], abs=1e-12)


@pytest.mark.parametrize("name", GOLDEN)
def test_cider_d_equals_pycocoevalcap(name: str) -> None:
    """Every image's score is pycocoevalcap's."""
    case = GOLDEN[name]
    scores = cider_d(*tokenize_corpus(case["hypotheses"], case["references"]))
    assert scores == pytest.approx(np.array(case["images"])[:, 5], abs=1e-9)


def test_rare_ngrams_are_counted_in_the_documents() -> None:
    """Weights come from the documents, so that fewer references leave them as they are."""
    references = [[["a", "dog"], ["one", "dog"]], [["a", "cat"], ["my", "cat"]]]
    fewer = [texts[1:] for texts in references]
    hypotheses = [["one", "dog"], ["the", "cat"]]
    alone = cider_d(hypotheses, fewer)
    assert cider_d(hypotheses, fewer, documents=fewer).tolist() == alone.tolist()
    # "a" is in both images' references: with them counted it weighs nothing.
    hypotheses = [["a", "dog"], ["a", "cat"]]
    lower = cider_d(hypotheses, fewer)
    assert (cider_d(hypotheses, fewer, documents=references) > lower).all()
