"""Captions the images by every method, with one model in memory."""

import base64
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from evaluation.dataset import EvaluationImage
from evaluation.partial_captions import PartialCaptions
from igrag.captioning.generator import CaptionGenerator, GenerativeModel
from igrag.captioning.retrieval_prompts import EncodedImage, RetrievalPrompts, RetrievedPrompt
from igrag.data.images import open_image
from igrag.processes import Processes
from igrag.retrieval.knowledge_base import Match

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
    processes: Processes,
    *,
    count_tokens: Callable[[str], int],
    max_tokens: int,
    batch_size: int,
) -> list[RetrievedPrompt]:
    """Builds prompts as captioning does, but never retrieves the image itself or a copy of it.

    Args:
        retrieval: Builds the prompts of a batch.
        images: The images.
        processes: The run's, which share the batches.
        count_tokens: Counts a prompt's tokens.
        max_tokens: Longest prompt in tokens.
        batch_size: Images encoded at once.

    Returns:
        One prompt per image, with its matches, in every process.

    Raises:
        ImageError: An image cannot be opened.
    """
    prompts: list[RetrievedPrompt] = []
    hidden = None if processes.ranks.is_first else True
    together = max(batch_size, retrieval.searched_together)
    with tqdm(total=len(images), desc="retrieval", unit="image", disable=hidden) as bar:

        def build(number: int) -> list[dict[str, Any]]:
            batch = images[number * together : (number + 1) * together]
            files = [image.file or Path() for image in batch]
            retrieved = retrieval.from_encoded(
                _encode(retrieval, files, batch_size),
                count_tokens=count_tokens,
                max_tokens=max_tokens,
                # The image's own captions are its references: the prompt would hold the answer.
                skip_ids=[image.image_id for image in batch],
                skip_duplicates=True,
            )
            bar.update(len(batch) * processes.ranks.size)
            return [_to_json(each) for each in retrieved]

        for batch in processes.everywhere("prompts", -(-len(images) // together), build):
            prompts += map(_from_json, batch)
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


def _to_json(found: RetrievedPrompt) -> dict[str, Any]:
    assert found.vector is not None  # Retrieval encodes every image.
    vector = base64.b64encode(found.vector.astype("<f4").tobytes()).decode()
    matches = [[match.image_id, match.score, match.captions] for match in found.matches]
    return {"prompt": found.prompt, "matches": matches, "vector": vector}


def _from_json(found: Mapping[str, Any]) -> RetrievedPrompt:
    matches = tuple(
        Match(image_id, score, tuple(captions)) for image_id, score, captions in found["matches"]
    )
    vector = np.frombuffer(base64.b64decode(found["vector"]), "<f4")
    return RetrievedPrompt(found["prompt"], matches, vector)


def generate_captions(
    generator: CaptionGenerator,
    models: Mapping[str, GenerativeModel],
    prompts: Mapping[str, Sequence[str]],
    processes: Processes,
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
        processes: The run's, which share the chunks of images.
        partial: Keeps the captions as they come, and has those of an interrupted call; in the
            first process alone.
        vectors: By method that takes them, the vectors of the images [N, D].

    Returns:
        The captions by method, in the first process; none in the others. The seconds are those of
        all processes together.
    """
    vectors = vectors or {}

    def caption(name: str, start: int, end: int) -> list[str]:
        generator.switch_to(models[name])
        shown = list(vectors[name][start:end]) if name in vectors else None
        return generator.generate(prompts[name][start:end], image_vectors=shown)

    for name in models:  # Warm-up: the first call of each is not timed.
        caption(name, 0, 1)
    count = max(map(len, prompts.values()), default=0)
    pieces = [(name, start) for start in range(0, count, _CHUNK) for name in models]
    kept = (lambda name, start: None) if partial is None else partial.find
    done = processes.from_first("done", lambda: [kept(*piece) is not None for piece in pieces])

    def make(number: int) -> tuple[list[str], float] | None:
        if done[number]:
            return None
        name, start = pieces[number]
        started = time.perf_counter()
        texts = caption(name, start, start + _CHUNK)
        return texts, time.perf_counter() - started

    captions: dict[str, list[str]] = {name: [] for name in models}
    seconds = dict.fromkeys(models, 0.0)
    total = count * len(models)
    hidden = None if processes.ranks.is_first else True
    with tqdm(total=total, desc="captions", unit="caption", file=sys.stderr, disable=hidden) as bar:
        made = processes.in_order("captions", len(pieces), make, together=len(models))
        for (name, start), found in zip(pieces, made, strict=False):
            if found is not None and partial is not None:
                partial.add(name, start, *found)
            piece = found or kept(name, start)
            assert piece is not None  # It is done, or was made.
            texts, taken = piece
            captions[name] += texts
            seconds[name] += taken
            bar.update(len(texts))
    generator.switch_to(None)
    return {name: GeneratedCaptions(tuple(captions[name]), seconds[name]) for name in models}
