"""Intervals and paired tests by bootstrap over images."""

from math import sqrt
from random import Random
from statistics import NormalDist

import numpy as np
import pytest

from igrag.metrics import Metric, bleu
from igrag.metrics.bleu import Bleu, bleu_statistics
from igrag.metrics.bootstrap import (
    Array,
    Comparison,
    Interval,
    bootstrap_interval,
    normal_quantile,
    paired_bootstrap,
    resample,
    student_quantile,
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
    """Draws and jackknife are those of scoring the captions drawn, and all captions but one."""
    hypotheses, references = captions(seed=0)
    count = len(hypotheses)

    def bleu4(rows: list[int]) -> float:
        return bleu([hypotheses[row] for row in rows], [references[row] for row in rows]).bleu4

    statistics = bleu_statistics(*tokenize_corpus(hypotheses, references))
    found = resample(statistics, BLEU4, resamples=40, seed=7)
    generator = np.random.default_rng(7)
    draws = [bleu4(generator.integers(count, size=count).tolist()) for _ in range(40)]
    assert found.draws.tolist() == pytest.approx(draws)
    without = [bleu4([other for other in range(count) if other != row]) for row in range(count)]
    assert found.jackknife.tolist() == pytest.approx(without)
    interval = bootstrap_interval(statistics, BLEU4)
    assert interval.score == found.score == pytest.approx(bleu(hypotheses, references).bleu4)
    assert 0 < interval.low < interval.score < interval.high < 1


# scipy.stats.bootstrap((values,), np.mean, method="BCa", n_resamples=1000,
# rng=np.random.default_rng(3)), scipy 1.17.1, and with a second list (paired=True) the ratio of
# the sums.
SKEWED = [0.1, 0.2, 0.2, 0.3, 0.5, 0.9, 1.4, 2.6, 4.8, 9.5]
OTHERS = [1.0, 3.0, 2.0, 1.5, 0.5, 2.5, 3.5, 4.0, 2.0, 6.0]
SCIPY_MEAN, SCIPY_RATIO = (0.79, 4.27984917919483), (0.3380849651426282, 1.3500487486579555)


def test_interval_equals_scipy_bca() -> None:
    """At normal quantiles it is scipy's BCa interval, of a mean and of a ratio of sums."""
    statistics = np.column_stack([SKEWED, OTHERS])
    mean = resample(statistics[:, :1], MEAN, resamples=1000, seed=3)
    assert mean.interval() == pytest.approx(SCIPY_MEAN)

    def ratio(sums: Array, count: int) -> Array:
        del count
        return sums[..., 0] / sums[..., 1]

    assert resample(statistics, ratio, resamples=1000, seed=3).interval() == pytest.approx(
        SCIPY_RATIO
    )


@pytest.mark.parametrize(("count", "student"), [(10, 2.3845), (30, 2.08019), (300, 1.97122)])
def test_quantiles_are_those_of_student(count: int, student: float) -> None:
    """Few images need wider intervals: t at N - 1 degrees, times sqrt(N / (N - 1))."""
    normal = NormalDist().inv_cdf(0.975)
    assert student_quantile(normal, count) == pytest.approx(
        student, rel=0.001 if count > 10 else 0.02
    )
    assert normal_quantile(student_quantile(normal, count), count) == pytest.approx(normal)


def test_interval_of_few_images_covers_more_than_percentiles() -> None:
    """Of skewed scores of 20 images the interval contains the mean more often than percentiles."""
    generator = np.random.default_rng(0)
    contained = np.zeros(2)
    for seed in range(200):
        scores = generator.gamma(2.0, size=(15, 1))
        found = resample(scores, MEAN, resamples=200, seed=seed)
        quantile = student_quantile(NormalDist().inv_cdf(0.975), len(scores))
        percentiles = np.quantile(found.draws, [0.025, 0.975])
        ends = np.array([found.interval(quantile), percentiles])  # [2, 2]
        contained += (ends[:, 0] <= 2) & (ends[:, 1] >= 2)
    assert contained[0] / 200 > 0.92 and contained[1] / 200 < 0.91


@pytest.mark.parametrize("seed", range(8))
def test_p_value_is_that_of_the_interval(seed: int) -> None:
    """The p-value is below 0.05 where the interval of the difference does not contain 0."""
    generator = np.random.default_rng(seed)
    first = generator.gamma(1.0, size=25)
    found = compare_means(first, first + generator.gamma(1.0, size=25) - 0.3 - 0.1 * seed)
    assert (found.p_value < 0.05) == (not found.low <= 0 <= found.high)


@pytest.mark.parametrize("count", [2, 3, 4, 50])
def test_one_image_that_differs_is_no_evidence(count: int) -> None:
    """Any number of images has finite ends; one odd image is not significant."""
    scores = np.zeros(count)
    scores[-1] = 1.0
    found = compare_means(np.zeros(count), scores)
    assert 0 <= found.low <= found.difference <= found.high <= 1
    assert found.p_value > 0.05


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
    assert 2 / 1001 <= found.p_value < 0.01
    assert mean_interval(second).low < mean_interval(first).high


def test_comparison_is_antisymmetric() -> None:
    """Exchanging the systems negates the difference and keeps p."""
    first, second = np.random.default_rng(3).random((2, 40))
    there, back = compare_means(first, second), compare_means(second, first)
    assert [back.difference, back.low, back.high] == pytest.approx(
        [-there.difference, -there.high, -there.low]
    )
    assert there.p_value == pytest.approx(back.p_value)
    assert 0.002 < there.p_value < 1


@pytest.mark.slow
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
