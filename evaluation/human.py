"""The row `human`: what people's own captions score, each reference against the image's others.

How well people agree is the yardstick of a caption score: COCO's evaluation scores a human caption
as it scores a system's (Chen et al. 2015, "Microsoft COCO Captions", section 4.3). Here nobody
writes a further caption: each of an image's references is scored against its others. So

- an image with a single reference is left out;
- an image's statistics are the mean over its references, which makes every image count the same,
  however many references it has, and every reference of it; the order of the references has no
  influence. For a metric that is a mean over images the score is the mean over references; BLEU
  is computed from the sums of these mean counts;
- the caption has one reference fewer to match than those of the methods, which lowers most scores;
- CIDEr-D counts in all references of all images how rare an n-gram is, as for the methods.

As the statistics are those of the metric, one row for each image, intervals and paired tests are
those of the methods too.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from igrag.metrics import (
    CaptionScores,
    Metric,
    MetricScore,
    TokenizedCorpus,
    score_corpus,
)
from igrag.metrics.segmentation import choose_tokenizer
from igrag.metrics.tokens import tokenizer_of

HUMAN = "human"


def images_with_others(references: Sequence[Sequence[str]]) -> list[int]:
    """Returns the indices of the images that have more than one reference."""
    return [index for index, texts in enumerate(references) if len(texts) > 1]


def score_references(
    references: Sequence[Sequence[str]],
    *,
    skip: Collection[str] = (),
    extra: Sequence[Metric] = (),
    tokenizer: str | None = None,
) -> CaptionScores:
    """Scores each reference against the image's other ones.

    Args:
        references: The references of each of N images, at least one image with more than one.
        skip: Keys of metrics to leave out.
        extra: Metrics of these images alone, see `score_captions`.
        tokenizer: See `tokenize_corpus`.

    Returns:
        Scores whose statistics have a row for each image of `images_with_others`.
    """
    split = tokenizer_of(tokenizer or choose_tokenizer(references))
    tokens = [[split(text) for text in texts] for texts in references]
    pairs = [
        (index, number)
        for index in images_with_others(references)
        for number in range(len(references[index]))
    ]
    corpus = TokenizedCorpus(
        [tokens[index][number] for index, number in pairs],
        [[*tokens[index][:number], *tokens[index][number + 1 :]] for index, number in pairs],
        documents=tokens,
        captions=[references[index][number] for index, number in pairs],
        reference_captions=[
            [*references[index][:number], *references[index][number + 1 :]]
            for index, number in pairs
        ],
        image_indices=[index for index, _ in pairs],
    )
    found = score_corpus(corpus, skip=skip, extra=extra)
    images = np.unique([index for index, _ in pairs], return_inverse=True)[1]  # [M]
    scores = {
        key: _mean_over_references(found.metrics[key], score, images, len(references))
        for key, score in found.scores.items()
    }
    return replace(found, scores=scores)


def _mean_over_references(
    metric: Metric, score: MetricScore, images: NDArray[np.intp], count: int
) -> MetricScore:
    """Turns the statistics [M, S] of M references into the mean ones of the images.

    Args:
        metric: The metric.
        score: Its score of the references; without statistics it stays as it is.
        images: The row of each reference's image [M].
        count: Number of images with references, of which the metric may need some.
    """
    if count < metric.minimum_images:
        return MetricScore(None)
    if score.statistics is None:
        return score
    references = np.bincount(images)
    sums: NDArray[Any] = np.zeros((len(references), score.statistics.shape[1]))
    np.add.at(sums, images, score.statistics)
    means = sums / references[:, np.newaxis]
    return MetricScore(float(metric.corpus_score(means.sum(axis=0), len(means))), means)
