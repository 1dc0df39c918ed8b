"""Diversity of a set of captions: whether a system writes, or repeats itself and what it has seen.

None of these figures measures quality: captions that vary most are not the best ones. Next to the
scores they show a method that copies, and one that gives many images the same caption.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from igrag.metrics.bleu import ORDERS, corpus_bleu
from igrag.metrics.tokens import Tokens

_Ngram = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Diversity:
    """Figures of a set of captions.

    Attributes:
        distinct_1: Different words by words (Li et al. 2016, "A Diversity-Promoting Objective
            Function for Neural Conversation Models"); falls with the number of captions.
        distinct_2: The same of pairs of words.
        vocabulary: Number of different words.
        mean_length: Words in a caption.
        self_bleu4: BLEU-4 of every caption with all others as its references (Zhu et al. 2018,
            "Texygen"): 1 where each caption has a copy, high where captions share phrases; None
            for a single caption. With one caption an image it is taken across images; the mBLEU of
            several captions of one image (Shetty et al. 2017) is not defined then.
        seen: Share of captions that stand in the training data word by word; None if unknown.
    """

    distinct_1: float
    distinct_2: float
    vocabulary: int
    mean_length: float
    self_bleu4: float | None
    seen: float | None


def diversity(captions: Sequence[Tokens], *, training: Collection[str] | None = None) -> Diversity:
    """Computes the diversity of tokenized captions.

    Args:
        captions: One caption an image, one or more.
        training: The captions seen in training, tokens with a space between; best as a set.

    Raises:
        ValueError: No captions.
    """
    if not captions:
        raise ValueError("no captions, expected one or more")
    words = Counter(word for tokens in captions for word in tokens)
    pairs = Counter(pair for tokens in captions for pair in pairwise(tokens))
    seen = None
    if training is not None:
        seen = sum(" ".join(tokens) in training for tokens in captions) / len(captions)
    return Diversity(
        distinct_1=_distinct(words),
        distinct_2=_distinct(pairs),
        vocabulary=len(words),
        mean_length=words.total() / len(captions),
        self_bleu4=self_bleu4(captions),
        seen=seen,
    )


def self_bleu4(captions: Sequence[Tokens]) -> float | None:
    """Computes corpus BLEU-4 of every caption with all others as its references.

    The time is that of counting the n-grams once: of all other captions only the one that has an
    n-gram most often counts, and the one whose length is closest.
    """
    if len(captions) < 2:
        return None
    counts = [Counter(_ngrams(tokens)) for tokens in captions]
    most: dict[_Ngram, list[int]] = {}  # How often the two captions have it that have it most.
    for counted in counts:
        for ngram, count in counted.items():
            first, second = most.setdefault(ngram, [0, 0])
            most[ngram] = sorted((first, second, count), reverse=True)[:2]
    lengths = sorted(map(len, captions))
    sums = np.zeros(2 * ORDERS + 2)
    for tokens, counted in zip(captions, counts, strict=True):
        for ngram, count in counted.items():
            first, second = most[ngram]
            others = second if count == first else first  # Its own count is one of the two.
            sums[len(ngram) - 1] += min(count, others)
            sums[ORDERS + len(ngram) - 1] += count
        sums[-2:] += len(tokens), _closest_other(len(tokens), lengths)
    return float(corpus_bleu(sums)[-1])


def _distinct(counts: Counter[str] | Counter[tuple[str, str]]) -> float:
    return len(counts) / counts.total() if counts else 0.0


def _ngrams(tokens: Tokens) -> list[_Ngram]:
    return [
        tuple(tokens[start : start + order])
        for order in range(1, ORDERS + 1)
        for start in range(len(tokens) - order + 1)
    ]


def _closest_other(length: int, lengths: Sequence[int]) -> int:
    """Returns the closest of the other lengths, which are sorted; the shorter of two."""
    index = bisect_left(lengths, length)  # The first of this length stands for the caption itself.
    others = [lengths[near] for near in (index - 1, index + 1) if 0 <= near < len(lengths)]
    return min(others, key=lambda other: (abs(other - length), other))
