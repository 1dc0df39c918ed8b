"""The clip_score of captioning's JSON: CLIPScore by the configured encoder."""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from igrag.config import Config
from igrag.errors import ModelError

if TYPE_CHECKING:  # torch takes seconds to load: --help must not wait for it.
    from igrag.captioning.captioner import CaptionResult

    # Results, and a caption for the image of each -> the captions' CLIPScores.
    ScoreCaptions = Callable[[Sequence[CaptionResult], Sequence[str]], list[float]]


def load_clip_score(config: Config) -> "ScoreCaptions | None":
    """Returns a function that scores captions; None, with a note, if the encoder reads no text."""
    import numpy as np

    from igrag import from_config
    from igrag.metrics.clip_score import ClipVectors, clip_scores

    try:
        encoder = from_config.load_text_encoder(config)
    except ModelError as error:
        print(f"note: no clip_score: {error}", file=sys.stderr)
        return None

    def score(results: "Sequence[CaptionResult]", captions: Sequence[str]) -> list[float]:
        # The captioner has encoded every image.
        images = np.stack([result.vector for result in results if result.vector is not None])
        vectors = ClipVectors(images, encoder.encode)
        found = clip_scores(images, vectors.captions(captions)).tolist()
        return [round(each, 4) for each in found]

    return score
