"""How far a score may be trusted: intervals and paired tests by bootstrap over images.

The images are drawn again, with replacement, many times; the spread of the resampled scores
stands for the spread over other test sets (Koehn 2004, "Statistical significance tests for machine
translation evaluation"). Nothing is counted again: a resample's score comes from the sum of what
was counted once for each image.

    bootstrap_interval(scores.cider_d)
    bootstrap_interval(scores.bleu_statistics, corpus_score=corpus_bleu4)
    paired_bootstrap(
        base.bleu_statistics, tuned.bleu_statistics, corpus_score=corpus_bleu4
    )
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# Sums [..., K] over images -> scores [...].
CorpusScore = Callable[[Array], Array]

RESAMPLES = 1000
_TAILS = (0.025, 0.975)  # 95% lie between


@dataclass(frozen=True, slots=True)
class Interval:
    """A score with its 95% interval."""

    score: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """How much the second system scores above the first, with the 95% interval.

    `p_value` is two-sided: small where the sign of the difference hardly ever changes.
    """

    difference: float
    low: float
    high: float
    p_value: float


def bootstrap_interval(
    statistics: NDArray[Any],
    *,
    corpus_score: CorpusScore | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Computes a score and its 95% percentile interval over images.

    CIDEr-D's weights of n-grams stay those of the whole set in every resample.

    Args:
        statistics: [N] scores whose mean counts, or [N, K] counts for `corpus_score`.
        corpus_score: From sums [..., K] over images to scores; for `bleu_statistics` it is
            `corpus_bleu4`.
        resamples: How often the images are drawn again.
        seed: Of the draws; the same seed gives the same interval.

    Raises:
        ValueError: No images, or `corpus_score` missing for counts or given for scores.
    """
    rows, score = _prepare(statistics, corpus_score)
    draws = score(_resampled_sums(rows, resamples, seed))
    low, high = np.quantile(draws, _TAILS).tolist()
    return Interval(float(score(rows.sum(axis=0))), low, high)


def paired_bootstrap(
    first: NDArray[Any],
    second: NDArray[Any],
    *,
    corpus_score: CorpusScore | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Tests whether the second system's lead over the first holds on other images too.

    Both are drawn with the same images, so that a image hard for both says nothing. The p-value
    is twice Koehn's share of resamples in which the lead is gone; with the observed one counted
    among them it is never 0 (Davison and Hinkley 1997, 4.2.1).

    Args:
        first: [N] or [N, K] of one system, as for `bootstrap_interval`.
        second: The same of the other, for the same images in the same order.
        corpus_score: As for `bootstrap_interval`.
        resamples: How often the images are drawn again; p is at least 2 / (resamples + 1).
        seed: Of the draws.

    Raises:
        ValueError: As for `bootstrap_interval`, or the systems' shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"shapes {first.shape} and {second.shape}, expected the same images")
    before, score = _prepare(first, corpus_score)
    after, _ = _prepare(second, corpus_score)
    sums = _resampled_sums(np.hstack([before, after]), resamples, seed)
    width = before.shape[1]
    draws = score(sums[:, width:]) - score(sums[:, :width])
    low, high = np.quantile(draws, _TAILS).tolist()
    fewer = min((draws <= 0).sum(), (draws >= 0).sum())
    return Comparison(
        difference=float(score(after.sum(axis=0)) - score(before.sum(axis=0))),
        low=low,
        high=high,
        p_value=min(1.0, 2 * (int(fewer) + 1) / (resamples + 1)),
    )


def _prepare(
    statistics: NDArray[Any], corpus_score: CorpusScore | None
) -> tuple[Array, CorpusScore]:
    """Returns the statistics as [N, K], and what turns sums [..., K] into scores [...]."""
    count = len(statistics)
    if not count:
        raise ValueError("no images, expected one or more")
    if statistics.ndim != (1 if corpus_score is None else 2):
        raise ValueError(
            f"statistics of shape {statistics.shape}: expected [N] scores alone, or [N, K] counts "
            "with corpus_score"
        )
    rows = statistics.astype(np.float64).reshape(count, -1)
    return rows, corpus_score or (lambda sums: sums[..., 0] / count)


def _resampled_sums(rows: Array, resamples: int, seed: int) -> Array:
    """Returns the sums [R, K] over N rows [N, K] drawn with replacement, R times."""
    generator = np.random.default_rng(seed)
    count = len(rows)
    sums = np.empty((resamples, rows.shape[1]))
    for draw in sums:
        # How often each image is drawn, instead of a copy of its row as often.
        times = np.bincount(generator.integers(count, size=count), minlength=count)
        draw[:] = times @ rows
    return sums
