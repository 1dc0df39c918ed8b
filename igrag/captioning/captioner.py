"""The pipeline: image -> similar images -> prompt -> caption."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from igrag.captioning.generator import CaptionGenerator
from igrag.captioning.objects import Detector
from igrag.captioning.prompt_template import PromptTemplate
from igrag.captioning.retrieval_prompts import EncodedImage, RetrievalPrompts, RetrievedPrompt
from igrag.retrieval.image_encoder import ImageEncoder
from igrag.retrieval.knowledge_base import KnowledgeBase, Match


@dataclass(frozen=True, slots=True)
class CaptionResult:
    """The caption of one image.

    Attributes:
        caption: The caption.
        prompt: The prompt that it came from.
        matches: The similar images in the prompt, the nearest first.
        vector: The image's unit vector [D].
    """

    caption: str
    prompt: str
    matches: tuple[Match, ...]
    vector: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)


class Captioner:
    """Captions images by retrieval.

    Args:
        encoder: Turns images into vectors.
        knowledge_base: Made with the same encoder.
        template: Builds the prompt.
        generator: Generates the caption; its model may be switched between calls.
        top_k: Similar images in a prompt.
        detector: Finds objects in an image, given the image and its file name.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        knowledge_base: KnowledgeBase,
        template: PromptTemplate,
        generator: CaptionGenerator,
        *,
        top_k: int,
        detector: Detector | None = None,
    ) -> None:
        self.generator = generator
        self._prompts = RetrievalPrompts(
            encoder, knowledge_base, template, top_k=top_k, detector=detector
        )

    def caption(
        self,
        images: Sequence[Image.Image],
        names: Sequence[str] | None = None,
        *,
        top_k: Sequence[int] | None = None,
    ) -> list[CaptionResult]:
        """Captions a batch of RGB images.

        Args:
            images: The images, as `open_image` reads them.
            names: Their file names, for a detector that looks objects up by them.
            top_k: For each image the similar images in its prompt; by default `top_k` of all.
        """
        return self.caption_retrieved(self.retrieve(images, names or [""] * len(images), top_k))

    def caption_retrieved(self, retrieved: Sequence[RetrievedPrompt]) -> list[CaptionResult]:
        """Captions a batch of images whose prompts are built."""
        captions = self.generator.generate(
            [each.prompt for each in retrieved],
            image_vectors=[each.vector for each in retrieved],
        )
        return [
            CaptionResult(caption, each.prompt, each.matches, each.vector)
            for caption, each in zip(captions, retrieved, strict=True)
        ]

    @property
    def searched_together(self) -> int:
        """How many images are best retrieved at once; 1: as many as there are."""
        return self._prompts.searched_together

    def encode(self, images: Sequence[Image.Image], names: Sequence[str]) -> list[EncodedImage]:
        """Encodes a batch of RGB images, for `retrieve_encoded`."""
        return self._prompts.encode(images, names)

    def retrieve(
        self,
        images: Sequence[Image.Image],
        names: Sequence[str],
        top_k: Sequence[int] | None = None,
    ) -> list[RetrievedPrompt]:
        """Finds similar images of a batch of RGB images, and builds the prompts; see `caption`."""
        return self.retrieve_encoded(self.encode(images, names), top_k)

    def retrieve_encoded(
        self, images: Sequence[EncodedImage], top_k: Sequence[int] | None = None
    ) -> list[RetrievedPrompt]:
        """Finds similar images of any number of encoded images at once; see `retrieve`."""
        return self._prompts.from_encoded(
            images,
            count_tokens=self.generator.count_tokens,
            max_tokens=self.generator.max_source_length,
            top_k=top_k,
        )

    def caption_with_prompts(
        self,
        images: Sequence[Image.Image],
        names: Sequence[str],
        prompt_names: Sequence[Sequence[str | None]],
        *,
        top_k: Sequence[int] | None = None,
    ) -> list[list[CaptionResult]]:
        """Captions a batch of RGB images with soft prompts by name, several in one batch.

        Args:
            images: The images.
            names: Their file names.
            prompt_names: For each image its soft prompts, None for no prompt. The generator's model
                must be a PromptTuner that has them.
            top_k: For each image the similar images in its prompt; by default `top_k` of all.

        Returns:
            For each image a result for each of its soft prompts.
        """
        return self.caption_retrieved_with_prompts(
            self.retrieve(images, names, top_k), prompt_names
        )

    def caption_retrieved_with_prompts(
        self, retrieved: Sequence[RetrievedPrompt], prompt_names: Sequence[Sequence[str | None]]
    ) -> list[list[CaptionResult]]:
        """Captions a batch of images whose prompts are built; see `caption_with_prompts`."""
        pairs = [
            (each, name)
            for each, wanted in zip(retrieved, prompt_names, strict=True)
            for name in wanted
        ]
        captions = self.generator.generate(
            [each.prompt for each, _ in pairs],
            prompt_names=[name for _, name in pairs],
            image_vectors=[each.vector for each, _ in pairs],
        )
        results = (
            CaptionResult(caption, each.prompt, each.matches, each.vector)
            for caption, (each, _) in zip(captions, pairs, strict=True)
        )
        return [list(islice(results, len(wanted))) for wanted in prompt_names]
