"""Captions of one image by several methods, part by part as they are generated."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from igrag.app import markup
from igrag.app.texts import Texts
from igrag.captioning.generator import Decoding
from igrag.captioning.retrieval_prompts import RetrievedPrompt
from igrag.data.coco import ImageId
from igrag.data.images import open_image, read_image
from igrag.errors import IgragError, ImageError
from igrag.serving.engine import CaptionEngine, Choice, Choices
from igrag.training.html_page import inline_image

# An image, its name, what was found, what it is captioned with, and how -> a page as HTML.
Explain = Callable[[Image.Image, str, RetrievedPrompt, Choice, Decoding], str]
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CaptionView:
    """What the page shows, as HTML; None leaves a part as it is."""

    status: str | None = None
    captions: str | None = None
    matches: str | None = None


@dataclass(frozen=True, slots=True)
class CaptionLine:
    """The caption of one method.

    Attributes:
        name: The method.
        text: The caption so far; None before it is begun.
        is_running: Whether more may come.
    """

    name: str
    text: str | None = None
    is_running: bool = False


@dataclass(frozen=True, slots=True)
class ShownMatch:
    """A similar image; `image` is a data URI, None where there is no file of it."""

    image_id: ImageId
    score: float
    captions: Sequence[str]
    image: str | None


class LiveCaptions:
    """Captions images for the page.

    Args:
        engine: The loaded models.
        choices: What they can caption with.
        max_pixels: Maximum of an image's width times height.
        files: The files of the knowledge base's images by id, as far as they are there.
        explain: Makes the page that explains a caption; None where there is none.
    """

    def __init__(
        self,
        engine: CaptionEngine,
        choices: Choices,
        *,
        max_pixels: int,
        files: Mapping[ImageId, Path],
        explain: Explain | None = None,
    ) -> None:
        self._engine = engine
        self._max_pixels = max_pixels
        self._files = files
        self._explain = explain
        self.methods = list(choices.methods)
        self._choices = dict(choices.methods) | _named(choices)

    @property
    def names(self) -> list[str]:
        """All methods and soft prompts to choose from."""
        return list(self._choices)

    @property
    def explained(self) -> list[str]:
        """Those whose captions can be explained."""
        if self._explain is None:
            return []
        return [name for name, choice in self._choices.items() if choice.prompt is not None]

    def caption(
        self, path: Path | None, names: Sequence[str], *, top_k: int, beams: int, texts: Texts
    ) -> Iterator[CaptionView]:
        """Yields what the page shows while an image is captioned.

        Args:
            path: The uploaded file.
            names: What to caption with.
            top_k: Similar images in the prompt.
            beams: Beams; 1 yields each token.
            texts: The texts of the page.
        """
        if path is None or not names:
            text = texts["no_image" if path is None else "no_methods"]
            yield CaptionView(markup.status(text), "", "")
            return
        try:
            yield from self._caption(path, names, top_k, beams, texts)
        except Exception as error:
            yield CaptionView(markup.error(_describe(error, texts)), "", "")

    def explain(self, path: Path | None, name: str, *, top_k: int, beams: int, texts: Texts) -> str:
        """Returns the explanation of a caption, or the reason why there is none, as HTML."""
        if path is None or name not in self.explained or self._explain is None:
            return markup.status(texts["no_image"])
        try:
            image = self._open(path)
            retrieved = self._engine.retrieve(image, path.name, top_k)
            with self._engine.lock:
                page = self._explain(
                    image, path.name, retrieved, self._choices[name], self._decoding(beams)
                )
        except Exception as error:
            return markup.error(_describe(error, texts))
        return markup.frame(page, title=texts["why_title"])

    def _caption(
        self, path: Path, names: Sequence[str], top_k: int, beams: int, texts: Texts
    ) -> Iterator[CaptionView]:
        yield CaptionView(markup.status(texts["retrieving"]))
        retrieved = self._engine.retrieve(self._open(path), path.name, top_k)
        lines = {name: CaptionLine(name) for name in names}

        def shown() -> str:
            return markup.fill("captions", texts, lines=list(lines.values()))

        yield CaptionView(markup.status(texts["writing"]), shown(), self._matches(retrieved, texts))
        for name in names:
            lines[name] = CaptionLine(name, "", is_running=True)
            yield CaptionView(captions=shown())
            decoding = self._decoding(beams)
            for text in self._engine.stream(retrieved, self._choices[name], decoding):
                lines[name] = CaptionLine(name, text, is_running=True)
                yield CaptionView(captions=shown())
            lines[name] = replace(lines[name], is_running=False)
        yield CaptionView(markup.status(texts["done"]), shown())

    def _decoding(self, beams: int) -> Decoding:
        return replace(self._engine.decoding, num_beams=beams)

    def _open(self, path: Path) -> Image.Image:
        # By its name alone: the folder of the upload means nothing to the user.
        with path.open("rb") as stream:
            return read_image(stream, path.name, max_pixels=self._max_pixels)

    def _matches(self, retrieved: RetrievedPrompt, texts: Texts) -> str:
        matches = [
            ShownMatch(
                match.image_id, match.score, match.captions or ("",), self._image(match.image_id)
            )
            for match in retrieved.matches
        ]
        return markup.fill("matches", texts, matches=matches, prompt=retrieved.prompt)

    def _image(self, image_id: ImageId) -> str | None:
        file = self._files.get(image_id)
        try:
            return None if file is None else inline_image(open_image(file))
        except ImageError as error:
            logger.warning("not shown: %s", error)
            return None


def _named(choices: Choices) -> dict[str, Choice]:
    """Returns the soft prompts by name, each with and without the adapter where it can be used."""
    return {
        f"{'lora+' if lora else ''}prompt: {name}": Choice(lora, name, name)
        for lora, names in choices.prompts.items()
        for name in names
    }


def _describe(error: Exception, texts: Texts) -> str:
    """Returns the line that the page shows; the log has what the user of a page cannot know."""
    if isinstance(error, ImageError):
        return str(error)
    logger.error("%s", error, exc_info=not isinstance(error, IgragError))
    return texts["failed"]
