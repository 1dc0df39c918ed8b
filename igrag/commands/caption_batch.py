"""Captions a batch of images, and makes the lines of its results: text or JSON."""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from igrag.captioning.caption_requests import CaptionRequest
from igrag.config import Config
from igrag.errors import ImageError

if TYPE_CHECKING:  # torch and transformers take seconds to load: --help must not wait for them.
    from PIL import Image

    from igrag.captioning.captioner import Captioner, CaptionResult
    from igrag.captioning.generator import GenerativeModel
    from igrag.captioning.retrieval_prompts import EncodedImage, RetrievedPrompt
    from igrag.commands.clip_scores import ScoreCaptions


@dataclass(frozen=True, slots=True)
class RetrievedBatch:
    """A batch of images with their prompts.

    Attributes:
        requests: Those whose images can be opened, B.
        prompts: Their prompts, B.
        failures: The errors of the other images.
        seconds: How long opening, encoding and searching them took.
    """

    requests: "list[CaptionRequest]"
    prompts: "list[RetrievedPrompt]"
    failures: list[str]
    seconds: float


class RetrievedBatches:
    """Batches of images, of which some are searched together where that saves time.

    Args:
        captioner: Encodes and searches.
        requests: The images.
        size: Images of a batch.
    """

    def __init__(
        self, captioner: "Captioner", requests: Sequence[CaptionRequest], size: int
    ) -> None:
        self.together = max(1, captioner.searched_together // size)  # batches
        self._captioner, self._requests, self._size = captioner, requests, size
        self._first, self._group = -1, list[RetrievedBatch]()

    def __len__(self) -> int:
        """Returns the number of batches."""
        return -(-len(self._requests) // self._size)

    def batch(self, number: int) -> RetrievedBatch:
        """Returns a batch; the first of those that are searched together takes the time of all."""
        first = number - number % self.together
        if first != self._first:
            numbers = range(first, min(first + self.together, len(self)))
            self._first, self._group = first, self._retrieve(numbers)
        return self._group[number - first]

    def _retrieve(self, numbers: range) -> list[RetrievedBatch]:
        started = time.perf_counter()
        parts: list[tuple[list[CaptionRequest], list[str]]] = []
        encoded: list[EncodedImage] = []
        for number in numbers:  # Images are large: no more of them at once than a batch.
            batch = self._requests[number * self._size : (number + 1) * self._size]
            opened, images, failures = _open(batch)
            if images:
                names = [request.image.name for request in opened]
                encoded += self._captioner.encode(images, names)
            parts.append((opened, failures))
        prompts = iter(self._captioner.retrieve_encoded(encoded))
        seconds = (time.perf_counter() - started) / max(1, len(encoded))
        return [
            RetrievedBatch(
                opened, list(islice(prompts, len(opened))), failures, seconds * len(opened)
            )
            for opened, failures in parts
        ]


def caption_batch(
    captioner: "Captioner",
    methods: "dict[str, GenerativeModel]",
    batch: RetrievedBatch,
    config: Config,
    *,
    by_name: bool,
) -> "Iterator[tuple[CaptionRequest, list[CaptionResult], float, dict[str, str]]]":
    """Captions a batch.

    With `by_name` the model has soft prompts by name, whether or not a batch uses them.

    Yields each request, a result for each of its soft prompts, the seconds that one took, and the
    image's captions by method.
    """
    if not batch.requests:
        return
    started = time.perf_counter()
    found = _caption_retrieved(captioner, batch, config, by_name=by_name)
    seconds = (batch.seconds + time.perf_counter() - started) / sum(map(len, found))
    first = [results[0] for results in found]
    compared = _caption_with_methods(methods, captioner, first, config)
    for request, results, captions in zip(batch.requests, found, compared, strict=True):
        yield request, results, seconds, captions


def as_text(
    request: CaptionRequest, found: "Sequence[CaptionResult]", captions: dict[str, str]
) -> str:
    """Returns one image's results; `captions` are those of the methods to compare."""
    from igrag.captioning import output

    if request.is_named:
        names = [output.CAPTION if name is None else name for name in request.prompt_names]
        captions = {name: each.caption for name, each in zip(names, found, strict=True)}
    return output.as_text(request.image, found[0], captions)


def as_json(
    path: Path,
    result: "CaptionResult",
    seconds: float,
    facts: dict[str, object],
    *,
    captions: dict[str, str],
    score: "ScoreCaptions | None",
    to_file: bool,
) -> str:
    """Returns one image's result as JSON; `captions` are those of the methods to compare.

    A file is in UTF-8, whatever stdout is. `facts` are more keys of the result.
    """
    from igrag.captioning import output

    texts = [result.caption, *captions.values()]
    scores = score([result] * len(texts), texts) if score else [None] * len(texts)
    facts = {"clip_score": scores[0], **facts, "seconds": round(seconds, 3)}
    if captions:
        facts["captions"] = captions
        facts["clip_scores"] = dict(zip(captions, scores[1:], strict=True))
    ascii_only = not (to_file or output.is_utf8(sys.stdout.encoding))
    return output.as_json(path, result, ascii_only=ascii_only, **facts)


def _caption_with_methods(
    methods: "dict[str, GenerativeModel]",
    captioner: "Captioner",
    results: "Sequence[CaptionResult]",
    config: Config,
) -> list[dict[str, str]]:
    """Generates the captions of a batch with each of the methods to compare.

    Those of the configuration's own method are in `results`.
    """
    captions: list[dict[str, str]] = [{} for _ in results]
    if not methods:
        return captions
    from prompt_tuning.available_prompts import configured_method

    chosen = configured_method(config)
    for name, model in methods.items():
        texts = [result.caption for result in results]
        if name != chosen:
            captioner.generator.switch_to(model)
            texts = captioner.generator.generate(
                [result.prompt for result in results],
                image_vectors=[result.vector for result in results],
            )
        for by_method, text in zip(captions, texts, strict=True):
            by_method[name] = text
    captioner.generator.switch_to(methods[chosen])
    return captions


def _open(
    requests: Sequence[CaptionRequest],
) -> "tuple[list[CaptionRequest], list[Image.Image], list[str]]":
    """Returns the requests whose images can be opened, these images, and the others' errors."""
    from igrag.data.images import open_image

    opened, images, failures = list[CaptionRequest](), [], []
    for request in requests:
        try:
            images.append(open_image(request.image))
            opened.append(request)
        except ImageError as error:
            failures.append(str(error))
    return opened, images, failures


def _caption_retrieved(
    captioner: "Captioner", batch: RetrievedBatch, config: Config, *, by_name: bool
) -> "list[list[CaptionResult]]":
    """Captions a batch; returns for each request a result for each of its soft prompts."""
    if not by_name:
        return [[result] for result in captioner.caption_retrieved(batch.prompts)]
    from prompt_tuning.methods import name_in_tuner

    prompt_names = [
        [name_in_tuner(config, name) for name in request.prompt_names] for request in batch.requests
    ]
    return captioner.caption_retrieved_with_prompts(batch.prompts, prompt_names)
