"""Has every method write the captions of a split, after one load of the model."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from evaluation.dataset import EvaluationImage
from igrag.captioning.generator import CaptionGenerator, GenerativeModel
from igrag.captioning.objects import Detector
from igrag.captioning.prompt_template import PromptTemplate
from igrag.data.images import open_image
from igrag.retrieval.image_encoder import ImageEncoder
from igrag.retrieval.knowledge_base import KnowledgeBase

# So many prompts are grouped by length together, then it is the next writer's turn.
_CHUNK = 64


@dataclass(frozen=True, slots=True)
class Written:
    """Captions in the order of the prompts, and the seconds that writing them took."""

    captions: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Retriever:
    """Builds prompts as captioning does, but never from the image itself or a copy of it.

    Attributes:
        encoder: Turns images into vectors.
        knowledge_base: Made with the same encoder.
        template: Builds the prompt.
        detector: Finds objects in a image, if the template shows any.
        top_k: Similar images in a prompt.
        batch_size: Images encoded at once.
    """

    encoder: ImageEncoder
    knowledge_base: KnowledgeBase
    template: PromptTemplate
    detector: Detector | None
    top_k: int
    batch_size: int

    def prompts(self, images: Sequence[EvaluationImage], generator: CaptionGenerator) -> list[str]:
        """Returns one prompt for each image, short enough for the generator.

        Raises:
            ImageError: A image cannot be opened.
        """
        prompts: list[str] = []
        with tqdm(total=len(images), desc="retrieval", unit="image", disable=None) as bar:
            for start in range(0, len(images), self.batch_size):
                batch = images[start : start + self.batch_size]
                prompts += self._build(batch, generator)
                bar.update(len(batch))
        return prompts

    def _build(self, images: Sequence[EvaluationImage], generator: CaptionGenerator) -> list[str]:
        files = [image.file or Path() for image in images]
        opened = [open_image(file) for file in files]
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


def write_captions(
    generator: CaptionGenerator, writers: Mapping[str, GenerativeModel], prompts: Sequence[str]
) -> dict[str, Written]:
    """Has each writer caption all prompts.

    They take turns, so that a moment in which the machine is busy counts for all of them.

    Args:
        generator: Around the model that is loaded once.
        writers: By name.
        prompts: One for each image.

    Returns:
        What each wrote, by name.
    """
    for writer in writers.values():  # The first call of each sets things up; it is not timed.
        generator.switch_to(writer)
        generator.generate(prompts[:1])
    captions: dict[str, list[str]] = {name: [] for name in writers}
    seconds = dict.fromkeys(writers, 0.0)
    total = len(prompts) * len(writers)
    with tqdm(total=total, desc="captions", unit="caption", file=sys.stderr, disable=None) as bar:
        for start in range(0, len(prompts), _CHUNK):
            chunk = prompts[start : start + _CHUNK]
            for name, writer in writers.items():
                generator.switch_to(writer)
                started = time.perf_counter()
                captions[name] += generator.generate(chunk)
                seconds[name] += time.perf_counter() - started
                bar.update(len(chunk))
    generator.switch_to(None)
    return {name: Written(tuple(captions[name]), seconds[name]) for name in writers}
