"""Confidence intervals and paired tests of scores by bootstrap over images.

The images are resampled with replacement many times; the spread of the resampled scores stands for
the spread over other test sets (Koehn 2004, "Statistical significance tests for machine
translation evaluation"). A resample's score comes from the sum of the statistics of its images,
which are computed once.

    metric = Bleu(4)
    statistics = metric.compute(corpus).statistics  # [N, S]
    bootstrap_interval(statistics, metric.corpus_score)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# Sums [..., S] of statistics, and over how many images they are -> scores [...].
CorpusScore = Callable[[Array, int], Array]

RESAMPLES = 1000
_TAILS = (0.025, 0.975)  # 95% lie between


@dataclass(frozen=True, slots=True)
class Interval:
    """A score with its 95% confidence interval."""

    score: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Difference between a system's score and a baseline's, with its 95% confidence interval.

    `p_value` is two-sided: small where the sign of the difference hardly ever changes.
    """

    difference: float
    low: float
    high: float
    p_value: float


def bootstrap_interval(
    statistics: NDArray[Any],
    corpus_score: CorpusScore,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Computes a score and its 95% percentile interval over images.

    Args:
        statistics: [N, S] statistics of a metric, see `MetricScore`.
        corpus_score: The metric's `corpus_score`.
        resamples: Number of resamples.
        seed: Seed of the resampling.

    Raises:
        ValueError: No images.
    """
    count = _count(statistics)
    draws = corpus_score(_resampled_sums(statistics, resamples, seed), count)
    low, high = np.quantile(draws, _TAILS).tolist()
    score = corpus_score(statistics.astype(np.float64).sum(axis=0), count)
    return Interval(float(score), low, high)


def paired_bootstrap(
    baseline: NDArray[Any],
    system: NDArray[Any],
    corpus_score: CorpusScore,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Tests whether the difference between two systems would hold on other images.

    Both are resampled with the same images, so an image that is hard for both has no influence.
    The p-value is twice Koehn's share of resamples without the difference; with the observed
    one counted among them it is never 0 (Davison and Hinkley 1997, 4.2.1).

    Args:
        baseline: [N, S] statistics of the first system.
        system: The same of the second, for the same images in the same order.
        corpus_score: The metric's `corpus_score`.
        resamples: Number of resamples; p is at least 2 / (resamples + 1).
        seed: Seed of the resampling.

    Raises:
        ValueError: No images, or the shapes differ.
    """
    if baseline.shape != system.shape:
        raise ValueError(f"shapes {baseline.shape} and {system.shape}, expected the same images")
    count, width = _count(baseline), baseline.shape[1]
    sums = _resampled_sums(np.hstack([baseline, system]), resamples, seed)  # [R, 2 S]
    draws = corpus_score(sums[:, width:], count) - corpus_score(sums[:, :width], count)
    low, high = np.quantile(draws, _TAILS).tolist()
    fewer = min((draws <= 0).sum(), (draws >= 0).sum())
    before, after = (
        corpus_score(statistics.astype(np.float64).sum(axis=0), count)
        for statistics in (baseline, system)
    )
    return Comparison(
        difference=float(after - before),
        low=low,
        high=high,
        p_value=min(1.0, 2 * (int(fewer) + 1) / (resamples + 1)),
    )


def _count(statistics: NDArray[Any]) -> int:
    if not len(statistics):
        raise ValueError("no images, expected one or more")
    return len(statistics)


def _resampled_sums(statistics: NDArray[Any], resamples: int, seed: int) -> Array:
    """Returns the sums [R, S] over N images drawn with replacement from [N, S], R times."""
    generator = np.random.default_rng(seed)
    values = statistics.astype(np.float64)
    count = len(values)
    sums = np.empty((resamples, values.shape[1]))
    for draw in sums:
        # Counting how often each image is drawn is cheaper than gathering N rows.
        times = np.bincount(generator.integers(count, size=count), minlength=count)
        draw[:] = times @ values
    return sums
