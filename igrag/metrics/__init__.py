"""Metrics of captions against references, as COCO's caption evaluation computes them.

BLEU-1 to 4, ROUGE-L and CIDEr-D, equal to pycocoevalcap's, their bootstrap intervals, METEOR and
SPICE where Java and pycocoevalcap are installed, and CLIPScore where images and their encoder are.
`registry` lists the metrics, `diversity` measures what is no score.
"""

from igrag.metrics.bleu import BleuScore, bleu
from igrag.metrics.bootstrap import Comparison, Interval, bootstrap_interval, paired_bootstrap
from igrag.metrics.registry import (
    CaptionScores,
    Metric,
    MetricError,
    MetricScore,
    TokenizedCorpus,
    format_score,
    register,
    registered_metrics,
    score_captions,
    score_corpus,
)
from igrag.metrics.tokens import tokenize

__all__ = [
    "BleuScore",
    "CaptionScores",
    "Comparison",
    "Interval",
    "Metric",
    "MetricError",
    "MetricScore",
    "TokenizedCorpus",
    "bleu",
    "bootstrap_interval",
    "format_score",
    "paired_bootstrap",
    "register",
    "registered_metrics",
    "score_captions",
    "score_corpus",
    "tokenize",
]
