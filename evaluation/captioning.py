"""Captions the images by every method, with one model in memory."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from evaluation.dataset import EvaluationImage
from igrag.captioning.captioner import Detector
from igrag.captioning.generator import CaptionGenerator, Writer
from igrag.captioning.prompt_template import PromptTemplate
from igrag.data.images import open_image
from igrag.retrieval.image_encoder import ImageEncoder
from igrag.retrieval.knowledge_base import KnowledgeBase

# Prompts that one method captions (in batches of about equal length) before the next one does.
_CHUNK = 64


@dataclass(frozen=True, slots=True)
class GeneratedCaptions:
    """Captions in the order of the prompts, and the seconds that generating them took."""

    captions: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Retriever:
    """Builds prompts as captioning does, but never retrieves the image itself or a copy of it.

    Attributes:
        encoder: Encodes the images.
        knowledge_base: Made with the same encoder.
        template: The prompt template.
        detector: Detects objects, if the template has any.
        top_k: Images to retrieve.
        batch_size: Images encoded at once.
    """

    encoder: ImageEncoder
    knowledge_base: KnowledgeBase
    template: PromptTemplate
    detector: Detector | None
    top_k: int
    batch_size: int

    def build_prompts(
        self, images: Sequence[EvaluationImage], generator: CaptionGenerator
    ) -> list[str]:
        """Returns one prompt per image, short enough for the generator.

        Raises:
            ImageError: An image cannot be opened.
        """
        prompts: list[str] = []
        with tqdm(total=len(images), desc="retrieval", unit="image", disable=None) as bar:
            for start in range(0, len(images), self.batch_size):
                batch = images[start : start + self.batch_size]
                prompts += self._build_batch(batch, generator)
                bar.update(len(batch))
        return prompts

    def _build_batch(
        self, images: Sequence[EvaluationImage], generator: CaptionGenerator
    ) -> list[str]:
        files = [image.file or Path() for image in images]
        opened = [open_image(file) for file in files]
        # The image's own captions are its references: retrieving them would leak the answer.
        found = self.knowledge_base.search(
            self.encoder.encode(opened),  # [B, D]
            self.top_k,
            skip_ids=[image.image_id for image in images],
            skip_duplicates=True,
        )
        return [
            self.template.build(
                matches,
                self.detector(pixels, file.name) if self.detector else (),
                count_tokens=generator.count_tokens,
                max_tokens=generator.max_source_length,
            )
            for matches, pixels, file in zip(found, opened, files, strict=True)
        ]


def generate_captions(
    generator: CaptionGenerator, models: Mapping[str, Writer], prompts: Sequence[str]
) -> dict[str, GeneratedCaptions]:
    """Captions all prompts by every method.

    The methods take turns, so that a load peak on the machine affects the time of all of them.

    Args:
        generator: The caption generator.
        models: By method, the model that generates the tokens.
        prompts: One per image.

    Returns:
        The captions by method.
    """
    for model in models.values():  # Warm-up: the first call of each is not timed.
        generator.switch_to(model)
        generator.generate(prompts[:1])
    captions: dict[str, list[str]] = {name: [] for name in models}
    seconds = dict.fromkeys(models, 0.0)
    total = len(prompts) * len(models)
    with tqdm(total=total, desc="captions", unit="caption", file=sys.stderr, disable=None) as bar:
        for start in range(0, len(prompts), _CHUNK):
            chunk = prompts[start : start + _CHUNK]
            for name, model in models.items():
                generator.switch_to(model)
                started = time.perf_counter()
                captions[name] += generator.generate(chunk)
                seconds[name] += time.perf_counter() - started
                bar.update(len(chunk))
    generator.switch_to(None)
    return {name: GeneratedCaptions(tuple(captions[name]), seconds[name]) for name in models}
