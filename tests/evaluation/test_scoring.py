"""Scores, intervals and tests of several methods on the same images."""

from typing import Any

import pytest

from evaluation.scoring import headline_metrics, score_methods
from igrag.metrics import bootstrap_interval, registered_metrics, score_captions
from igrag.metrics.bleu import Bleu
from tests.evaluation.example_results import CAPTIONS, REFERENCES

SKIP: dict[str, Any] = {"skip": ("meteor",)}


def test_scores_are_those_of_the_metrics() -> None:
    """Each method has the scores of its captions; the baseline is compared with nothing."""
    base, prompt = score_methods(CAPTIONS, REFERENCES, baseline="base", seed=3, **SKIP)
    for method in (base, prompt):
        expected = score_captions(CAPTIONS[method.name], REFERENCES, **SKIP)
        assert method.scores.values == expected.values
        assert method.captions == CAPTIONS[method.name]
        assert [method.value(metric) for metric in headline_metrics([base, prompt])] == [
            expected["bleu4"], expected["cider_d"], expected["rouge_l"],
        ]  # fmt: skip
    assert base.gains == {}
    statistics = prompt.scores.scores["bleu4"].statistics
    assert statistics is not None
    interval = bootstrap_interval(statistics, Bleu(4).corpus_score, seed=3)
    assert prompt.intervals["bleu4"] == interval


@pytest.mark.parametrize("key", ["bleu4", "cider_d", "rouge_l"])
def test_gain_is_the_difference_to_the_baseline(key: str) -> None:
    """The gain is the signed difference of two scores, and reverses with the baseline."""
    base, prompt = score_methods(CAPTIONS, REFERENCES, baseline="base", seed=0, **SKIP)
    difference = (prompt.scores[key] or 0) - (base.scores[key] or 0)
    assert prompt.gains[key].difference == pytest.approx(difference)
    reverse, _ = score_methods(CAPTIONS, REFERENCES, baseline="prompt", seed=0, **SKIP)
    assert reverse.gains[key].difference == pytest.approx(-difference)


def test_single_image_has_no_interval() -> None:
    """A single image has neither intervals (of no width) nor gains, and CIDEr-D is undefined."""
    one = {name: texts[:1] for name, texts in CAPTIONS.items()}
    base, prompt = score_methods(one, REFERENCES[:1], baseline="base", seed=0, **SKIP)
    assert (base.intervals, prompt.intervals, prompt.gains) == ({}, {}, {})
    assert prompt.scores["cider_d"] is None
    assert prompt.scores["rouge_l"] == pytest.approx(1.0)


def test_empty_captions_are_misses() -> None:
    """A method with empty captions scores 0, and is compared all the same."""
    captions = {**CAPTIONS, "empty": ("", "", "")}
    method = score_methods(captions, REFERENCES, baseline="prompt", seed=0, **SKIP)[2]
    assert method.primary == pytest.approx(0.0, abs=1e-6)
    assert method.gains["rouge_l"].difference < 0


def test_same_seed_gives_the_same_interval() -> None:
    """The same seed gives the same interval, another seed another one."""
    first, again, other = (
        score_methods(CAPTIONS, REFERENCES, baseline="base", seed=seed, **SKIP)[1].gains["cider_d"]
        for seed in (0, 0, 1)
    )
    assert first == again and first != other


def test_primary_metric_comes_first() -> None:
    """BLEU-4 comes first, and metrics that were skipped are left out."""
    methods = score_methods(CAPTIONS, REFERENCES, baseline="base", seed=0, **SKIP)
    keys = [metric.key for metric in headline_metrics(methods)]
    assert keys == ["bleu4", "cider_d", "rouge_l"]
    assert "meteor" in {metric.key for metric in registered_metrics()}
