"""Scores of several methods on the same images, with bootstrap intervals and paired tests."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from igrag.metrics import (
    CaptionScores,
    Comparison,
    Interval,
    Metric,
    bootstrap_interval,
    paired_bootstrap,
    registered_metrics,
    score_captions,
)

PRIMARY_METRIC = "bleu4"  # selects the best method, and has its interval and test in the table


@dataclass(frozen=True, slots=True, eq=False)
class MethodScores:
    """The scores of one method.

    Attributes:
        name: The method.
        captions: Its captions, in the order of the images.
        scores: Their scores by all metrics.
        intervals: 95% intervals by the metric's key; none for a single image.
        gains: The difference to the baseline by the metric's key; none for the baseline itself
            and for a single image.
    """

    name: str
    captions: Sequence[str]
    scores: CaptionScores
    intervals: Mapping[str, Interval]
    gains: Mapping[str, Comparison]

    def value(self, metric: Metric) -> float | None:
        """Returns the score of all images together, None where there is none."""
        return self.scores.values.get(metric.key)

    @property
    def primary(self) -> float:
        """The score by the primary metric, BLEU-4."""
        value = self.scores[PRIMARY_METRIC]
        assert value is not None, PRIMARY_METRIC
        return value


def score_methods(
    captions: Mapping[str, Sequence[str]],
    references: Sequence[Sequence[str]],
    *,
    baseline: str,
    seed: int,
    skip: Collection[str] = (),
) -> list[MethodScores]:
    """Scores every method and compares each with the baseline.

    Args:
        captions: By method, in the order of the images; an empty one counts as a miss.
        references: The references of each image.
        baseline: The method that the others are compared with.
        seed: Seed of the bootstrap.
        skip: Keys of metrics to leave out.
    """
    scores = {
        name: score_captions(texts, references, skip=skip) for name, texts in captions.items()
    }
    return [
        MethodScores(
            name=name,
            captions=captions[name],
            scores=found,
            intervals=_intervals(found, seed),
            gains={} if name == baseline else compare(scores[baseline], found, seed=seed),
        )
        for name, found in scores.items()
    ]


def headline_metrics(methods: Sequence[MethodScores]) -> list[Metric]:
    """Returns the metrics of the table and the chart: those that were computed, BLEU-4 first."""
    found = [
        metric
        for metric in registered_metrics()
        if metric.headline and any(metric.key in method.scores.metrics for method in methods)
    ]
    return sorted(found, key=lambda metric: metric.key != PRIMARY_METRIC)


def image_metric(methods: Sequence[MethodScores]) -> Metric:
    """Returns the metric whose score of a single image is shown next to its captions."""
    return next(
        metric
        for metric in headline_metrics(methods)
        if metric.per_image and all(metric.key in _statistics(each.scores) for each in methods)
    )


def compare(baseline: CaptionScores, system: CaptionScores, *, seed: int) -> dict[str, Comparison]:
    """Tests the difference of a system to a baseline by the paired bootstrap, by metric."""
    before, after = _statistics(baseline), _statistics(system)
    return {
        key: paired_bootstrap(before[key], after[key], system.metrics[key].corpus_score, seed=seed)
        for key in _keys_with_interval(system)
        if key in before
    }


def _intervals(scores: CaptionScores, seed: int) -> dict[str, Interval]:
    statistics = _statistics(scores)
    return {
        key: bootstrap_interval(statistics[key], scores.metrics[key].corpus_score, seed=seed)
        for key in _keys_with_interval(scores)
    }


def _statistics(scores: CaptionScores) -> dict[str, NDArray[Any]]:
    """Returns the statistics [N, S] of the metrics that have some, by key."""
    found = {key: score.statistics for key, score in scores.scores.items()}
    return {key: statistics for key, statistics in found.items() if statistics is not None}


def _keys_with_interval(scores: CaptionScores) -> list[str]:
    # All resamples of a single image are equal: it has no interval, not a narrow one.
    return [
        key
        for key, statistics in _statistics(scores).items()
        if scores.metrics[key].headline and len(statistics) > 1
    ]
