"""Scores of captions against references: BLEU as COCO's caption evaluation computes it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from nltk.tokenize import NLTKWordTokenizer
from sacrebleu.metrics import BLEU

# pycocoevalcap drops these after tokenising (ptbtokenizer.py).
_DROPPED = frozenset(["''", "'", "``", "`", '"', *"(){}[].?!,:-;", "--", "..."])


@dataclass(frozen=True, slots=True)
class BleuScore:
    """Corpus BLEU of order 1 to 4, each from 0 to 1."""

    bleu1: float
    bleu2: float
    bleu3: float
    bleu4: float


@cache
def _tokenizer() -> NLTKWordTokenizer:
    return NLTKWordTokenizer()


def tokenise(caption: str) -> list[str]:
    """Splits a caption into PTB tokens, lower-cased, without punctuation: COCO's preparation."""
    words = _tokenizer().tokenize(" ".join(caption.split()).lower())
    return [word for word in words if word not in _DROPPED]


def bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> BleuScore:
    """Computes COCO's BLEU: corpus level, closest reference length, no smoothing.

    Args:
        hypotheses: One caption a picture; an empty one counts as a miss.
        references: For each picture its references, one or more, in any number.

    Raises:
        ValueError: Nothing to score, different lengths, or a picture without references.
    """
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} captions for {len(references)} sets of references")
    if not hypotheses or not all(references):
        raise ValueError("every picture needs a caption and at least one reference")
    tokens = [" ".join(tokenise(caption)) for caption in hypotheses]
    prepared = [[" ".join(tokenise(text)) for text in texts] for texts in references]
    # sacrebleu wants one stream for each reference; pictures with fewer have None there.
    streams: list[list[str | None]] = [
        [texts[index] if index < len(texts) else None for texts in prepared]
        for index in range(max(map(len, prepared)))
    ]
    scores = []
    for order in range(1, 5):
        metric = BLEU(tokenize="none", smooth_method="none", max_ngram_order=order, force=True)
        scores.append(metric.corpus_score(tokens, streams).score / 100)
    return BleuScore(*scores)
