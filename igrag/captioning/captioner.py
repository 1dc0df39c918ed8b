"""The pipeline: image -> similar images -> prompt -> caption."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image

from igrag.captioning.generator import CaptionGenerator
from igrag.captioning.prompt_template import PromptTemplate
from igrag.data.coco import DetectedObject
from igrag.retrieval.image_encoder import ImageEncoder
from igrag.retrieval.knowledge_base import KnowledgeBase, Match

Detector = Callable[[Image.Image, str], Sequence[DetectedObject]]


@dataclass(frozen=True, slots=True)
class CaptionResult:
    """What became of one image."""

    caption: str
    prompt: str
    matches: tuple[Match, ...]


class Captioner:
    """Captions images by retrieval.

    Args:
        encoder: Turns images into vectors.
        knowledge_base: Made with the same encoder.
        template: Builds the prompt.
        generator: Writes the caption; its writer may be switched between calls.
        top_k: How many similar images to use.
        detector: Finds objects in a image, given the image and its file name.
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
        self._encoder = encoder
        self._knowledge_base = knowledge_base
        self._template = template
        self.generator = generator
        self._top_k = top_k
        self._detector = detector

    def caption(self, images: Sequence[Image.Image], names: Sequence[str]) -> list[CaptionResult]:
        """Captions a batch of RGB images; `names` are their file names."""
        vectors = self._encoder.encode(images)  # [B, D]
        found = self._knowledge_base.search(vectors, self._top_k)
        prompts = [
            self._build_prompt(image, name, matches)
            for image, name, matches in zip(images, names, found, strict=True)
        ]
        captions = self.generator.generate(prompts)
        return [
            CaptionResult(caption, prompt, tuple(matches))
            for caption, prompt, matches in zip(captions, prompts, found, strict=True)
        ]

    def _build_prompt(self, image: Image.Image, name: str, matches: Sequence[Match]) -> str:
        return self._template.build(
            matches,
            self._detector(image, name) if self._detector else (),
            count_tokens=self.generator.count_tokens,
            max_tokens=self.generator.max_source_length,
        )
