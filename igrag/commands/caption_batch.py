"""Captions a batch of images, and makes the lines of its results: text or JSON."""

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from igrag.captioning.caption_requests import CaptionRequest
from igrag.config import Config
from igrag.errors import ImageError

if TYPE_CHECKING:  # torch and transformers take seconds to load: --help must not wait for them.
    from PIL import Image

    from igrag.captioning.captioner import Captioner, CaptionResult
    from igrag.captioning.generator import GenerativeModel
    from igrag.commands.clip_scores import ScoreCaptions


def caption_batch(
    captioner: "Captioner",
    methods: "dict[str, GenerativeModel]",
    requests: Sequence[CaptionRequest],
    config: Config,
    failures: list[str],
    *,
    by_name: bool,
) -> "Iterator[tuple[CaptionRequest, list[CaptionResult], float, dict[str, str]]]":
    """Captions a batch; errors of images that cannot be opened are added to `failures`.

    With `by_name` the model has soft prompts by name, whether or not a batch uses them.

    Yields each request, a result for each of its soft prompts, the seconds that one took, and the
    image's captions by method.
    """
    from igrag.data.images import open_image

    started = time.perf_counter()
    batch = []
    for request in requests:
        try:
            batch.append((request, open_image(request.image)))
        except ImageError as error:
            failures.append(str(error))
    if not batch:
        return
    opened, images = zip(*batch, strict=True)
    found = _caption_opened(captioner, opened, images, config, by_name=by_name)
    seconds = (time.perf_counter() - started) / sum(map(len, found))
    first = [results[0] for results in found]
    compared = _caption_with_methods(methods, captioner, first, config)
    for request, results, captions in zip(opened, found, compared, strict=True):
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
    from prompt_tuning.methods import configured_method

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


def _caption_opened(
    captioner: "Captioner",
    requests: Sequence[CaptionRequest],
    images: "Sequence[Image.Image]",
    config: Config,
    *,
    by_name: bool,
) -> "list[list[CaptionResult]]":
    """Captions a batch; returns for each request a result for each of its soft prompts."""
    names = [request.image.name for request in requests]
    if not by_name:
        return [[result] for result in captioner.caption(images, names)]
    from prompt_tuning.methods import name_in_tuner

    prompt_names = [[name_in_tuner(config, n) for n in each.prompt_names] for each in requests]
    return captioner.caption_with_prompts(images, names, prompt_names)
