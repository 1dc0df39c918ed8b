"""BLEU as COCO's caption evaluation computes it (Papineni et al. 2002; pycocoevalcap's Bleu)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics.bleu import BLEU

from igrag.metrics.registry import Array, Metric, TokenizedCorpus, register
from igrag.metrics.tokens import Tokens, tokenize_corpus

ORDERS = 4
# pycocoevalcap adds these to every count (bleu_scorer.py): no score divides by zero.
_TINY, _SMALL = 1e-15, 1e-9


class Bleu(Metric):
    """Corpus BLEU of one order.

    Args:
        order: Longest n-grams, 1 to 4.
    """

    def __init__(self, order: int) -> None:
        self.key, self.label, self.headline = f"bleu{order}", f"BLEU-{order}", order == ORDERS
        self._order = order

    def image_statistics(self, corpus: TokenizedCorpus) -> NDArray[np.int64]:
        """Returns the counts [N, 10] that all orders share, see `bleu_statistics`."""
        return corpus.statistics(bleu_statistics)

    def corpus_score(self, sums: NDArray[Any], image_count: int) -> Array:
        """Returns BLEU [...] from sums [..., 10] of counts."""
        return corpus_bleu(sums)[..., self._order - 1]


@dataclass(frozen=True, slots=True)
class BleuScore:
    """Corpus BLEU of order 1 to 4, each from 0 to 1."""

    bleu1: float
    bleu2: float
    bleu3: float
    bleu4: float


def bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> BleuScore:
    """Computes COCO's BLEU: corpus level, closest reference length, no smoothing.

    Where nothing at all matches, COCO's score is not 0 but up to 0.01: pycocoevalcap adds 1e-15
    to the matches and 1e-9 to the counts, and so does this function.

    Args:
        hypotheses: One caption per image; an empty one counts as a miss.
        references: The references of each image, one or more, in any number.

    Raises:
        ValueError: Nothing to score, different lengths, or an image without references.
    """
    statistics = bleu_statistics(*tokenize_corpus(hypotheses, references))
    return BleuScore(*corpus_bleu(statistics.sum(axis=0)).tolist())


def bleu_statistics(
    hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> NDArray[np.int64]:
    """Returns the counts of each of N images; BLEU of the corpus follows from their sum.

    Returns:
        [N, 10]: clipped matches of order 1 to 4, n-grams of order 1 to 4 in the caption, its
        length, and the length of the reference closest to it (the shorter of two).
    """
    # effective_order changes no count; without it sacrebleu warns about scoring single sentences.
    metric = BLEU(tokenize="none", smooth_method="none", effective_order=True)
    statistics = np.empty((len(hypotheses), 2 * ORDERS + 2), np.int64)
    for row, words, texts in zip(statistics, hypotheses, references, strict=True):
        found = metric.sentence_score(" ".join(words), [" ".join(text) for text in texts])
        row[:] = (*found.counts, *found.totals, found.sys_len, found.ref_len)
    return statistics


def corpus_bleu(sums: NDArray[Any]) -> Array:
    """Computes BLEU-1 to 4 [..., 4] from sums [..., 10] of `bleu_statistics`."""
    matches, totals = sums[..., :ORDERS], sums[..., ORDERS : 2 * ORDERS]
    precisions = (matches + _TINY) / (totals + _SMALL)
    means: Array = precisions.cumprod(axis=-1) ** (1 / np.arange(1, ORDERS + 1))
    ratio = (sums[..., -2:-1] + _TINY) / (sums[..., -1:] + _SMALL)
    return means * np.exp(np.minimum(0, 1 - 1 / ratio))


for _order in range(1, ORDERS + 1):
    register(Bleu(_order))
