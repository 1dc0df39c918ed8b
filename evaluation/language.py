"""Which tokenizer scores the captions, by the language of the references."""

import logging
from pathlib import Path

from evaluation.dataset import EvaluationDataset
from evaluation.options import EvaluationOptions
from igrag.metrics.segmentation import PTB, choose_tokenizer, unspaced_share

logger = logging.getLogger(__name__)
_NOTICEABLE = 0.1


def find_tokenizer(options: EvaluationOptions, dataset: EvaluationDataset) -> str:
    """Returns the chosen tokenizer; warns of references in a language without spaces."""
    wanted = None if options.tokenizer == "auto" else options.tokenizer
    chosen = wanted or choose_tokenizer(dataset.references)
    share = sum(unspaced_share(dataset.references))
    if share >= _NOTICEABLE:
        _warn(dataset.path, share, chosen)
    return chosen


def _warn(path: Path, share: float, chosen: str) -> None:
    if chosen == PTB:
        effect = "each of their sentences counts as one word, so that scores say little; give "
        effect += "--tokenizer zh (Chinese) or char"
    else:
        effect = f"tokens are those of --tokenizer {chosen}, unlike pycocoevalcap's (ptb)"
    logger.warning(
        "%s: %.0f%% of the references' characters are of languages without spaces: %s",
        path, 100 * share, effect,
    )  # fmt: skip
