"""The row human: references scored against one another."""

import pytest

from evaluation.human import HUMAN, images_with_others, score_references
from evaluation.scoring import score_methods
from igrag.metrics import bleu, score_captions
from igrag.metrics.cider import cider_d
from igrag.metrics.tokens import tokenize
from tests.evaluation.example_results import CAPTIONS, REFERENCES

MIXED = (
    ("a dog runs on the beach", "a dog is running", "the brown dog runs at the sea"),
    ("a red car",),
    ("two birds in a tree", "birds sit in the tree"),
)


def test_images_with_one_reference_are_left_out() -> None:
    """Only images with more than one reference have rows of statistics."""
    assert images_with_others(MIXED) == [0, 2]
    found = score_references(MIXED, skip=("meteor",))
    statistics = found.scores["rouge_l"].statistics
    assert statistics is not None and len(statistics) == 2


def test_every_image_and_every_reference_counts_the_same() -> None:
    """The score of a metric is the mean over an image's references, then over images."""
    found = score_references(MIXED, skip=("meteor",))
    means = []
    for texts in (MIXED[0], MIXED[2]):
        alone = [
            score_captions([text], [[*texts[:n], *texts[n + 1 :]]], skip=("meteor",))["rouge_l"]
            for n, text in enumerate(texts)
        ]
        means.append(sum(score or 0 for score in alone) / len(alone))
    assert found["rouge_l"] == pytest.approx(sum(means) / 2)


def test_order_of_references_has_no_influence() -> None:
    """Reversed references give the same scores."""
    turned = [texts[::-1] for texts in MIXED]
    assert score_references(turned, skip=("meteor",)).values == pytest.approx(
        score_references(MIXED, skip=("meteor",)).values
    )


def test_bleu_comes_from_all_rounds_together() -> None:
    """With as many references everywhere, BLEU is that of all rounds as one corpus."""
    found = score_references(REFERENCES, skip=("meteor",))
    captions = [text for texts in REFERENCES for text in texts]
    others = [[text] for texts in REFERENCES for text in texts[::-1]]
    # COCO's tiny summands of matches and counts count once, not once for each round.
    assert found["bleu2"] == pytest.approx(bleu(captions, others).bleu2, rel=1e-6)


def test_cider_weighs_ngrams_in_all_references() -> None:
    """The references that a caption is scored against are fewer, the documents are all."""
    tokens = [[tokenize(text) for text in texts] for texts in MIXED]
    scores = []
    for index in (0, 2):
        texts = tokens[index]
        rounds = [
            cider_d([text], [[*texts[:n], *texts[n + 1 :]]], documents=tokens)[0]
            for n, text in enumerate(texts)
        ]
        scores.append(sum(rounds) / len(rounds))
    assert score_references(MIXED, skip=("meteor",))["cider_d"] == pytest.approx(sum(scores) / 2)


def test_single_image_has_no_cider() -> None:
    """As for a method, CIDEr-D of a single image is not defined."""
    assert score_references(MIXED[:1], skip=("meteor",))["cider_d"] is None


def test_human_is_compared_on_the_same_images() -> None:
    """The other side of the paired test is scored on the images with several references alone."""
    references = [*REFERENCES, ("nothing like it",)]
    captions = {name: [*texts, "a wrong one"] for name, texts in CAPTIONS.items()}
    *_, human = score_methods(
        captions, references, baseline="base", seed=0, skip=("meteor",), over=("base",), human=True
    )
    assert human.name == HUMAN and human.indices == [0, 1, 2]
    assert human.captions == [texts[0] for texts in REFERENCES]
    base = score_captions(captions["base"][:3], REFERENCES, skip=("meteor",))["rouge_l"] or 0
    difference = (human.scores["rouge_l"] or 0) - base
    assert human.gains["rouge_l"].difference == pytest.approx(difference)
    assert human.over["base"] == human.gains and "bleu4" in human.intervals
