"""CIDEr-D as COCO's caption evaluation computes it (Vedantam et al. 2015; pycocoevalcap's Cider).

A caption is a vector of its n-grams of each order 1 to 4, weighted by how rare they are (TF-IDF);
it scores by its cosine with each reference. The "D" variant clips a repeated n-gram's weight to
the reference's and punishes a difference in length, so that neither pays.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np
from numpy.typing import NDArray

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


def cider_d(
    hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> NDArray[np.float64] | None:
    """Computes CIDEr-D [N] of each image, from 0 to 10; their mean is the corpus's.

    An n-gram weighs the less, the more images have it in their references. The scores hold for
    this set of images only, and a single image has none: every weight would be 0.

    Returns:
        The scores, or None for a single image.
    """
    if len(references) == 1:
        return None
    weights = _inverse_frequencies(references)
    # What stands in no reference weighs as much as what stands in those of one image.
    unknown = log(len(references))
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
    # A Counter keeps the order of the words: sums come out the same in every process.
    vector = {
        ngram: count * weights.get(ngram, unknown)
        for ngram, count in Counter(_ngrams(words)).items()
    }
    squares = [0.0] * _ORDERS
    for ngram, weight in vector.items():
        squares[len(ngram) - 1] += weight * weight
    return _Vector(vector, [sqrt(square) for square in squares], len(words))


def _similarity(caption: _Vector, reference: _Vector) -> float:
    """Returns the mean over the orders of the clipped cosine, less the penalty on the length."""
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
