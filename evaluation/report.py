"""report.html: images with the captions of every method and the references side by side.

One file that needs nothing else: images and the chart are inlined, scaled down.
"""

import io
import logging
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from evaluation.chart import method_colors
from evaluation.dataset import EvaluationImage
from evaluation.results import Outcome
from evaluation.scoring import CIDER_D, ROUGE_L, Metric, Score
from igrag.data.coco import ImageId
from igrag.data.images import open_image
from igrag.errors import ImageError
from igrag.files import atomic_path
from igrag.metrics import tokenize

_TEMPLATE = "report.html.jinja"
_LONGEST_SIDE, _QUALITY = 360, 78  # pixels and JPEG quality: about 12 kB a photograph
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a caption; `known` if one of the references has it."""

    text: str
    known: bool


@dataclass(frozen=True, slots=True)
class CaptionLine:
    """What one method wrote about a image, and how it scored there."""

    method: str
    color: str
    words: tuple[Word, ...]
    score: float


@dataclass(frozen=True, slots=True)
class Card:
    """A image with its captions.

    Attributes:
        place: Its place in the split.
        image_id: Its id.
        image: As a data URI, None where it cannot be had.
        captions: What the methods wrote.
        references: What people wrote.
        score: Of the best method.
        gain: How much that is above the reference method.
    """

    place: int
    image_id: ImageId
    image: str | None
    captions: tuple[CaptionLine, ...]
    references: tuple[str, ...]
    score: float
    gain: float


def write_report(outcome: Outcome, path: Path, *, chart: Path, most: int) -> None:
    """Writes the report, atomically.

    Args:
        outcome: What to tell.
        path: The file.
        chart: The PNG to show below the table.
        most: Images to show; of more, those with the greatest gains and losses are.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(_TEMPLATE).render(
        outcome=outcome,
        rows=outcome.rows(),
        chart=_data_uri(chart.read_bytes(), "png"),
        metric=_image_metric(outcome).label,
        cards=make_cards(outcome, most=most),
        total=len(outcome.split.images),
    )
    with atomic_path(path) as temporary:
        # A caption may hold half a character, which no file can.
        temporary.write_bytes(page.encode("utf-8", "replace"))


def make_cards(outcome: Outcome, *, most: int) -> list[Card]:
    """Lays out the images, the greatest gain of the best method over the reference first.

    Args:
        outcome: What to tell.
        most: Cards to make; of more images both ends are taken.
    """
    metric = _image_metric(outcome)
    best = _of_images(outcome.best or outcome.scores[0], metric)
    before = next(score for score in outcome.scores if score.name == outcome.reference)
    gains = [after - first for after, first in zip(best, _of_images(before, metric), strict=True)]
    order = sorted(range(len(best)), key=lambda place: (gains[place], best[place]), reverse=True)
    if len(order) > most:
        first, last = most - most // 2, most // 2
        order = [*order[:first], *order[len(order) - last :]]
    images = [outcome.split.images[place] for place in order]
    lines = _caption_lines(outcome, metric)
    return [
        Card(
            place=place,
            image_id=image.image_id,
            image=uri,
            captions=tuple(line[place] for line in lines),
            references=image.references,
            score=best[place],
            gain=gains[place],
        )
        for place, image, uri in zip(order, images, _inline_all(images), strict=True)
    ]


def inline(image: EvaluationImage) -> str | None:
    """Returns a small JPEG of the image as a data URI; None where its file is not known.

    Raises:
        ImageError: The file cannot be opened.
    """
    if image.file is None:
        return None
    thumbnail = open_image(image.file)
    thumbnail.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    thumbnail.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return _data_uri(buffer.getvalue(), "jpeg")


def _inline_all(images: Sequence[EvaluationImage]) -> list[str | None]:
    uris: list[str | None] = []
    problems = []
    for image in images:
        try:
            uris.append(inline(image))
        except ImageError as error:
            problems.append(str(error))
            uris.append(None)
    if problems:
        logger.warning("not shown in the report: %d images: %s", len(problems), problems[0])
    return uris


def _image_metric(outcome: Outcome) -> Metric:
    """BLEU-4 says nothing of a single image; CIDEr-D needs more than one to be defined."""
    return ROUGE_L if outcome.scores[0].images.cider_d is None else CIDER_D


def _of_images(score: Score, metric: Metric) -> list[float]:
    found = metric.statistics(score.images)
    assert found is not None, metric.key
    values: list[float] = found.tolist()
    return values


def _caption_lines(outcome: Outcome, metric: Metric) -> list[list[CaptionLine]]:
    """Returns the lines of each method, in the order of the images."""
    known = [
        {token for text in references for token in tokenize(text)}
        for references in outcome.split.references
    ]
    colors = method_colors(outcome.scores, outcome.reference)
    return [
        [
            CaptionLine(score.name, color, _words(caption, words), value)
            for caption, words, value in zip(
                score.captions, known, _of_images(score, metric), strict=True
            )
        ]
        for score, color in zip(outcome.scores, colors, strict=True)
    ]


def _words(caption: str, known: set[str]) -> tuple[Word, ...]:
    return tuple(Word(text, known.issuperset(tokenize(text))) for text in caption.split())


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{b64encode(content).decode()}"
