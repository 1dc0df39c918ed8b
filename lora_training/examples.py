"""Turns captioned images with their vectors into examples, without showing them their answer."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from igrag.captioning.prompt_template import PromptTemplate
from igrag.data.coco import CaptionedImage, DetectedObject
from igrag.retrieval.knowledge_base import KnowledgeBase, Match
from lora_training.leak_audit import find_caption

# Some of the matches found may give the answer away; so many more are looked up at once.
_SPARE = 2


class ExampleBuilder:
    """Builds examples as captioning builds its prompts, but never from the image itself.

    Args:
        knowledge_base: Where similar images are looked up.
        template: The prompt builder that captioning uses.
        top_k: Matches in a prompt.
        count_tokens: Counts a prompt's tokens.
        max_tokens: Longest prompt in tokens.
        seed: Decides which caption of a image is the target.
    """

    def __init__(
        self,
        knowledge_base: KnowledgeBase,
        template: PromptTemplate,
        *,
        top_k: int,
        count_tokens: Callable[[str], int],
        max_tokens: int,
        seed: int,
    ) -> None:
        self._knowledge_base = knowledge_base
        self._template = template
        self._top_k = top_k
        self._count_tokens = count_tokens
        self._max_tokens = max_tokens
        self._seed = seed

    def build(
        self,
        images: Sequence[CaptionedImage],
        vectors: NDArray[np.float32],
        objects: Sequence[Sequence[DetectedObject]] | None = None,
        *,
        split: str,
    ) -> list[dict[str, Any]]:
        """Builds one example for each image; its vector [B, D] and its objects go with it."""
        found = self._search(images, vectors, self._top_k * _SPARE)
        shown = objects if objects is not None else [()] * len(images)
        return [
            self._example(image, self._enough(image, vector, matches), things, split)
            for image, vector, matches, things in zip(images, vectors, found, shown, strict=True)
        ]

    def _search(
        self, images: Sequence[CaptionedImage], vectors: NDArray[np.float32], k: int
    ) -> list[list[Match]]:
        """Finds matches without the images themselves and without exact copies of them."""
        ids = [image.image_id for image in images]
        return self._knowledge_base.search(vectors, k, skip_ids=ids, skip_duplicates=True)

    def _enough(
        self, image: CaptionedImage, vector: NDArray[np.float32], matches: list[Match]
    ) -> list[Match]:
        """Drops what gives the answer away, looking further where too little is left."""
        wanted = self._top_k * _SPARE
        silent = _without_answers(matches, image.captions)
        while len(silent) < self._top_k and len(matches) == wanted:
            wanted *= _SPARE
            matches = self._search([image], vector[None], wanted)[0]
            silent = _without_answers(matches, image.captions)
        return silent[: self._top_k]

    def _example(
        self,
        image: CaptionedImage,
        matches: list[Match],
        objects: Sequence[DetectedObject],
        split: str,
    ) -> dict[str, Any]:
        target = Random(f"{self._seed}-{image.image_id}").randrange(len(image.captions))
        prompt = self._template.build(
            matches, objects, count_tokens=self._count_tokens, max_tokens=self._max_tokens
        )
        retrieved = [[match.image_id, round(match.score, 3)] for match in matches]
        return {
            "image_id": image.image_id,
            "prompt": prompt,
            "caption": image.captions[target],
            "references": list(image.captions),
            "metadata": {"split": split, "target": target, "retrieved": retrieved},
        }


def _without_answers(matches: Sequence[Match], references: Sequence[str]) -> list[Match]:
    """Leaves out captions that hold a reference word for word, and matches left without any."""
    kept = []
    for match in matches:
        captions = tuple(
            caption for caption in match.captions if find_caption(caption, references) is None
        )
        if captions:
            kept.append(replace(match, captions=captions))
    return kept
