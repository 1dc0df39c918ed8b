"""Captions batches of requests that differ in method, soft prompt and top_k."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import get_close_matches
from threading import Lock
from typing import Any

from PIL import Image

from igrag.captioning import output
from igrag.captioning.captioner import Captioner, CaptionResult
from igrag.captioning.generator import Decoding, GenerativeModel
from igrag.captioning.retrieval_prompts import RetrievedPrompt
from igrag.captioning.streaming import TokenStream

# Results, and a caption for the image of each -> the captions' CLIPScores.
ScoreCaptions = Callable[[Sequence[CaptionResult], Sequence[str]], list[float]]


class ChoiceError(Exception):
    """A request names a method or a soft prompt that there is not: found, expected."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What to caption with.

    Attributes:
        lora: Whether the adapter is enabled.
        prompt: The soft prompt as the model calls it; None for no soft prompt.
        prompt_name: Its name in the configuration; None where it is a method's own.
    """

    lora: bool
    prompt: str | None
    prompt_name: str | None = None


@dataclass(frozen=True, slots=True)
class Choices:
    """What requests can choose from.

    Attributes:
        methods: By name, what a method means.
        default: The method of a request that names none.
        prompts: By whether the adapter is enabled, the names of soft prompts.
    """

    methods: Mapping[str, Choice]
    default: str
    prompts: Mapping[bool, Sequence[str]]

    def find(self, method: str | None, prompt_name: str | None) -> Choice:
        """Returns what a request means.

        Args:
            method: The name of a method; None for the default.
            prompt_name: A soft prompt instead of the method's own; the method then only decides
                on the adapter.

        Raises:
            ChoiceError: One of the names is unknown, or they contradict one another.
        """
        name = self.default if method is None else method
        if name not in self.methods:
            raise ChoiceError(f"method: {_unknown(name, list(self.methods))}")
        chosen = self.methods[name]
        if prompt_name is None:
            return chosen
        if method is not None and chosen.prompt is None:
            raise ChoiceError(
                f"prompt_name: found {prompt_name!r} with the method {name}, which has no soft "
                "prompt; leave out one of the two"
            )
        known = self.prompts.get(chosen.lora, ())
        if prompt_name not in known:
            adapter = "with" if chosen.lora else "without"
            raise ChoiceError(
                f"prompt_name: {_unknown(prompt_name, known)} (soft prompts {adapter} LoRA)"
            )
        return Choice(chosen.lora, prompt_name, prompt_name)

    def prompt_names(self) -> list[str]:
        """Lists the soft prompts by name."""
        return list(dict.fromkeys(name for names in self.prompts.values() for name in names))


@dataclass(frozen=True, slots=True)
class CaptionItem:
    """One image to caption.

    Attributes:
        image: The image, in RGB.
        name: Its name in the result; no file of this name is opened.
        choice: What to caption with.
        top_k: Similar images in its prompt.
    """

    image: Image.Image
    name: str
    choice: Choice
    top_k: int


class CaptionEngine:
    """Captions batches; items that need the adapter and those that do not are separate batches.

    Args:
        captioner: The pipeline.
        models: By whether the adapter is enabled, the model that generates.
        named: By whether the adapter is enabled, whether that model takes names of soft prompts.
        model_name: The language model's name in the results.
        score: Computes CLIPScores; None where the encoder reads no text.

    Attributes:
        lock: Held while one image is captioned, by `retrieve` and `stream`: the models have one
            state. Batches are the caller's to keep apart.
    """

    def __init__(
        self,
        captioner: Captioner,
        models: Mapping[bool, GenerativeModel],
        *,
        named: Mapping[bool, bool],
        model_name: str,
        score: ScoreCaptions | None = None,
    ) -> None:
        self._captioner = captioner
        self._models = models
        self._named = named
        self._model_name = model_name
        self._score = score
        self.lock = Lock()

    @property
    def decoding(self) -> Decoding:
        """How captions are decoded."""
        return self._captioner.generator.decoding

    def retrieve(self, image: Image.Image, name: str, top_k: int) -> RetrievedPrompt:
        """Finds the similar images of an RGB image, and builds its prompt."""
        with self.lock:
            (found,) = self._captioner.retrieve([image], [name], [top_k])
        return found

    def stream(
        self, retrieved: RetrievedPrompt, choice: Choice, decoding: Decoding
    ) -> Iterator[str]:
        """Yields the caption of an image as it grows, a token at a time without beam search.

        The last one is the whole caption. A caller that stops before ends the generation.

        Args:
            retrieved: The image's prompt.
            choice: What to caption with.
            decoding: How to decode.
        """
        tokens = TokenStream()

        def run() -> str:
            try:
                # Held by this thread alone: a caller may never come back for the next token.
                with self.lock:
                    return self._generate(
                        retrieved, choice, decoding, tokens if decoding.num_beams == 1 else None
                    )
            finally:
                tokens.end()

        with ThreadPoolExecutor(1, thread_name_prefix="caption") as thread:
            caption = thread.submit(run)
            try:
                yield from map(self._captioner.generator.read, tokens)
            finally:
                tokens.stop()
            yield caption.result()

    def _generate(
        self,
        retrieved: RetrievedPrompt,
        choice: Choice,
        decoding: Decoding,
        tokens: TokenStream | None,
    ) -> str:
        generator = self._captioner.generator
        generator.switch_to(self._models[choice.lora])
        generator.decode_with(decoding)
        (caption,) = generator.generate(
            [retrieved.prompt],
            prompt_names=[choice.prompt] if self._named[choice.lora] else None,
            image_vectors=[retrieved.vector],
            streamer=tokens,
        )
        return caption

    def caption(self, items: Sequence[CaptionItem]) -> list[dict[str, Any]]:
        """Returns for each item the object that `igrag caption --json` prints."""
        objects: list[dict[str, Any]] = [{} for _ in items]
        for lora in self._models:
            indices = [index for index, item in enumerate(items) if item.choice.lora is lora]
            if indices:
                found = self._caption_group([items[index] for index in indices], lora=lora)
                for index, content in zip(indices, found, strict=True):
                    objects[index] = content
        return objects

    def _caption_group(self, items: Sequence[CaptionItem], *, lora: bool) -> list[dict[str, Any]]:
        started = time.perf_counter()
        self._captioner.generator.switch_to(self._models[lora])
        images = [item.image for item in items]
        names = [item.name for item in items]
        top_k = [item.top_k for item in items]
        if self._named[lora]:
            prompts = [[item.choice.prompt] for item in items]
            found = self._captioner.caption_with_prompts(images, names, prompts, top_k=top_k)
            results = [each for (each,) in found]
        else:
            results = self._captioner.caption(images, names, top_k=top_k)
        captions = [result.caption for result in results]
        scores = self._score(results, captions) if self._score else None
        seconds = round((time.perf_counter() - started) / len(items), 3)
        return [
            self._as_object(item, result, scores[index] if scores else None, seconds)
            for index, (item, result) in enumerate(zip(items, results, strict=True))
        ]

    def _as_object(
        self, item: CaptionItem, result: CaptionResult, score: float | None, seconds: float
    ) -> dict[str, Any]:
        choice = item.choice
        facts: dict[str, Any] = {
            "clip_score": score,
            "model": self._model_name,
            "prompt_tuning": choice.prompt is not None,
            "lora": choice.lora,
        }
        if choice.prompt_name is not None:
            facts["prompt_name"] = choice.prompt_name
        return output.as_object(item.name, result, **facts, seconds=seconds)


def _unknown(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"found {name!r}, {hint}expected one of {', '.join(known) or 'none'}"
