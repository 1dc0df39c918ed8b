"""Scores of several methods on the same images, and how far they may be trusted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from igrag.metrics import (
    CaptionScores,
    Comparison,
    ImageScores,
    Interval,
    MeteorError,
    bootstrap_interval,
    corpus_bleu4,
    corpus_meteor,
    paired_bootstrap,
    score_images,
)

_Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Metric:
    """One of the scores in the table.

    Attributes:
        key: Its name in `CaptionScores` and metrics.json.
        label: Its name for people.
        statistics: What `bootstrap_interval` takes; None where it is not defined.
        corpus_score: Likewise.
    """

    key: str
    label: str
    statistics: Callable[[ImageScores], NDArray[Any] | None]
    corpus_score: Callable[[_Array], _Array] | None = None


BLEU4 = Metric("bleu4", "BLEU-4", lambda scores: scores.bleu_statistics, corpus_bleu4)
CIDER_D = Metric("cider_d", "CIDEr-D", lambda scores: scores.cider_d)
ROUGE_L = Metric("rouge_l", "ROUGE-L", lambda scores: scores.rouge_l)
METRICS = (BLEU4, CIDER_D, ROUGE_L)


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """How one method did.

    Attributes:
        name: The method.
        captions: What it wrote, in the order of the images.
        images: The scores of each image.
        corpus: Those of all together.
        intervals: 95% intervals by the metric's key; none for a single image.
        gains: How much it scores above the reference method, by the metric's key; none for the
            reference itself and for a single image.
    """

    name: str
    captions: Sequence[str]
    images: ImageScores
    corpus: CaptionScores
    intervals: Mapping[str, Interval]
    gains: Mapping[str, Comparison]

    def value(self, metric: Metric) -> float | None:
        """Returns the score of all images together."""
        value: float | None = getattr(self.corpus, metric.key)
        return value


def score_methods(
    captions: Mapping[str, Sequence[str]],
    references: Sequence[Sequence[str]],
    *,
    reference: str,
    seed: int,
) -> list[Score]:
    """Scores every method and compares each with the reference method.

    Args:
        captions: By method, in the order of the images; an empty one counts as a miss.
        references: For each image what people wrote.
        reference: The method that the others are compared with.
        seed: Of the bootstrap.
    """
    images = {name: score_images(texts, references) for name, texts in captions.items()}
    return [
        Score(
            name=name,
            captions=captions[name],
            images=found,
            corpus=found.corpus(),
            intervals=_intervals(found, seed),
            gains={} if name == reference else compare(images[reference], found, seed=seed),
        )
        for name, found in images.items()
    ]


def score_meteor(
    captions: Mapping[str, Sequence[str]], references: Sequence[Sequence[str]], *, wanted: bool
) -> tuple[dict[str, float], str | None]:
    """Computes METEOR of every method, where it can be had.

    Args:
        captions: By method, in the order of the images.
        references: For each image what people wrote.
        wanted: Whether to try.

    Returns:
        The scores by method, none where it is left out, and then why, in words that follow "it".
    """
    if not wanted:
        return {}, "was switched off (--meteor off)"
    try:
        return corpus_meteor(captions, references), None
    except MeteorError as error:
        return {}, str(error)


def compare(first: ImageScores, second: ImageScores, *, seed: int) -> dict[str, Comparison]:
    """Tests by the paired bootstrap how much the second scores above the first, by metric."""
    found = {}
    for metric in METRICS:
        before, after = metric.statistics(first), metric.statistics(second)
        if before is not None and after is not None and len(before) > 1:
            found[metric.key] = paired_bootstrap(
                before, after, corpus_score=metric.corpus_score, seed=seed
            )
    return found


def _intervals(images: ImageScores, seed: int) -> dict[str, Interval]:
    found = {}
    for metric in METRICS:
        statistics = metric.statistics(images)
        # Drawn from a single image every resample is the same: no interval, not a narrow one.
        if statistics is not None and len(statistics) > 1:
            found[metric.key] = bootstrap_interval(
                statistics, corpus_score=metric.corpus_score, seed=seed
            )
    return found
