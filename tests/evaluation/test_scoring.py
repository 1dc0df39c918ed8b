"""Scores, intervals and tests of several methods on the same images."""

import pytest

from evaluation.results import score_outcome
from evaluation.scoring import BLEU4, CIDER_D, METRICS, ROUGE_L, score_methods
from igrag.metrics import bootstrap_interval, corpus_bleu4, score_captions
from tests.evaluation.outcomes import CAPTIONS, REFERENCES, split_of


def test_scores_are_those_of_the_metrics() -> None:
    """Nothing is computed again here; the reference comes first and is compared with nothing."""
    base, prompt = score_methods(CAPTIONS, REFERENCES, reference="base", seed=3)
    for score in (base, prompt):
        expected = score_captions(CAPTIONS[score.name], REFERENCES)
        assert score.corpus == expected and score.captions == CAPTIONS[score.name]
        assert [score.value(metric) for metric in METRICS] == [
            expected.bleu4, expected.cider_d, expected.rouge_l,
        ]  # fmt: skip
    assert base.gains == {}
    interval = bootstrap_interval(prompt.images.bleu_statistics, corpus_score=corpus_bleu4, seed=3)
    assert prompt.intervals["bleu4"] == interval


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.key)
def test_gains_are_over_the_reference(metric: object) -> None:
    """The difference of the two scores, with its sign; turned round it is the other one's."""
    assert metric in (BLEU4, CIDER_D, ROUGE_L)
    key = metric.key  # type: ignore[attr-defined]
    base, prompt = score_methods(CAPTIONS, REFERENCES, reference="base", seed=0)
    difference = getattr(prompt.corpus, key) - getattr(base.corpus, key)
    assert prompt.gains[key].difference == pytest.approx(difference)
    turned, _ = score_methods(CAPTIONS, REFERENCES, reference="prompt", seed=0)
    assert turned.gains[key].difference == pytest.approx(-difference)


def test_a_single_image_has_no_interval() -> None:
    """It would be of no width at all; CIDEr-D is not defined."""
    one = {name: texts[:1] for name, texts in CAPTIONS.items()}
    base, prompt = score_methods(one, REFERENCES[:1], reference="base", seed=0)
    assert (base.intervals, prompt.intervals, prompt.gains) == ({}, {}, {})
    assert prompt.value(CIDER_D) is None and prompt.value(ROUGE_L) == pytest.approx(1.0)


def test_empty_captions_are_misses() -> None:
    """A method that says nothing scores nothing, and is compared all the same."""
    silent = {**CAPTIONS, "silent": ("", "", "")}
    score = score_methods(silent, REFERENCES, reference="prompt", seed=0)[2]
    assert score.value(BLEU4) == pytest.approx(0.0, abs=1e-6)
    assert score.gains["rouge_l"].difference < 0


def test_the_seed_decides_the_draws() -> None:
    """The same seed gives the same interval, another one another."""
    first, again, other = (
        score_methods(CAPTIONS, REFERENCES, reference="base", seed=seed)[1].gains["cider_d"]
        for seed in (0, 0, 1)
    )
    assert first == again and first != other
    outcome = score_outcome(split_of(), CAPTIONS, reference="base", seed=1, identity={})
    assert outcome.scores[1].gains["cider_d"] == other and outcome.seed == 1
