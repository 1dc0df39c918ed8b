"""CIDEr-D as COCO's caption evaluation computes it (Vedantam et al. 2015; pycocoevalcap's Cider).

A caption is a vector of its n-grams of each order 1 to 4, weighted by how rare they are (TF-IDF);
its score is its cosine with each reference. The "D" variant clips a repeated n-gram's weight to
the reference's and penalizes a difference in length, so that neither pays.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np

from igrag.metrics.registry import Array, Metric, TokenizedCorpus, register
from igrag.metrics.tokens import Tokens

_ORDERS = 4
_SIGMA = 6.0  # words: the width of the length penalty
_SCALE = 10.0

_Ngram = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Vector:
    """A caption's n-grams of all orders with their weights, and the norm of each order."""

    weights: dict[_Ngram, float]
    norms: list[float]
    words: int


class CiderD(Metric):
    """CIDEr-D, the mean over images."""

    key, label, maximum, headline, per_image = "cider_d", "CIDEr-D", _SCALE, True, True
    minimum_images = 2  # With a single image every weight is 0.

    def image_statistics(self, corpus: TokenizedCorpus) -> Array:
        """Returns the score [N, 1] of each image; a resample keeps the whole set's weights."""
        return cider_d(corpus.hypotheses, corpus.references, documents=corpus.documents)[
            :, np.newaxis
        ]


def cider_d(
    hypotheses: Sequence[Tokens],
    references: Sequence[Sequence[Tokens]],
    *,
    documents: Sequence[Sequence[Tokens]] | None = None,
) -> Array:
    """Computes CIDEr-D [N] of each image, from 0 to 10; the corpus score is their mean.

    The more images have an n-gram in their references, the less it weighs. So the scores hold for
    this set of images only, and those of a single image are 0.

    Args:
        hypotheses: One caption per image.
        references: The references of each.
        documents: The references in which n-grams are counted, those of each image together;
            None: `references`.
    """
    documents = references if documents is None else documents
    weights = _inverse_frequencies(documents)
    # An n-gram of no reference weighs as much as one in the references of a single image.
    unknown = log(len(documents))
    scores = np.empty(len(hypotheses))
    for index, (words, texts) in enumerate(zip(hypotheses, references, strict=True)):
        vector = _vector(words, weights, unknown)
        total = sum(_similarity(vector, _vector(text, weights, unknown)) for text in texts)
        scores[index] = _SCALE * total / len(texts)
    return scores


def _ngrams(words: Tokens) -> Iterable[_Ngram]:
    for order in range(1, _ORDERS + 1):
        yield from zip(*(words[start:] for start in range(order)), strict=False)


def _inverse_frequencies(references: Sequence[Sequence[Tokens]]) -> dict[_Ngram, float]:
    """Returns for every n-gram log(images / images with the n-gram in their references)."""
    images: Counter[_Ngram] = Counter()
    for texts in references:
        images.update({ngram for text in texts for ngram in _ngrams(text)})
    return {ngram: log(len(references) / count) for ngram, count in images.items()}


def _vector(words: Tokens, weights: dict[_Ngram, float], unknown: float) -> _Vector:
    # A Counter keeps the order of the words, so sums are the same in every process.
    vector = {
        ngram: count * weights.get(ngram, unknown)
        for ngram, count in Counter(_ngrams(words)).items()
    }
    squares = [0.0] * _ORDERS
    for ngram, weight in vector.items():
        squares[len(ngram) - 1] += weight * weight
    return _Vector(vector, [sqrt(square) for square in squares], len(words))


def _similarity(caption: _Vector, reference: _Vector) -> float:
    """Returns the mean over the orders of the clipped cosine, times the penalty on the length."""
    products = [0.0] * _ORDERS
    for ngram, weight in caption.weights.items():
        if (other := reference.weights.get(ngram)) is not None:
            products[len(ngram) - 1] += min(weight, other) * other
    cosines = (
        product / (own * other)
        for product, own, other in zip(products, caption.norms, reference.norms, strict=True)
        if product
    )
    difference = caption.words - reference.words
    return sum(cosines) / _ORDERS * exp(-(difference**2) / (2 * _SIGMA**2))


register(CiderD())
