"""Scores of captions against references, as COCO's caption evaluation computes them.

BLEU-1 to 4, ROUGE-L and CIDEr-D, equal to pycocoevalcap's on the same tokens, and how far they may
be trusted; METEOR where its program is available (`corpus_meteor`). SPICE is left out (`LEFT_OUT`).
"""

from igrag.metrics.bleu import BleuScore, bleu, corpus_bleu4
from igrag.metrics.bootstrap import Comparison, Interval, bootstrap_interval, paired_bootstrap
from igrag.metrics.meteor import MeteorError, corpus_meteor
from igrag.metrics.scores import (
    LEFT_OUT,
    CaptionScores,
    ImageScores,
    format_score,
    score_captions,
    score_images,
)
from igrag.metrics.tokens import tokenize

__all__ = [
    "LEFT_OUT",
    "BleuScore",
    "CaptionScores",
    "Comparison",
    "ImageScores",
    "Interval",
    "MeteorError",
    "bleu",
    "bootstrap_interval",
    "corpus_bleu4",
    "corpus_meteor",
    "format_score",
    "paired_bootstrap",
    "score_captions",
    "score_images",
    "tokenize",
]
