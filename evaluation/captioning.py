"""Captions the images by every method, with one model in memory."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from evaluation.dataset import EvaluationImage
from evaluation.partial_captions import PartialCaptions
from igrag.captioning.generator import CaptionGenerator, GenerativeModel
from igrag.captioning.retrieval_prompts import EncodedImage, RetrievalPrompts, RetrievedPrompt
from igrag.data.images import open_image

# Prompts that one method captions (in batches of about equal length) before the next one does.
_CHUNK = 64


@dataclass(frozen=True, slots=True)
class GeneratedCaptions:
    """Captions in the order of the prompts, and the seconds that generating them took."""

    captions: tuple[str, ...]
    seconds: float


def build_prompts(
    retrieval: RetrievalPrompts,
    images: Sequence[EvaluationImage],
    *,
    count_tokens: Callable[[str], int],
    max_tokens: int,
    batch_size: int,
) -> list[RetrievedPrompt]:
    """Builds prompts as captioning does, but never retrieves the image itself or a copy of it.

    Args:
        retrieval: Builds the prompts of a batch.
        images: The images.
        count_tokens: Counts a prompt's tokens.
        max_tokens: Longest prompt in tokens.
        batch_size: Images encoded at once.

    Returns:
        One prompt per image, with its matches.

    Raises:
        ImageError: An image cannot be opened.
    """
    prompts: list[RetrievedPrompt] = []
    with tqdm(total=len(images), desc="retrieval", unit="image", disable=None) as bar:
        together = max(batch_size, retrieval.searched_together)
        for start in range(0, len(images), together):
            batch = images[start : start + together]
            files = [image.file or Path() for image in batch]
            retrieved = retrieval.from_encoded(
                _encode(retrieval, files, batch_size),
                count_tokens=count_tokens,
                max_tokens=max_tokens,
                # The image's own captions are its references: the prompt would hold the answer.
                skip_ids=[image.image_id for image in batch],
                skip_duplicates=True,
            )
            prompts += retrieved
            bar.update(len(batch))
    return prompts


def _encode(
    retrieval: RetrievalPrompts, files: Sequence[Path], batch_size: int
) -> list[EncodedImage]:
    """Opens and encodes images, so many at once."""
    encoded: list[EncodedImage] = []
    for start in range(0, len(files), batch_size):
        batch = files[start : start + batch_size]
        names = [file.name for file in batch]
        encoded += retrieval.encode([open_image(file) for file in batch], names)
    return encoded


def generate_captions(
    generator: CaptionGenerator,
    models: Mapping[str, GenerativeModel],
    prompts: Mapping[str, Sequence[str]],
    *,
    partial: PartialCaptions | None = None,
    vectors: Mapping[str, NDArray[np.float32]] | None = None,
) -> dict[str, GeneratedCaptions]:
    """Captions all images by every method.

    The methods take turns, so that a load peak on the machine affects the time of all of them.

    Args:
        generator: The caption generator.
        models: By method, the model that generates the tokens.
        prompts: By method, one per image.
        partial: Keeps the captions as they come, and has those of an interrupted call.
        vectors: By method that takes them, the vectors of the images [N, D].

    Returns:
        The captions by method.
    """
    vectors = vectors or {}

    def caption(name: str, start: int, end: int) -> list[str]:
        generator.switch_to(models[name])
        shown = list(vectors[name][start:end]) if name in vectors else None
        return generator.generate(prompts[name][start:end], image_vectors=shown)

    for name in models:  # Warm-up: the first call of each is not timed.
        caption(name, 0, 1)
    captions: dict[str, list[str]] = {name: [] for name in models}
    seconds = dict.fromkeys(models, 0.0)
    count = max(map(len, prompts.values()), default=0)
    total = count * len(models)
    with tqdm(total=total, desc="captions", unit="caption", file=sys.stderr, disable=None) as bar:
        for start in range(0, count, _CHUNK):
            for name in models:
                done = None if partial is None else partial.find(name, start)
                if done is None:
                    started = time.perf_counter()
                    texts = caption(name, start, start + _CHUNK)
                    done = texts, time.perf_counter() - started
                    if partial is not None:
                        partial.add(name, start, *done)
                captions[name] += done[0]
                seconds[name] += done[1]
                bar.update(len(done[0]))
    generator.switch_to(None)
    return {name: GeneratedCaptions(tuple(captions[name]), seconds[name]) for name in models}
