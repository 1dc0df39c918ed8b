"""report.html: images with the captions of every method and the references side by side.

One file without dependencies: images and the chart are inlined, scaled down.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.chart import method_colors
from evaluation.dataset import EvaluationImage
from evaluation.results import EvaluationResult
from evaluation.scoring import MethodScores, image_metric
from igrag.data.coco import ImageId
from igrag.data.images import open_image
from igrag.errors import ImageError
from igrag.metrics import Metric, tokenize
from igrag.training.html_page import data_uri, inline_image, write_page

_TEMPLATE = "report.html.jinja"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a caption; `known` if one of the references has it."""

    text: str
    known: bool


@dataclass(frozen=True, slots=True)
class CaptionLine:
    """The caption of one method for an image, with its score."""

    method: str
    color: str
    words: tuple[Word, ...]
    score: float


@dataclass(frozen=True, slots=True)
class ImageCard:
    """An image with its captions.

    Attributes:
        index: Its index in the dataset.
        image_id: Its id.
        image: The image as a data URI, None if it is not available.
        captions: The captions of the methods.
        references: The reference captions.
        score: The score of the best method.
        gain: The difference to the baseline's score.
    """

    index: int
    image_id: ImageId
    image: str | None
    captions: tuple[CaptionLine, ...]
    references: tuple[str, ...]
    score: float
    gain: float


def write_report(
    result: EvaluationResult, path: Path, *, charts: Sequence[Path], max_images: int
) -> None:
    """Writes the report, atomically.

    Args:
        result: The evaluation.
        path: The file.
        charts: PNG files: that of the scores in the table, and, if there are any, that of the
            scores by how good retrieval was.
        max_images: Images to show; of more, those with the largest gains and losses are.
    """
    write_page(
        path,
        Path(__file__).with_name(_TEMPLATE),
        result=result,
        rows=result.table(),
        charts=[data_uri(chart.read_bytes(), "png") for chart in charts],
        metric=image_metric(result.methods).label,
        cards=make_cards(result, max_images=max_images),
        total=len(result.dataset.images),
    )


def make_cards(result: EvaluationResult, *, max_images: int) -> list[ImageCard]:
    """Returns the cards of the images, the largest gain of the best method first.

    Args:
        result: The evaluation.
        max_images: Cards to make; of more images, both ends are taken.
    """
    metric = image_metric(result.methods)
    baseline = next(method for method in result.methods if method.name == result.baseline)
    best = _all_scores(result, result.best or baseline, metric)
    before = _all_scores(result, baseline, metric)
    gains = [score - other for score, other in zip(best, before, strict=True)]
    order = sorted(range(len(best)), key=lambda index: (gains[index], best[index]), reverse=True)
    if len(order) > max_images:
        first, last = max_images - max_images // 2, max_images // 2
        order = [*order[:first], *order[len(order) - last :]]
    images = [result.dataset.images[index] for index in order]
    lines = _caption_lines(result, metric)
    return [
        ImageCard(
            index=index,
            image_id=image.image_id,
            image=uri,
            captions=tuple(line[index] for line in lines if index in line),
            references=image.references,
            score=best[index],
            gain=gains[index],
        )
        for index, image, uri in zip(order, images, _inline_images(images), strict=True)
    ]


def _inline_images(images: Sequence[EvaluationImage]) -> list[str | None]:
    """Returns each image as the data URI of a small JPEG; None if there is no readable file."""
    uris: list[str | None] = []
    problems = []
    for image in images:
        try:
            uris.append(inline_image(open_image(image.file)) if image.file else None)
        except ImageError as error:
            problems.append(str(error))
            uris.append(None)
    if problems:
        logger.warning("not shown in the report: %d images: %s", len(problems), problems[0])
    return uris


def _all_scores(result: EvaluationResult, method: MethodScores, metric: Metric) -> list[float]:
    """Returns the score of every image, 0 where the method has no caption."""
    scores = dict(zip(method.image_indices, _image_scores(method, metric), strict=True))
    return [scores.get(index, 0.0) for index in range(len(result.dataset.images))]


def _image_scores(method: MethodScores, metric: Metric) -> list[float]:
    return metric.image_scores(method.scores.scores[metric.key])


def _caption_lines(result: EvaluationResult, metric: Metric) -> list[dict[int, CaptionLine]]:
    """Returns the lines of each method by the image's index."""
    known = [
        {token for text in references for token in tokenize(text)}
        for references in result.dataset.references
    ]
    colors = method_colors(result.methods, result.baseline)
    return [
        {
            index: CaptionLine(method.name, color, _words(caption, known[index]), score)
            for index, caption, score in zip(
                method.image_indices, method.captions, _image_scores(method, metric), strict=True
            )
        }
        for method, color in zip(result.methods, colors, strict=True)
    ]


def _words(caption: str, known: set[str]) -> tuple[Word, ...]:
    return tuple(Word(text, known.issuperset(tokenize(text))) for text in caption.split())
