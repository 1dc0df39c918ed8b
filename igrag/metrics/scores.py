"""All scores of a set of captions at once, for the corpus and for every image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from igrag.metrics.bleu import bleu_statistics, corpus_bleu
from igrag.metrics.cider import cider_d
from igrag.metrics.rouge import rouge_l
from igrag.metrics.tokens import tokenize_corpus

# What COCO's evaluation reports and this never does, and why: a report may print it.
LEFT_OUT = {"SPICE": "needs Java and a download of a parser's models"}


@dataclass(frozen=True, slots=True)
class CaptionScores:
    """Scores of a corpus: BLEU and ROUGE-L from 0 to 1, CIDEr-D from 0 to 10.

    `cider_d` is None where it is not defined: for a single image.
    """

    bleu1: float
    bleu2: float
    bleu3: float
    bleu4: float
    rouge_l: float
    cider_d: float | None

    def formatted(self, *, digits: int = 3) -> dict[str, str]:
        """Returns the scores for people to read: name -> figure, or "n/a"."""
        values = {f"BLEU-{order}": getattr(self, f"bleu{order}") for order in range(1, 5)}
        values |= {"ROUGE-L": self.rouge_l, "CIDEr-D": self.cider_d}
        return {name: format_score(value, digits=digits) for name, value in values.items()}


@dataclass(frozen=True, slots=True, eq=False)
class ImageScores:
    """Scores of each of N images; where BLEU has none, the counts that add up to the corpus's.

    Attributes:
        bleu_statistics: [N, 10], see `igrag.metrics.bleu.bleu_statistics`.
        rouge_l: [N].
        cider_d: [N], or None for a single image.
    """

    bleu_statistics: NDArray[np.int64]
    rouge_l: NDArray[np.float64]
    cider_d: NDArray[np.float64] | None

    def corpus(self) -> CaptionScores:
        """Returns the scores of all images together."""
        bleu1, bleu2, bleu3, bleu4 = corpus_bleu(self.bleu_statistics.sum(axis=0)).tolist()
        rouge = float(self.rouge_l.mean())
        cider = None if self.cider_d is None else float(self.cider_d.mean())
        return CaptionScores(bleu1, bleu2, bleu3, bleu4, rouge_l=rouge, cider_d=cider)


def score_images(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> ImageScores:
    """Scores captions image by image, as COCO's caption evaluation does.

    Args:
        hypotheses: One caption a image; an empty one counts as a miss.
        references: For each image its references, one or more, in any number.

    Raises:
        ValueError: Nothing to score, different lengths, or a image without references.
    """
    tokens = tokenize_corpus(hypotheses, references)
    return ImageScores(
        bleu_statistics=bleu_statistics(*tokens), rouge_l=rouge_l(*tokens), cider_d=cider_d(*tokens)
    )


def score_captions(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> CaptionScores:
    """Scores captions as COCO's caption evaluation does; arguments as for `score_images`."""
    return score_images(hypotheses, references).corpus()


def format_score(value: float | None, *, digits: int = 3) -> str:
    """Returns a score for people to read: "0.417", or "n/a" where there is none."""
    return "n/a" if value is None else f"{value:.{digits}f}"
