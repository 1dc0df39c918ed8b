"""report.html: pictures with the captions of every method and the references side by side.

One file that needs nothing else: pictures and the chart are inlined, scaled down.
"""

import io
import logging
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from evaluation.chart import method_colours
from evaluation.outcome import Outcome
from evaluation.scoring import CIDER_D, ROUGE_L, Metric, Score
from evaluation.sources import Picture
from igrag.coco import ImageId
from igrag.errors import ImageError
from igrag.files import atomic_path
from igrag.images import open_image
from igrag.metrics import tokenise

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
    """What one method wrote about a picture, and how it scored there."""

    method: str
    colour: str
    words: tuple[Word, ...]
    score: float


@dataclass(frozen=True, slots=True)
class Card:
    """A picture with its captions.

    Attributes:
        place: Its place in the split.
        image_id: Its id.
        picture: As a data URI, None where it cannot be had.
        captions: What the methods wrote.
        references: What people wrote.
        score: Of the best method.
        gain: How much that is above the reference method.
    """

    place: int
    image_id: ImageId
    picture: str | None
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
        most: Pictures to show; of more, those with the greatest gains and losses are.
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
        metric=_picture_metric(outcome).label,
        cards=make_cards(outcome, most=most),
        total=len(outcome.split.pictures),
    )
    with atomic_path(path) as temporary:
        # A caption may hold half a character, which no file can.
        temporary.write_bytes(page.encode("utf-8", "replace"))


def make_cards(outcome: Outcome, *, most: int) -> list[Card]:
    """Lays out the pictures, the greatest gain of the best method over the reference first.

    Args:
        outcome: What to tell.
        most: Cards to make; of more pictures both ends are taken.
    """
    metric = _picture_metric(outcome)
    best = _of_pictures(outcome.best or outcome.scores[0], metric)
    before = next(score for score in outcome.scores if score.name == outcome.reference)
    gains = [after - first for after, first in zip(best, _of_pictures(before, metric), strict=True)]
    order = sorted(range(len(best)), key=lambda place: (gains[place], best[place]), reverse=True)
    if len(order) > most:
        first, last = most - most // 2, most // 2
        order = [*order[:first], *order[len(order) - last :]]
    pictures = [outcome.split.pictures[place] for place in order]
    lines = _caption_lines(outcome, metric)
    return [
        Card(
            place=place,
            image_id=picture.image_id,
            picture=uri,
            captions=tuple(line[place] for line in lines),
            references=picture.references,
            score=best[place],
            gain=gains[place],
        )
        for place, picture, uri in zip(order, pictures, _inline_all(pictures), strict=True)
    ]


def inline(picture: Picture) -> str | None:
    """Returns a small JPEG of the picture as a data URI; None where its file is not known.

    Raises:
        ImageError: The file cannot be opened.
    """
    if picture.file is None:
        return None
    image = open_image(picture.file)
    image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return _data_uri(buffer.getvalue(), "jpeg")


def _inline_all(pictures: Sequence[Picture]) -> list[str | None]:
    uris: list[str | None] = []
    problems = []
    for picture in pictures:
        try:
            uris.append(inline(picture))
        except ImageError as error:
            problems.append(str(error))
            uris.append(None)
    if problems:
        logger.warning("not shown in the report: %d pictures: %s", len(problems), problems[0])
    return uris


def _picture_metric(outcome: Outcome) -> Metric:
    """BLEU-4 says nothing of a single picture; CIDEr-D needs more than one to be defined."""
    return ROUGE_L if outcome.scores[0].pictures.cider_d is None else CIDER_D


def _of_pictures(score: Score, metric: Metric) -> list[float]:
    found = metric.statistics(score.pictures)
    assert found is not None, metric.key
    values: list[float] = found.tolist()
    return values


def _caption_lines(outcome: Outcome, metric: Metric) -> list[list[CaptionLine]]:
    """Returns the lines of each method, in the order of the pictures."""
    known = [
        {token for text in references for token in tokenise(text)}
        for references in outcome.split.references
    ]
    colours = method_colours(outcome.scores, outcome.reference)
    return [
        [
            CaptionLine(score.name, colour, _words(caption, words), value)
            for caption, words, value in zip(
                score.captions, known, _of_pictures(score, metric), strict=True
            )
        ]
        for score, colour in zip(outcome.scores, colours, strict=True)
    ]


def _words(caption: str, known: set[str]) -> tuple[Word, ...]:
    return tuple(Word(text, known.issuperset(tokenise(text))) for text in caption.split())


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{b64encode(content).decode()}"
