"""Training examples of captioned images, whose prompts do not contain their own caption."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from igrag.captioning.objects import Detector, InstancesDetector
from igrag.captioning.prompt_template import PromptTemplate
from igrag.captioning.retrieval_prompts import RetrievalPrompts, RetrievedPrompt
from igrag.data.coco import CaptionedImage, DetectedObject, ImageId
from igrag.data.examples import iter_examples
from igrag.data.images import open_image
from igrag.data.retrieved import describe_retrieved
from igrag.errors import ImageError
from igrag.retrieval.image_encoder import EncoderIdentity
from igrag.retrieval.knowledge_base import KnowledgeBase, Match

if TYPE_CHECKING:  # torch and transformers take seconds to load
    from torch import Tensor

    from igrag.retrieval.image_encoder import ImageEncoder

# A line break counts as a word: a caption that starts in one line does not continue in the next.
_WORD = re.compile(r"\w+(?:['’]\w+)*|\n")


class ExampleBuilder:
    """Builds examples as captioning builds its prompts, but never from the image itself.

    Args:
        knowledge_base: Where similar images are searched.
        template: The prompt template of captioning.
        top_k: Matches in a prompt.
        count_tokens: Returns the number of a prompt's tokens.
        max_tokens: Maximum prompt length in tokens.
        seed: Seed of the choice of the target among an image's captions.
        listed: Matches whose captions each example lists, see `igrag.data.retrieved`; 0 for none.
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
        listed: int = 0,
    ) -> None:
        self._prompts = RetrievalPrompts(
            None, knowledge_base, template, top_k=top_k, nearest=listed
        )
        self._captions_per_match = template.captions_per_match
        self._listed = listed
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
        """Builds one example for each image.

        Neither the image itself, nor an exact copy of it, nor a caption that contains one of its
        own word for word is in its prompt.

        Args:
            images: B images.
            vectors: Their unit vectors [B, D].
            objects: The objects in each prompt; None for none.
            split: Name of the split, for the metadata.
        """
        retrieved = self._prompts.from_vectors(
            vectors,
            objects if objects is not None else [()] * len(images),
            count_tokens=self._count_tokens,
            max_tokens=self._max_tokens,
            skip_ids=[image.image_id for image in images],
            skip_duplicates=True,
            filter_matches=lambda index, matches: _without_captions(
                matches, images[index].captions
            ),
        )
        return [
            self._example(image, found, split)
            for image, found in zip(images, retrieved, strict=True)
        ]

    def _example(
        self, image: CaptionedImage, retrieved: RetrievedPrompt, split: str
    ) -> dict[str, Any]:
        target = Random(f"{self._seed}-{image.image_id}").randrange(len(image.captions))
        matches = [[match.image_id, round(match.score, 3)] for match in retrieved.matches]
        listed = describe_retrieved(
            retrieved.nearest[: self._listed], captions_per_match=self._captions_per_match
        )
        return {
            "image_id": image.image_id,
            "prompt": retrieved.prompt,
            "caption": image.captions[target],
            "references": list(image.captions),
            "metadata": {"split": split, "target": target, "retrieved": matches},
            **({"retrieved": listed} if self._listed else {}),
        }


