"""Has every method write the captions of a split, after one load of the model."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from evaluation.sources import Picture
from igrag.captioner import Detector
from igrag.generator import CaptionGenerator, Writer
from igrag.image_encoder import ImageEncoder
from igrag.images import open_image
from igrag.knowledge_base import KnowledgeBase
from igrag.prompt_template import PromptTemplate

# So many prompts are grouped by length together; the progress bar moves when they are done.
_CHUNK = 256


@dataclass(frozen=True, slots=True)
class Written:
    """Captions in the order of the prompts, and the seconds that writing them took."""

    captions: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Retriever:
    """Builds prompts as captioning does, but never from the picture itself or a copy of it.

    Attributes:
        encoder: Turns pictures into vectors.
        knowledge_base: Made with the same encoder.
        template: Builds the prompt.
        detector: Finds objects in a picture, if the template shows any.
        top_k: Similar pictures in a prompt.
        batch_size: Pictures encoded at once.
    """

    encoder: ImageEncoder
    knowledge_base: KnowledgeBase
    template: PromptTemplate
    detector: Detector | None
    top_k: int
    batch_size: int

    def prompts(self, pictures: Sequence[Picture], generator: CaptionGenerator) -> list[str]:
        """Returns one prompt for each picture, short enough for the generator.

        Raises:
            ImageError: A picture cannot be opened.
        """
        prompts: list[str] = []
        with tqdm(total=len(pictures), desc="retrieval", unit="picture", disable=None) as bar:
            for start in range(0, len(pictures), self.batch_size):
                batch = pictures[start : start + self.batch_size]
                prompts += self._build(batch, generator)
                bar.update(len(batch))
        return prompts

    def _build(self, pictures: Sequence[Picture], generator: CaptionGenerator) -> list[str]:
        files = [picture.file or Path() for picture in pictures]
        images = [open_image(file) for file in files]
        found = self.knowledge_base.search(
            self.encoder.encode(images),  # [B, D]
            self.top_k,
            skip_ids=[picture.image_id for picture in pictures],
            skip_duplicates=True,
        )
        return [
            self.template.build(
                matches,
                self.detector(image, file.name) if self.detector else (),
                count_tokens=generator.count_tokens,
                max_tokens=generator.max_source_length,
            )
            for matches, image, file in zip(found, images, files, strict=True)
        ]


def write_captions(
    generator: CaptionGenerator, writers: Mapping[str, Writer], prompts: Sequence[str]
) -> dict[str, Written]:
    """Has each writer caption all prompts.

    Args:
        generator: Around the model that is loaded once.
        writers: By name.
        prompts: One for each picture.

    Returns:
        What each wrote, by name.
    """
    written = {}
    for name, writer in writers.items():
        generator.switch_to(writer)
        generator.generate(prompts[:1])  # The first call of a writer sets things up; not timed.
        captions: list[str] = []
        with tqdm(
            total=len(prompts), desc=name, unit="caption", file=sys.stderr, disable=None
        ) as bar:
            started = time.perf_counter()
            for start in range(0, len(prompts), _CHUNK):
                captions += generator.generate(prompts[start : start + _CHUNK])
                bar.update(len(captions) - bar.n)
            seconds = time.perf_counter() - started
        written[name] = Written(tuple(captions), seconds)
    generator.switch_to(None)
    return written
