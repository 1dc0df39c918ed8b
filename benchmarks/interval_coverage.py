#!/usr/bin/env python
"""Measures how often 95% intervals contain the true score, at 30 and at 300 images.

    python benchmarks/interval_coverage.py --quick
    python benchmarks/interval_coverage.py --output coverage.json

Makes many captions with 5 references each from a COCO captions file, by default that of the demo's
training images. Their score as a whole is the true one. Test sets drawn from them have the
intervals of four methods, all from the same 1,000 resamples:

- percentile: the quantiles of the resampled scores;
- BCa: bias-corrected and accelerated, at normal quantiles;
- studentized: quantiles of the resampled scores' distance in standard errors (bootstrap-t);
- igrag.metrics: the project's `bootstrap_interval`, BCa at Student's quantiles.

CIDEr-D weighs words by the test set's own references, so its true score is the mean over the sets.
"difference" is that of BLEU-4 to captions without their first word, resampled in pairs. With
--output a run that was interrupted is resumed, and more --sets are added to those of before.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.score_captions import CAPTIONS, make_captions
from igrag.config import portable
from igrag.files import write_json
from igrag.metrics import Metric, bootstrap_interval, paired_bootstrap
from igrag.metrics.bleu import Bleu, bleu_statistics
from igrag.metrics.bootstrap import RESAMPLES, CorpusScore, resample, resampled_sums
from igrag.metrics.cider import cider_d
from igrag.metrics.tokens import Tokens, tokenize_corpus

IMAGES = (30, 300)
_SAVED = 50  # sets: the file is written after so many
METHODS = ("percentile", "BCa", "studentized", "igrag.metrics")
_TAILS = (0.025, 0.975)

Array = NDArray[np.float64]
# Of a test set: its score, and the two ends of the interval of each method.
Ends = list[float]


def main() -> int:
    """Draws the test sets, and prints how many of their intervals contain the true score."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--captions", type=Path, default=CAPTIONS, help="COCO captions file")
    parser.add_argument("--pool", type=int, default=5_000, help="captions to draw from")
    parser.add_argument("--sets", type=int, default=2_000, help="test sets of each size")
    parser.add_argument("--quick", action="store_true", help="200 sets of each size")
    parser.add_argument("--output", type=Path, help="JSON file of the sets that are done")
    arguments = parser.parse_args()
    sets = 200 if arguments.quick else arguments.sets

    hypotheses, references = make_captions(arguments.captions, arguments.pool, seed=0)
    pool = Pool(*tokenize_corpus(hypotheses, references))
    done = Done(arguments.output)
    source = f"{arguments.pool:,} captions made from {portable(arguments.captions)}"
    print(f"{sets} sets drawn from {source}")
    print("\n| score | images | method | contained | too high | too low | median width |")
    print("|---|---:|---|---:|---:|---:|---:|")
    for images in IMAGES:
        for name in pool.scores:
            key = f"{name}, {images} of {source}"
            rows = done.extended(key, pool.test_sets(name, images), sets)
            truth = pool.truth.get(name, float(rows[:, 0].mean()))
            for method, ends in zip(METHODS, rows[:, 1:].reshape(sets, -1, 2).swapaxes(0, 1),
                                    strict=True):  # fmt: skip
                print(f"| {name} | {images} | {method} | {_coverage(ends, truth)} |", flush=True)
    return 0


