"""Length of captions: not a score of quality, but what to look at when BLEU's brevity counts."""

import numpy as np

from igrag.metrics.registry import Array, Metric, TokenizedCorpus, register


class MeanLength(Metric):
    """Mean number of tokens in a caption, in metrics.json only."""

    key, label, maximum = "mean_length", "Tokens", float("inf")

    def image_statistics(self, corpus: TokenizedCorpus) -> Array:
        """Returns the number of tokens [N, 1] of each caption."""
        return np.array([[len(words)] for words in corpus.hypotheses], dtype=np.float64)


register(MeanLength())
