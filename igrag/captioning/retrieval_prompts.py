"""Retrieval for a batch of images: image -> vector -> similar captioned images -> prompt."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from igrag.captioning.objects import Detector
from igrag.captioning.prompt_template import PromptTemplate
from igrag.data.coco import DetectedObject, ImageId
from igrag.retrieval.image_encoder import ImageEncoder
from igrag.retrieval.knowledge_base import KnowledgeBase, Match

# Takes an image's index in the batch and its matches, returns those that its prompt may show.
MatchFilter = Callable[[int, Sequence[Match]], list[Match]]
_SPARE = 2  # Where a filter may drop matches, so many times top_k are searched at once.


@dataclass(frozen=True, slots=True)
class RetrievedPrompt:
    """The prompt of one image.

    Attributes:
        prompt: The prompt.
        matches: The matches that it was built from, the nearest first.
        nearest: These and, where `RetrievalPrompts` is asked for them, the ones after them.
        vector: The image's unit vector [D].
    """

    prompt: str
    matches: tuple[Match, ...]
    vector: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)
    nearest: tuple[Match, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """What retrieval needs of an image.

    Attributes:
        vector: Its unit vector [D].
        objects: The objects in it.
    """

    vector: NDArray[np.float32]
    objects: Sequence[DetectedObject]


class RetrievalPrompts:
    """Builds the prompts of images from the captions of similar images.

    Captioning, evaluation and the building of training data all use it, so that a model is trained
    on prompts as it gets them later.

    Args:
        encoder: Turns images into vectors; None where only `from_vectors` is used.
        knowledge_base: Made with the same encoder.
        template: Builds the prompt.
        top_k: Similar images in a prompt.
        detector: Finds objects in an image, given the image and its file name.
        nearest: Similar images to return, where these are more than `top_k`.
    """

    def __init__(
        self,
        encoder: ImageEncoder | None,
        knowledge_base: KnowledgeBase,
        template: PromptTemplate,
        *,
        top_k: int,
        detector: Detector | None = None,
        nearest: int = 0,
    ) -> None:
        self._encoder = encoder
        self._knowledge_base = knowledge_base
        self._template = template
        self._top_k = top_k
        self._detector = detector
        self._searched = max(top_k, nearest)

    @property
    def searched_together(self) -> int:
        """How many images are best searched at once; 1: as many as there are."""
        return self._knowledge_base.searched_together

    def encode(self, images: Sequence[Image.Image], names: Sequence[str]) -> list[EncodedImage]:
        """Encodes a batch of RGB images, and finds the objects in them; see `build`."""
        if self._encoder is None:
            raise ValueError("no encoder, expected one to build prompts from images")
        detect = self._detector or (lambda _image, _name: ())
        vectors = self._encoder.encode(images)  # [B, D]
        return [
            EncodedImage(vector, detect(image, name))
            for vector, image, name in zip(vectors, images, names, strict=True)
        ]

    def build(
        self,
        images: Sequence[Image.Image],
        names: Sequence[str],
        *,
        count_tokens: Callable[[str], int],
        max_tokens: int,
        top_k: Sequence[int] | None = None,
        skip_ids: Sequence[ImageId | None] | None = None,
        skip_duplicates: bool = False,
    ) -> list[RetrievedPrompt]:
        """Builds the prompts of a batch of RGB images.

        Args:
            images: The images, B.
            names: Their file names, for the detector.
            count_tokens: Counts a prompt's tokens.
            max_tokens: Longest prompt in tokens, see `PromptTemplate.build`.
            top_k: For each image the similar images in its prompt; by default `top_k` of all.
            skip_ids: For each image the id that it must not find (its own), or None.
            skip_duplicates: Pass over exact copies of an image.
        """
        return self.from_encoded(
            self.encode(images, names),
            count_tokens=count_tokens,
            max_tokens=max_tokens,
            top_k=top_k,
            skip_ids=skip_ids,
            skip_duplicates=skip_duplicates,
        )

    def from_encoded(self, images: Sequence[EncodedImage], **options: Any) -> list[RetrievedPrompt]:
        """Builds the prompts of encoded images, which are searched at once; see `from_vectors`."""
        if not images:
            return []
        vectors = np.stack([image.vector for image in images])  # [B, D]
        return self.from_vectors(vectors, [image.objects for image in images], **options)

    def from_vectors(
        self,
        vectors: NDArray[np.float32],
        objects: Sequence[Sequence[DetectedObject]],
        *,
        count_tokens: Callable[[str], int],
        max_tokens: int,
        top_k: Sequence[int] | None = None,
        skip_ids: Sequence[ImageId | None] | None = None,
        skip_duplicates: bool = False,
        filter_matches: MatchFilter | None = None,
    ) -> list[RetrievedPrompt]:
        """Builds the prompts of images whose vectors are known; see `build`.

        Args:
            vectors: Unit vectors [B, D].
            objects: The objects of each image.
            count_tokens: Counts a prompt's tokens.
            max_tokens: Longest prompt in tokens.
            top_k: For each image the similar images in its prompt; by default `top_k` of all.
            skip_ids: For each image the id that it must not find, or None.
            skip_duplicates: Pass over exact copies of an image.
            filter_matches: Drops matches, or some of their captions; the search goes on farther
                away until enough are left.
        """
        shown_matches = [self._top_k] * len(vectors) if top_k is None else top_k
        searched = max([self._searched, *shown_matches])

        def search(indices: Sequence[int], k: int) -> list[list[Match]]:
            return self._knowledge_base.search(
                vectors[list(indices)],
                k,
                skip_ids=None if skip_ids is None else [skip_ids[index] for index in indices],
                skip_duplicates=skip_duplicates,
            )

        if filter_matches is None:
            found = search(range(len(vectors)), searched)
        else:
            found = self._filtered(search, len(vectors), filter_matches, searched)
        return [
            RetrievedPrompt(
                self._template.build(
                    matches[:k],
                    shown,
                    count_tokens=count_tokens,
                    max_tokens=max_tokens,
                ),
                tuple(matches[:k]),
                vector,
                tuple(matches),
            )
            for matches, shown, vector, k in zip(
                found, objects, vectors, shown_matches, strict=True
            )
        ]

    def _filtered(
        self,
        search: Callable[[Sequence[int], int], list[list[Match]]],
        count: int,
        filter_matches: MatchFilter,
        wanted: int,
    ) -> list[list[Match]]:
        """Searches enough matches that the filter keeps, farther away where too few are left."""
        found = search(range(count), wanted * _SPARE)
        for index, matches in enumerate(found):
            k = wanted * _SPARE
            kept = filter_matches(index, matches)
            while len(kept) < wanted and len(matches) == k:  # else nothing is farther away
                k *= _SPARE
                matches = search([index], k)[0]
                kept = filter_matches(index, matches)
            found[index] = kept[:wanted]
        return found
