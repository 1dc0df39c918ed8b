"""Captions batches of requests that differ in method, soft prompt and top_k."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from PIL import Image

from igrag.captioning import output
from igrag.captioning.captioner import Captioner, CaptionResult
from igrag.captioning.generator import GenerativeModel

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
