"""The registered metrics, and the scores of captions by all of them.

Each module of this package may register metrics; all are imported when the metrics are asked for.
A new metric is one new file here, and appears in the table, the chart, metrics.json and the
report of the evaluation:

    class WordCount(Metric):
        key, label, maximum, headline = "word_count", "words", 20.0, True

        def image_statistics(self, corpus):  # [N, 1]
            return np.array([[len(words)] for words in corpus.hypotheses])

    register(WordCount())
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import numpy as np
from numpy.typing import NDArray

from igrag.metrics.tokens import Tokens, tokenize_corpus

Array = NDArray[np.float64]
# Statistics [N, S] of N images.
ImageStatistics = Callable[[Sequence[Tokens], Sequence[Sequence[Tokens]]], NDArray[Any]]


class MetricError(Exception):
    """A metric cannot be computed; the message gives the reason, in words that follow "it"."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenizedCorpus:
    """Tokenized captions of N images and the references of each.

    Attributes:
        hypotheses: One caption per image; an empty one counts as a miss.
        references: The references of each image, one or more.
        captions: The captions before tokenization, for metrics that tokenize on their own.
        reference_captions: The references before tokenization.
        documents: The references of all images, where `references` are only some of them: CIDEr-D
            counts in them how rare an n-gram is; None: `references` are all.
        image_indices: The index of each caption's image, where an image has several captions;
            None: caption n is of image n.
    """

    hypotheses: Sequence[Tokens]
    references: Sequence[Sequence[Tokens]]
    captions: Sequence[str] | None = None
    reference_captions: Sequence[Sequence[str]] | None = None
    documents: Sequence[Sequence[Tokens]] | None = None
    image_indices: Sequence[int] | None = None
    _statistics: dict[ImageStatistics, NDArray[Any]] = field(default_factory=dict, repr=False)

    def statistics(self, compute: ImageStatistics) -> NDArray[Any]:
        """Returns `compute(hypotheses, references)`; metrics with the same function share it."""
        if compute not in self._statistics:
            self._statistics[compute] = compute(self.hypotheses, self.references)
        return self._statistics[compute]


@dataclass(frozen=True, slots=True, eq=False)
class MetricScore:
    """What a metric computes for the captions of N images.

    Attributes:
        value: The score of all images together; None where it is not defined.
        statistics: [N, S] statistics whose sum over images gives the score, for the bootstrap;
            None where there are none.
    """

    value: float | None
    statistics: NDArray[Any] | None = None


class Metric:
    """A metric of captions. Subclasses define `image_statistics`, or `compute` itself.

    Attributes:
        key: Its name in metrics.json.
        label: Its name in the table, the chart and the report.
        maximum: The highest score; the lowest is 0.
        headline: Whether it has a column in the table, a panel in the chart, and a bootstrap
            interval.
        per_image: Whether its score of a single image means something; the report shows the
            first such metric next to each caption.
        minimum_images: Images that its score is defined for.
    """

    key: str
    label: str
    maximum: float = 1.0
    headline: bool = False
    per_image: bool = False
    minimum_images: int = 1

    def unavailable(self) -> str | None:
        """Returns what is missing, in words that follow "it"; None where nothing is."""
        return None

    def image_statistics(self, corpus: TokenizedCorpus) -> NDArray[Any]:
        """Returns the statistics [N, S] of each image."""
        raise NotImplementedError

    def corpus_score(self, sums: NDArray[Any], image_count: int) -> Array:
        """Returns scores [...] from sums [..., S] of statistics over `image_count` images.

        By default the mean over images.
        """
        score: Array = sums[..., 0] / image_count
        return score

    def compute(self, corpus: TokenizedCorpus) -> MetricScore:
        """Scores a corpus.

        Raises:
            MetricError: It cannot be computed.
        """
        count = len(corpus.hypotheses)
        if count < self.minimum_images:
            return MetricScore(None)
        statistics = self.image_statistics(corpus)
        return MetricScore(float(self.corpus_score(statistics.sum(axis=0), count)), statistics)

    def image_scores(self, score: MetricScore) -> list[float]:
        """Returns the score of each image [N], from its statistics."""
        assert score.statistics is not None, self.key
        scores: list[float] = self.corpus_score(score.statistics, 1).tolist()
        return scores


@dataclass(frozen=True, slots=True, eq=False)
class CaptionScores:
    """Scores of the captions of N images.

    Attributes:
        metrics: By key, the metrics that were computed.
        scores: By key, their scores.
        unavailable: By label, why other metrics were not computed, in words that follow "it".
    """

    metrics: Mapping[str, Metric]
    scores: Mapping[str, MetricScore]
    unavailable: Mapping[str, str]

    def __getitem__(self, key: str) -> float | None:
        """Returns the score of all images together; None where it is not defined."""
        return self.scores[key].value

    @property
    def values(self) -> dict[str, float | None]:
        """The scores of all images together, by the metrics' keys."""
        return {key: score.value for key, score in self.scores.items()}

    def formatted(self, *, digits: int = 3) -> dict[str, str]:
        """Returns the scores by label: "0.417", or "n/a" where one is not defined."""
        return {
            self.metrics[key].label: format_score(value, digits=digits)
            for key, value in self.values.items()
        }


_registered: dict[str, Metric] = {}


def register(metric: Metric) -> None:
    """Adds a metric; one of the same key is replaced."""
    _registered[metric.key] = metric


def registered_metrics() -> tuple[Metric, ...]:
    """Returns all metrics, those of a module together, in the order of the modules' names."""
    _import_metrics()
    # Sorted, since it depends on the program which module is imported first.
    return tuple(sorted(_registered.values(), key=lambda metric: type(metric).__module__))


def score_captions(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    skip: Collection[str] = (),
    extra: Sequence[Metric] = (),
    tokenizer: str | None = None,
) -> CaptionScores:
    """Scores captions by all metrics that are available; everything is tokenized once.

    Args:
        hypotheses: One caption per image; an empty one counts as a miss.
        references: The references of each image, one or more, in any number.
        skip: Keys of metrics to leave out.
        extra: Metrics of these images alone; one replaces the registered metric of its key.
        tokenizer: See `tokenize_corpus`.

    Raises:
        ValueError: Nothing to score, different lengths, or an image without references.
    """
    tokens = tokenize_corpus(hypotheses, references, tokenizer=tokenizer)
    corpus = TokenizedCorpus(*tokens, captions=hypotheses, reference_captions=references)
    return score_corpus(corpus, skip=skip, extra=extra)


def score_corpus(
    corpus: TokenizedCorpus, *, skip: Collection[str] = (), extra: Sequence[Metric] = ()
) -> CaptionScores:
    """Scores a tokenized corpus; see `score_captions`."""
    metrics: dict[str, Metric] = {}
    scores: dict[str, MetricScore] = {}
    unavailable: dict[str, str] = {}
    for metric in {each.key: each for each in (*registered_metrics(), *extra)}.values():
        reason = "was skipped" if metric.key in skip else metric.unavailable()
        if reason is None:
            try:
                scores[metric.key] = metric.compute(corpus)
                metrics[metric.key] = metric
            except MetricError as error:
                reason = str(error)
        if reason is not None:
            unavailable[metric.label] = reason
    return CaptionScores(metrics, scores, unavailable)


def format_score(value: float | None, *, digits: int = 3) -> str:
    """Returns "0.417", or "n/a" where there is no score."""
    return "n/a" if value is None else f"{value:.{digits}f}"


@cache
def _import_metrics() -> None:
    package = __name__.rpartition(".")[0]
    for module in iter_modules(import_module(package).__path__):
        import_module(f"{package}.{module.name}")
