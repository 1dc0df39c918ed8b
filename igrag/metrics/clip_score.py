"""CLIPScore and RefCLIPScore: how well captions fit their images by CLIP (Hessel et al. 2021).

Source: "CLIPScore: A Reference-free Evaluation Metric for Image Captioning". CLIPScore is 2.5 times
the cosine of a caption's and its image's CLIP vector, so it sees what the references do not
mention, and needs none. RefCLIPScore is its harmonic mean with the highest cosine of the caption
and a reference. Both depend on the CLIP model: scores by two models cannot be compared. An empty
caption is scored as the prefix alone, as by the authors' program.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from igrag.metrics.registry import Array, Metric, MetricError, TokenizedCorpus, register

PREFIX = "A photo depicts "
WEIGHT = 2.5  # Stretches the cosines of OpenAI's ViT-B/32, hardly above 0.4, to about 0 to 1.

# Texts [B] -> unit vectors [B, D].
EncodeTexts = Callable[[Sequence[str]], NDArray[np.float32]]


class ClipVectors:
    """The CLIP vectors of images, and those of captions, each text encoded once.

    Args:
        images: Unit vectors [N, D] of the images.
        encode_texts: The text tower of the same model.
    """

    def __init__(self, images: NDArray[np.float32], encode_texts: EncodeTexts) -> None:
        self.images = images
        self._encode_texts = encode_texts
        self._known: dict[str, NDArray[np.float32]] = {}

    def captions(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns the unit vectors [B, D] of captions, encoded with the prefix."""
        new = list(dict.fromkeys(text for text in texts if text not in self._known))
        if new:
            vectors = self._encode_texts([PREFIX + text.strip() for text in new])
            self._known.update(zip(new, vectors, strict=True))
        return np.array([self._known[text] for text in texts])


class ClipScore(Metric):
    """CLIPScore, the mean over images.

    Args:
        vectors: Of the images that are scored; None: it cannot be computed.
        reason: Why not, in words that follow "it".
    """

    key, label, maximum, headline, per_image = "clip_score", "CLIPScore", WEIGHT, True, True

    def __init__(
        self,
        vectors: ClipVectors | None = None,
        *,
        reason: str = "needs the images and their CLIP model",
    ) -> None:
        self._vectors = vectors
        self._reason = reason

    def unavailable(self) -> str | None:
        """Returns why there are no vectors."""
        return None if self._vectors is not None else self._reason

    def image_statistics(self, corpus: TokenizedCorpus) -> Array:
        """Returns the score [N, 1] of each image."""
        images, captions = self._of_corpus(corpus)
        return clip_scores(images, captions)[:, np.newaxis]

    def _of_corpus(
        self, corpus: TokenizedCorpus
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Returns the vectors [N, D] of the images and of their captions."""
        if corpus.captions is None or self._vectors is None:
            raise MetricError("needs the captions as they were before tokenization")
        images = self._vectors.images
        if corpus.image_indices is not None:
            images = images[list(corpus.image_indices)]
        return images, self._vectors.captions(corpus.captions)


class RefClipScore(ClipScore):
    """RefCLIPScore, the mean over images."""

    key, label, maximum = "ref_clip_score", "RefCLIPScore", 2 * WEIGHT / (WEIGHT + 1)

    def image_statistics(self, corpus: TokenizedCorpus) -> Array:
        """Returns the score [N, 1] of each image."""
        images, captions = self._of_corpus(corpus)
        assert corpus.reference_captions is not None and self._vectors is not None
        flat = [text for texts in corpus.reference_captions for text in texts]
        ends = np.cumsum([len(texts) for texts in corpus.reference_captions])[:-1]
        references = np.split(self._vectors.captions(flat), ends)
        return ref_clip_scores(images, captions, references)[:, np.newaxis]


def clip_scores(images: NDArray[np.float32], captions: NDArray[np.float32]) -> Array:
    """Computes CLIPScore [N], 2.5 max(cos, 0), from unit vectors [N, D] of images and captions."""
    cosines: Array = np.einsum("nd,nd->n", images, captions, dtype=np.float64)
    return WEIGHT * np.maximum(cosines, 0)


def ref_clip_scores(
    images: NDArray[np.float32],
    captions: NDArray[np.float32],
    references: Sequence[NDArray[np.float32]],
) -> Array:
    """Computes RefCLIPScore [N], the harmonic mean of CLIPScore and the best reference's cosine.

    Args:
        images: Unit vectors [N, D].
        captions: Unit vectors [N, D].
        references: For each image the unit vectors [R, D] of its references.
    """
    scores = clip_scores(images, captions)
    pairs = zip(captions, references, strict=True)
    best = np.array([max(0.0, float((texts @ caption).max())) for caption, texts in pairs])
    total = scores + best
    means: Array = np.divide(2 * scores * best, total, out=np.zeros_like(total), where=total > 0)
    return means


register(ClipScore())
register(RefClipScore())
