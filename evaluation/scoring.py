"""Scores of several methods on the same images, with bootstrap intervals and paired tests."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from evaluation.human import HUMAN, images_with_others, score_references
from igrag.metrics import (
    CaptionScores,
    Comparison,
    Interval,
    Metric,
    MetricScore,
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
        captions: Its captions, in the order of the images; of `human` the first reference.
        scores: Their scores by all metrics.
        intervals: 95% intervals by the metric's key; none for a single image.
        gains: The difference to the baseline by the metric's key; none for the baseline itself
            and for a single image.
        over: The same differences to other methods, by their names.
        indices: The indices of the images that it has captions of; None for all.
    """

    name: str
    captions: Sequence[str]
    scores: CaptionScores
    intervals: Mapping[str, Interval]
    gains: Mapping[str, Comparison]
    over: Mapping[str, Mapping[str, Comparison]] = field(default_factory=dict)
    indices: Sequence[int] | None = None

    def value(self, metric: Metric) -> float | None:
        """Returns the score of all images together, None where there is none."""
        return self.scores.values.get(metric.key)

    @property
    def image_indices(self) -> Sequence[int]:
        """The indices of the images that it has captions of."""
        return range(len(self.captions)) if self.indices is None else self.indices

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
    extra: Sequence[Metric] = (),
    over: Collection[str] = (),
    human: bool = False,
    tokenizer: str | None = None,
) -> list[MethodScores]:
    """Scores every method and compares each with the baseline, and with some others.

    Args:
        captions: By method, in the order of the images; an empty one counts as a miss.
        references: The references of each image.
        baseline: The method that the others are compared with.
        seed: Seed of the bootstrap.
        skip: Keys of metrics to leave out.
        extra: Metrics of these images alone, see `score_captions`.
        over: Further methods that every one is compared with.
        human: Add the references themselves as the last method, see `evaluation.human`.
        tokenizer: See `tokenize_corpus`.
    """
    scores = {
        name: score_captions(texts, references, skip=skip, extra=extra, tokenizer=tokenizer)
        for name, texts in captions.items()
    }
    scored = dict(captions)
    indices = images_with_others(references) if human else []
    if indices:
        scored[HUMAN] = [references[index][0] for index in indices]
        scores[HUMAN] = score_references(references, skip=skip, extra=extra, tokenizer=tokenizer)
    baselines = {name: scores[name] for name in (baseline, *over)}
    found = []
    for name in scores:
        own = indices if name == HUMAN and indices else None
        method = MethodScores(
            name, scored[name], scores[name], _intervals(scores[name], seed), gains={}, indices=own
        )
        compared = _compared(method, baselines, seed)
        gains = {other: each for other, each in compared.items() if other in over}
        found.append(replace(method, gains=compared.get(baseline, {}), over=gains))
    return found


def _compared(
    method: MethodScores, baselines: Mapping[str, CaptionScores], seed: int
) -> dict[str, dict[str, Comparison]]:
    """Tests a method against each baseline but itself, on the images that it has captions of."""
    return {
        name: compare(scores, method.scores, seed=seed, indices=method.indices)
        for name, scores in baselines.items()
        if name != method.name
    }


def restrict(
    methods: Sequence[MethodScores], indices: Sequence[int], *, seed: int | None = None
) -> list[MethodScores]:
    """Returns the scores of some images alone, of the metrics that have statistics.

    CIDEr-D keeps the weights of all images, so that parts can be compared.

    Args:
        methods: The scores of all images.
        indices: The images. Of a method that has captions of none of them, nothing is scored.
        seed: Seed of the bootstrap of intervals and paired tests; None for neither.
    """
    parts = [_restrict(method, indices, seed) for method in methods]
    if seed is None:
        return parts
    by_name = {part.name: part for part in parts}
    return [
        replace(
            part,
            over={
                name: compare(by_name[name].scores, part.scores, seed=seed)
                for name in whole.over
                if by_name[name].indices == part.indices
            },
        )
        for part, whole in zip(parts, methods, strict=True)
    ]


def _restrict(method: MethodScores, indices: Sequence[int], seed: int | None) -> MethodScores:
    rows = {index: row for row, index in enumerate(method.image_indices)}
    own = [index for index in indices if index in rows]
    kept = [rows[index] for index in own]
    scores = _scores_of_rows(method.scores, kept)
    return replace(
        method,
        captions=[method.captions[row] for row in kept],
        scores=scores,
        intervals={} if seed is None else _intervals(scores, seed),
        gains={},
        over={},
        indices=own,
    )


def headline_metrics(methods: Sequence[MethodScores]) -> list[Metric]:
    """Returns the metrics of the table and the chart: those that were computed, BLEU-4 first."""
    computed = {key: each for method in methods for key, each in method.scores.metrics.items()}
    # Metrics of these images alone come last, except those that replace a registered one.
    order = {metric.key: None for metric in registered_metrics() if metric.key in computed}
    found = [computed[key] for key in order | dict.fromkeys(computed)]
    headline = [metric for metric in found if metric.headline]
    return sorted(headline, key=lambda metric: metric.key != PRIMARY_METRIC)


def image_metric(methods: Sequence[MethodScores]) -> Metric:
    """Returns the metric whose score of a single image is shown next to its captions."""
    return next(
        metric
        for metric in headline_metrics(methods)
        if metric.per_image and all(metric.key in _statistics(each.scores) for each in methods)
    )


def compare(
    baseline: CaptionScores,
    system: CaptionScores,
    *,
    seed: int,
    indices: Sequence[int] | None = None,
) -> dict[str, Comparison]:
    """Tests the difference of a system to a baseline by the paired bootstrap, by metric.

    Args:
        baseline: Scores of the baseline, for all images.
        system: Scores of the system.
        seed: Seed of the bootstrap.
        indices: The images that the system is scored on; None for all.
    """
    before, after = _statistics(baseline), _statistics(system)
    if indices is not None:
        before = {key: statistics[list(indices)] for key, statistics in before.items()}
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


def _scores_of_rows(scores: CaptionScores, rows: Sequence[int]) -> CaptionScores:
    kept = {}
    for key, statistics in _statistics(scores).items():
        own = statistics[list(rows)]
        sums = own.sum(axis=0)
        value = float(scores.metrics[key].corpus_score(sums, len(own))) if len(own) else None
        kept[key] = MetricScore(value, own)
    return replace(scores, scores=kept)


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
