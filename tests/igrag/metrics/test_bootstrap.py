"""Intervals and paired tests by bootstrap over images."""

from math import sqrt
from random import Random

import numpy as np
import pytest

from igrag.metrics import Metric, bleu
from igrag.metrics.bleu import Bleu, bleu_statistics
from igrag.metrics.bootstrap import (
    Array,
    Comparison,
    Interval,
    bootstrap_interval,
    paired_bootstrap,
)
from igrag.metrics.tokens import tokenize_corpus

MEAN, BLEU4 = Metric().corpus_score, Bleu(4).corpus_score


def mean_interval(scores: Array, **options: int) -> Interval:
    """Returns the interval of the mean of scores [N]."""
    return bootstrap_interval(scores[:, np.newaxis], MEAN, **options)


def compare_means(baseline: Array, system: Array, **options: int) -> Comparison:
    """Compares the means of two systems' scores [N]."""
    return paired_bootstrap(baseline[:, np.newaxis], system[:, np.newaxis], MEAN, **options)


def captions(seed: int, count: int = 30) -> tuple[list[str], list[list[str]]]:
    """Makes captions of few words, some of them close to their one or two references."""
    random = Random(seed)
    references = [
        [" ".join(random.choices("abcd", k=8)) for _ in range(random.randint(1, 2))]
        for _ in range(count)
    ]
    return [texts[0][: random.randint(3, 15)] for texts in references], references


def test_interval_of_a_mean_is_196_standard_errors() -> None:
    """With many images the interval is the mean plus and minus 1.96 standard errors."""
    scores = np.random.default_rng(0).gamma(2.0, size=2000)
    found = mean_interval(scores, resamples=4000)
    assert found.score == pytest.approx(scores.mean())
    error = 1.96 * scores.std() / sqrt(len(scores))
    assert found.low == pytest.approx(scores.mean() - error, abs=0.1 * error)
    assert found.high == pytest.approx(scores.mean() + error, abs=0.1 * error)


def test_interval_of_bleu_equals_scoring_resamples() -> None:
    """The interval is that of scoring the resampled captions themselves."""
    hypotheses, references = captions(seed=0)
    statistics = bleu_statistics(*tokenize_corpus(hypotheses, references))
    found = bootstrap_interval(statistics, BLEU4, resamples=40, seed=7)
    generator = np.random.default_rng(7)
    draws = []
    for _ in range(40):
        rows = generator.integers(len(hypotheses), size=len(hypotheses))
        score = bleu([hypotheses[row] for row in rows], [references[row] for row in rows])
        draws.append(score.bleu4)
    assert found.score == pytest.approx(bleu(hypotheses, references).bleu4)
    assert [found.low, found.high] == pytest.approx(np.quantile(draws, [0.025, 0.975]).tolist())
    assert 0 < found.low < found.score < found.high < 1


def test_interval_shrinks_with_more_images() -> None:
    """Four times the images halve the interval."""
    scores = np.tile([0.0, 1.0], 100)
    narrow, wide = (mean_interval(values) for values in (np.tile(scores, 4), scores))
    ratio = (wide.high - wide.low) / (narrow.high - narrow.low)
    assert ratio == pytest.approx(2, rel=0.15)


def test_interval_of_one_image_has_no_width() -> None:
    """The interval of a single image is its score."""
    assert mean_interval(np.array([0.5])) == Interval(0.5, 0.5, 0.5)


def test_equal_systems_have_no_difference() -> None:
    """Equal systems have a difference of 0 and a p-value of 1."""
    scores = np.random.default_rng(0).random(50)
    assert compare_means(scores, scores) == Comparison(0, 0, 0, p_value=1)


def test_small_lead_on_every_image_is_significant() -> None:
    """The paired test removes the difficulty of the images, which two intervals do not."""
    first = np.random.default_rng(0).random(60)
    second = first + np.random.default_rng(1).uniform(0.0, 0.04, size=60)
    found = compare_means(first, second)
    assert found.difference == pytest.approx((second - first).mean())
    assert 0 < found.low < found.difference < found.high
    assert found.p_value == pytest.approx(2 / 1001)
    assert mean_interval(second).low < mean_interval(first).high


def test_comparison_is_antisymmetric() -> None:
    """Exchanging the systems negates the difference and keeps p."""
    first, second = np.random.default_rng(3).random((2, 40))
    there, back = compare_means(first, second), compare_means(second, first)
    assert [back.difference, back.low, back.high] == pytest.approx(
        [-there.difference, -there.high, -there.low]
    )
    assert 0.002 < there.p_value == back.p_value < 1


def test_false_positives_are_rare() -> None:
    """Of equally good systems about one pair in twenty has p below 0.05."""
    generator = np.random.default_rng(0)
    tests = (
        compare_means(*generator.random((2, 50)), resamples=200, seed=seed) for seed in range(300)
    )
    assert 0.02 < np.mean([test.p_value < 0.05 for test in tests]) < 0.09


def test_paired_bootstrap_of_bleu() -> None:
    """BLEU-4 of both systems comes from the same resampled images."""
    hypotheses, references = captions(seed=1)
    worse = ["", "", *hypotheses[2:]]
    first, second = (
        bleu_statistics(*tokenize_corpus(texts, references)) for texts in (worse, hypotheses)
    )
    found = paired_bootstrap(first, second, BLEU4)
    lead = bleu(hypotheses, references).bleu4 - bleu(worse, references).bleu4
    assert found.difference == lead  # bit for bit
    # A resample without the two images (one in seven or so) has no lead at all.
    assert found.low == pytest.approx(0) and found.high > lead
    assert 0.1 < found.p_value < 0.4


def test_same_seed_gives_the_same_interval() -> None:
    """The same seed gives the same interval, another seed another one."""
    scores = np.random.default_rng(0).random(50)
    assert mean_interval(scores, seed=1) == mean_interval(scores, seed=1)
    assert mean_interval(scores, seed=1) != mean_interval(scores, seed=2)


def test_no_images_or_different_images_are_an_error() -> None:
    """Resampling needs an image, and a comparison the same images."""
    with pytest.raises(ValueError, match="no images"):
        mean_interval(np.empty(0))
    with pytest.raises(ValueError, match="same images"):
        compare_means(np.ones(3), np.ones(4))