class Pool:
    """Captions to draw test sets from.

    Args:
        hypotheses: The tokens of the captions.
        references: Those of the references of each.
    """

    def __init__(self, hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]):
        self._hypotheses, self._references = hypotheses, references
        self._bleu = bleu_statistics(hypotheses, references)  # [N, S]
        self._shortened = bleu_statistics([words[1:] for words in hypotheses], references)
        score = Bleu(4).corpus_score
        total, shortened = (
            float(score(each.sum(axis=0), len(each))) for each in (self._bleu, self._shortened)
        )
        self.truth = {"BLEU-4": total, "difference": total - shortened}
        self.scores: dict[str, Callable[[NDArray[np.int64], int], Ends]] = {
            "BLEU-4": self._bleu_ends,
            "CIDEr-D": self._cider_ends,
            "difference": self._difference_ends,
        }

    def test_sets(self, name: str, images: int) -> Callable[[int], Ends]:
        """Returns the function that draws test set number n and computes the intervals there."""

        def test_set(index: int) -> Ends:
            # A generator of its own: more sets leave the first ones as they are.
            generator = np.random.default_rng((images, index))
            rows = generator.integers(len(self._hypotheses), size=images)
            return self.scores[name](rows, index)

        return test_set

    def _bleu_ends(self, rows: NDArray[np.int64], seed: int) -> Ends:
        score = Bleu(4).corpus_score
        found = bootstrap_interval(self._bleu[rows], score, seed=seed)
        others = other_intervals(self._bleu[rows], score, seed)
        return [found.score, *others, found.low, found.high]

    def _cider_ends(self, rows: NDArray[np.int64], seed: int) -> Ends:
        scores = cider_d([self._hypotheses[row] for row in rows],
                         [self._references[row] for row in rows])  # fmt: skip
        values, score = scores[:, np.newaxis], Metric().corpus_score
        found = bootstrap_interval(values, score, seed=seed)
        return [found.score, *other_intervals(values, score, seed), found.low, found.high]

    def _difference_ends(self, rows: NDArray[np.int64], seed: int) -> Ends:
        score, width = Bleu(4).corpus_score, self._bleu.shape[1]
        first, second = self._shortened[rows], self._bleu[rows]

        def difference(sums: Array, images: int) -> Array:
            return score(sums[..., width:], images) - score(sums[..., :width], images)

        found = paired_bootstrap(first, second, score, seed=seed)
        others = other_intervals(np.hstack([first, second]), difference, seed)
        return [found.difference, *others, found.low, found.high]


class Done:
    """The intervals of the test sets that are done, in a file or only in memory."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._rows: dict[str, list[Ends]] = {}
        if path is not None and path.exists():
            self._rows = json.loads(path.read_text(encoding="utf-8"))

    def extended(self, key: str, test_set: Callable[[int], Ends], sets: int) -> Array:
        """Returns the scores and intervals [sets, 1 + 2 M] of the first test sets."""
        rows = self._rows.setdefault(key, [])
        for index in range(len(rows), sets):
            rows.append(test_set(index))
            if len(rows) % _SAVED == 0 or len(rows) == sets:
                self._write()
        return np.array(rows[:sets])

    def _write(self) -> None:
        if self._path is not None:
            write_json(self._path, self._rows)


def other_intervals(statistics: NDArray[Any], score: CorpusScore, seed: int) -> Ends:
    """Returns low and high of the percentile, the BCa and the studentized interval."""
    found = resample(statistics, score, resamples=RESAMPLES, seed=seed)
    percentile = np.quantile(found.draws, _TAILS).tolist()
    return [*percentile, *found.interval(), *_studentized(statistics.astype(float), score, seed)]


def _studentized(values: Array, score: CorpusScore, seed: int) -> tuple[float, float]:
    """Returns the bootstrap-t interval with the delta method's standard errors."""
    count, width = values.shape
    products = (values[:, :, np.newaxis] * values[:, np.newaxis]).reshape(count, -1)
    both = np.hstack([values, products])
    sums = np.vstack([both.sum(axis=0), resampled_sums(both, RESAMPLES, seed)])  # [1 + R, ...]
    totals, squares = sums[:, :width], sums[:, width:].reshape(-1, width, width)
    scores = score(totals, count)
    slopes = np.empty_like(totals)
    for column in range(width):
        step = np.maximum(totals[:, column], 1) * 1e-5
        moved = totals.copy()
        moved[:, column] += step
        slopes[:, column] = (score(moved, count) - scores) / step
    covariance = squares - totals[:, :, np.newaxis] * totals[:, np.newaxis] / count
    variances = np.einsum("ri,rij,rj->r", slopes, covariance, slopes)
    errors = np.sqrt(np.maximum(variances, 1e-18))
    high, low = np.quantile((scores[1:] - scores[0]) / errors[1:], _TAILS).tolist()
    return float(scores[0] - low * errors[0]), float(scores[0] - high * errors[0])


def _coverage(ends: Array, truth: float) -> str:
    """Returns the shares of intervals [sets, 2] that contain and miss it, and the median width."""
    low, high = ends.T
    above, below = (low > truth).mean(), (high < truth).mean()
    return f"{1 - above - below:.1%} | {above:.1%} | {below:.1%} | {np.median(high - low):.3f}"


if __name__ == "__main__":
    sys.exit(main())
