"""ROUGE-L as COCO's caption evaluation computes it (Lin 2004; pycocoevalcap's Rouge)."""

from collections.abc import Sequence

import numpy as np

from igrag.metrics.registry import Array, Metric, TokenizedCorpus, register
from igrag.metrics.tokens import Tokens

_BETA = 1.2  # recall counts this many times as much as precision


class RougeL(Metric):
    """ROUGE-L, the mean over images."""

    key, label, headline, per_image = "rouge_l", "ROUGE-L", True, True

    def image_statistics(self, corpus: TokenizedCorpus) -> Array:
        """Returns the score [N, 1] of each image."""
        return rouge_l(corpus.hypotheses, corpus.references)[:, np.newaxis]


def rouge_l(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> Array:
    """Computes ROUGE-L [N] of each image, from 0 to 1; the corpus score is their mean.

    As in COCO's evaluation, the best precision and the best recall count, which may come from
    two references. An empty caption scores 0. (pycocoevalcap gives it 1 if a reference has no
    words either, because it takes both for one empty word; no caption of COCO is like that.)
    """
    pairs = zip(hypotheses, references, strict=True)
    return np.array([_image_score(words, texts) for words, texts in pairs])


def _image_score(words: Tokens, texts: Sequence[Tokens]) -> float:
    common = [_common_length(words, text) for text in texts]
    if not any(common):
        return 0.0
    precision = max(common) / len(words)
    recall = max(length / len(text) for length, text in zip(common, texts, strict=True) if length)
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _common_length(first: Tokens, second: Tokens) -> int:
    """Returns the length of the longest common subsequence.

    Bit i of `row` is 0 where the table of the textbook's dynamic program grows from column i
    to i + 1; one addition computes the next row (Hyyrö 2004, "Bit-parallel LCS-length computation
    revisited").
    """
    positions: dict[str, int] = {}
    for index, word in enumerate(first):
        positions[word] = positions.get(word, 0) | 1 << index
    full = (1 << len(first)) - 1
    row = full
    for word in second:
        matches = row & positions.get(word, 0)
        row = (row + matches | row - matches) & full
    return len(first) - row.bit_count()


register(RougeL())
