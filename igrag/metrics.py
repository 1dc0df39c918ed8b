"""Scores of captions against references: BLEU as COCO's caption evaluation computes it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import exp, prod

from nltk.tokenize import NLTKWordTokenizer
from sacrebleu.metrics import BLEU

# pycocoevalcap drops these after tokenising (ptbtokenizer.py).
_DROPPED = frozenset(["''", "'", "``", "`", '"', *"(){}[].?!,:-;", "--", "..."])
# It adds these to every count (bleu_scorer.py): a score is never a division by zero.
_TINY, _SMALL = 1e-15, 1e-9


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

    Where nothing at all matches, COCO's score is not 0 but up to 0.01: pycocoevalcap adds 1e-15
    to the matches and 1e-9 to the counts, and so does this.

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
    metric = BLEU(tokenize="none", smooth_method="none", force=True)
    found = metric.corpus_score(tokens, streams)
    precisions = [
        (count + _TINY) / (total + _SMALL)
        for count, total in zip(found.counts, found.totals, strict=True)
    ]
    ratio = (found.sys_len + _TINY) / (found.ref_len + _SMALL)
    brevity = exp(1 - 1 / ratio) if ratio < 1 else 1.0
    return BleuScore(*(brevity * prod(precisions[:order]) ** (1 / order) for order in range(1, 5)))