class ImageVectors:
    """Vectors of captioned images: from the knowledge base if it holds them, else encoded.

    Args:
        knowledge_base: Its vectors are reused.
        images_path: Folder of the images.
        get_encoder: Returns the encoder; called only if an image must be encoded.
        batch_size: Images encoded at once.
        workers: Threads that read images.

    Attributes:
        reused: Number of vectors that came from the knowledge base.
        skipped: Errors of the images that cannot be read.
    """

    def __init__(
        self,
        knowledge_base: KnowledgeBase,
        images_path: Path,
        *,
        get_encoder: "Callable[[], ImageEncoder]",
        batch_size: int,
        workers: int = 1,
    ) -> None:
        self._knowledge_base = knowledge_base
        self._images_path = images_path
        self._get_encoder = get_encoder
        self._batch_size = batch_size
        self._workers = workers
        self.reused = 0
        self.skipped: list[str] = []

    @property
    def encoder(self) -> EncoderIdentity:
        """What makes the vectors, here and in the knowledge base."""
        return self._knowledge_base.encoder

    def __call__(
        self, images: Sequence[CaptionedImage]
    ) -> tuple[list[CaptionedImage], NDArray[np.float32]]:
        """Returns the readable images, in order, and their unit vectors [B, D]."""
        found: dict[int, NDArray[np.float32]] = {}
        missing = []
        for index, image in enumerate(images):
            vector = self._known_vector(image)
            if vector is None:
                missing.append(index)
            else:
                found[index] = vector
        self.reused += len(found)
        if missing:
            found |= self._encode([images[index] for index in missing], missing)
        indices = sorted(found)
        empty = np.empty((0, self._knowledge_base.dimension), np.float32)
        vectors = np.stack([found[index] for index in indices]) if indices else empty
        return [images[index] for index in indices], vectors

    def _known_vector(self, image: CaptionedImage) -> NDArray[np.float32] | None:
        # By id and captions: another data set may number its images alike.
        if self._knowledge_base.captions_of(image.image_id) != image.captions:
            return None
        return self._knowledge_base.vector(image.image_id)

    def _encode(
        self, images: Sequence[CaptionedImage], indices: Sequence[int]
    ) -> dict[int, NDArray[np.float32]]:
        import torch

        encoder = self._get_encoder()
        found: dict[int, NDArray[np.float32]] = {}
        # Decoding and resizing release the interpreter's lock, and go on while the model encodes.
        with ThreadPoolExecutor(self._workers) as pool:
            numbered = zip(
                indices, pool.map(lambda image: self._read(image, encoder), images), strict=True
            )
            while batch := list(islice(numbered, self._batch_size)):
                self.skipped += [read for _, read in batch if isinstance(read, str)]
                pixels = {index: read for index, read in batch if not isinstance(read, str)}
                if pixels:
                    vectors = encoder.encode_pixels(torch.stack(list(pixels.values())))
                    found |= dict(zip(pixels, vectors, strict=True))
        return found

    def _read(self, image: CaptionedImage, encoder: "ImageEncoder") -> "Tensor | str":
        """Returns the pixels [3, h, w] of an image, or why it has none."""
        try:
            return encoder.preprocess(open_image(self._images_path / image.file_name))
        except ImageError as error:
            return str(error)


class ImageObjects:
    """Objects for the prompts of captioned images, found as captioning finds them.

    Args:
        detector: The detector of captioning; None if its prompts show no objects.
        images_path: Folder of the images; they are opened only for a detection model.

    Attributes:
        skipped: Errors of the images that cannot be read.
        unlisted: Number of images that the instances file does not list.
    """

    def __init__(self, detector: Detector | None, images_path: Path) -> None:
        self._detector = detector
        self._images_path = images_path
        self.skipped: list[str] = []
        self.unlisted = 0

    def __call__(
        self, images: Sequence[CaptionedImage]
    ) -> tuple[list[int], list[Sequence[DetectedObject]]]:
        """Returns the indices of the readable images, in order, and the objects of each."""
        indices, found = [], []
        for index, image in enumerate(images):
            try:
                objects = self._find(image.file_name)
            except ImageError as error:
                self.skipped.append(str(error))
                continue
            indices.append(index)
            found.append(objects)
        return indices, found

    def _find(self, name: str) -> Sequence[DetectedObject]:
        if self._detector is None:
            return ()
        if not isinstance(self._detector, InstancesDetector):
            return self._detector(open_image(self._images_path / name), name)
        objects = self._detector.look_up(name)
        self.unlisted += objects is None
        return objects or ()


@dataclass(frozen=True, slots=True)
class Leak:
    """An example whose prompt contains its target or one of its references word for word."""

    number: int
    image_id: ImageId | None
    caption: str


def audit_leaks(path: Path) -> Iterator[Leak]:
    """Yields the leaks of a JSONL file, at most one per example.

    Raises:
        DataError: The file cannot be read (see `iter_examples`).
    """
    for number, example in enumerate(iter_examples(path), 1):
        caption = find_caption(example.prompt, (example.caption, *example.references))
        if caption is not None:
            yield Leak(number, example.image_id, caption)


def find_caption(text: str, captions: Iterable[str]) -> str | None:
    """Returns the first of the captions that `text` contains word for word, or None.

    Case and punctuation are ignored; a caption without any word is never found.
    """
    content = _normalize(text)
    return next(
        (caption for caption in captions if (words := _normalize(caption)) and words in content),
        None,
    )


@lru_cache(maxsize=1024)  # An image's references are searched in many texts, one after another.
def _normalize(text: str) -> str:
    """Returns the words and line breaks: lower case, no punctuation, one space around each."""
    words = " ".join(_WORD.findall(text.lower().strip()))
    return f" {words} " if words else ""


def _without_captions(matches: Sequence[Match], references: Sequence[str]) -> list[Match]:
    """Drops captions that contain a reference word for word, and matches left without any."""
    kept = []
    for match in matches:
        captions = tuple(
            caption for caption in match.captions if find_caption(caption, references) is None
        )
        if captions:
            kept.append(replace(match, captions=captions))
    return kept
