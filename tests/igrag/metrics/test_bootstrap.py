"""Intervals and paired tests by bootstrap over images."""

from math import sqrt
from random import Random

import numpy as np
import pytest

from igrag.metrics import (
    bleu,
    bootstrap_interval,
    corpus_bleu4,
    paired_bootstrap,
    score_images,
)
from igrag.metrics.bootstrap import Comparison, Interval


def captions(seed: int, count: int = 30) -> tuple[list[str], list[list[str]]]:
    """Makes captions of few words, some of them close to their one or two references."""
    random = Random(seed)
    references = [
        [" ".join(random.choices("abcd", k=8)) for _ in range(random.randint(1, 2))]
        for _ in range(count)
    ]
    return [texts[0][: random.randint(3, 15)] for texts in references], references


def test_interval_of_a_mean() -> None:
    """With many images it is the mean plus and minus 1.96 standard errors."""
    scores = np.random.default_rng(0).gamma(2.0, size=2000)
    found = bootstrap_interval(scores, resamples=4000)
    assert found.score == pytest.approx(scores.mean())
    error = 1.96 * scores.std() / sqrt(len(scores))
    assert found.low == pytest.approx(scores.mean() - error, abs=0.1 * error)
    assert found.high == pytest.approx(scores.mean() + error, abs=0.1 * error)


def test_interval_of_bleu() -> None:
    """It is what scoring the resampled captions one after the other gives."""
    hypotheses, references = captions(seed=0)
    statistics = score_images(hypotheses, references).bleu_statistics
    found = bootstrap_interval(statistics, corpus_score=corpus_bleu4, resamples=40, seed=7)
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
    """Four times the images halve it."""
    scores = np.tile([0.0, 1.0], 100)
    narrow, wide = (bootstrap_interval(values) for values in (np.tile(scores, 4), scores))
    ratio = (wide.high - wide.low) / (narrow.high - narrow.low)
    assert ratio == pytest.approx(2, rel=0.15)


def test_one_image_has_no_spread() -> None:
    """Nothing can be said of other images, and the interval is the score itself."""
    assert bootstrap_interval(np.array([0.5])) == Interval(0.5, 0.5, 0.5)


def test_equal_systems() -> None:
    """No difference, and the test says so."""
    scores = np.random.default_rng(0).random(50)
    assert paired_bootstrap(scores, scores) == Comparison(0, 0, 0, p_value=1)


def test_a_small_lead_on_every_image_is_real() -> None:
    """Pairing takes out how hard the images are, which the two intervals cannot."""
    first = np.random.default_rng(0).random(60)
    second = first + np.random.default_rng(1).uniform(0.0, 0.04, size=60)
    found = paired_bootstrap(first, second)
    assert found.difference == pytest.approx((second - first).mean())
    assert 0 < found.low < found.difference < found.high
    assert found.p_value == pytest.approx(2 / 1001)
    assert bootstrap_interval(second).low < bootstrap_interval(first).high


def test_the_other_way_round() -> None:
    """The first system's lead is a negative difference with the same p."""
    first, second = np.random.default_rng(3).random((2, 40))
    there, back = paired_bootstrap(first, second), paired_bootstrap(second, first)
    assert [back.difference, back.low, back.high] == pytest.approx(
        [-there.difference, -there.high, -there.low]
    )
    assert 0.002 < there.p_value == back.p_value < 1


def test_false_alarms_are_rare() -> None:
    """Between systems of equal worth p falls below 0.05 about one time in twenty."""
    generator = np.random.default_rng(0)
    tests = (
        paired_bootstrap(*generator.random((2, 50)), resamples=200, seed=seed)
        for seed in range(300)
    )
    assert 0.02 < np.mean([test.p_value < 0.05 for test in tests]) < 0.09


def test_paired_bleu() -> None:
    """BLEU-4 of both systems comes from the same resampled images."""
    hypotheses, references = captions(seed=1)
    worse = ["", "", *hypotheses[2:]]
    first, second = (
        score_images(texts, references).bleu_statistics for texts in (worse, hypotheses)
    )
    found = paired_bootstrap(first, second, corpus_score=corpus_bleu4)
    lead = bleu(hypotheses, references).bleu4 - bleu(worse, references).bleu4
    assert found.difference == pytest.approx(lead)
    # A resample without the two images (one in seven or so) has no lead at all.
    assert found.low == pytest.approx(0) and found.high > lead
    assert 0.1 < found.p_value < 0.4


def test_same_seed_same_result() -> None:
    """The figures of a report can be made again; another seed draws others."""
    scores = np.random.default_rng(0).random(50)
    assert bootstrap_interval(scores, seed=1) == bootstrap_interval(scores, seed=1)
    assert bootstrap_interval(scores, seed=1) != bootstrap_interval(scores, seed=2)


def test_what_cannot_be_resampled_is_refused() -> None:
    """No images, counts without their score, scores with one, and unequal systems."""
    with pytest.raises(ValueError, match="no images"):
        bootstrap_interval(np.empty(0))
    with pytest.raises(ValueError, match="shape"):
        bootstrap_interval(np.ones((3, 10)))
    with pytest.raises(ValueError, match="shape"):
        bootstrap_interval(np.ones(3), corpus_score=corpus_bleu4)
    with pytest.raises(ValueError, match="same images"):
        paired_bootstrap(np.ones(3), np.ones(4))
