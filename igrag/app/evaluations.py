"""What an evaluation's folder shows: scores as bars with their intervals, and its report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from igrag.app import markup
from igrag.app.folders import Folders
from igrag.app.texts import Texts
from igrag.errors import IgragError
from igrag.files import read_json
from igrag.metrics import Metric, format_score, registered_metrics

METRICS_NAME, REPORT_NAME = "metrics.json", "report.html"


@dataclass(frozen=True, slots=True)
class ScoreBar:
    """A score with its interval; lengths are percentages of the longest bar of its metric."""

    text: str
    length: float = 0.0
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """The scores of a method, in the order of the metrics."""

    name: str
    bars: Sequence[ScoreBar]


class Evaluations:
    """The evaluations that the page offers.

    Args:
        roots: Where they are looked for, by the name that is shown.
    """

    def __init__(self, roots: Mapping[str, Path]) -> None:
        self._folders = Folders(roots, lambda folder: (folder / METRICS_NAME).is_file())

    def names(self) -> list[str]:
        """Returns the names of the evaluations that there are now."""
        return list(self._folders.find())

    def scores(self, name: str | None, order: str | None, texts: Texts) -> str:
        """Returns the scores, by the metric with the key `order` from the best down, as HTML."""
        folder = self._folders.find().get(name or "")
        if folder is None:
            return markup.status(texts["no_evaluations"])
        try:
            return _scores(_methods(folder / METRICS_NAME), order, texts)
        except IgragError as error:
            return markup.error(str(error))

    def report(self, name: str | None, texts: Texts) -> str:
        """Returns the report of images, with its own search and order, as HTML."""
        folder = self._folders.find().get(name or "")
        return "" if folder is None else _report(folder / REPORT_NAME, texts)


def metrics_of(methods: Mapping[str, Mapping[str, Any]]) -> list[Metric]:
    """Returns the metrics of the table that some method has a score of."""
    return [
        metric for metric in registered_metrics()
        if metric.headline and any(_number(each.get(metric.key)) for each in methods.values())
    ]  # fmt: skip


def _scores(methods: Mapping[str, Mapping[str, Any]], order: str | None, texts: Texts) -> str:
    metrics = metrics_of(methods)
    names = list(methods)
    if order in [metric.key for metric in metrics]:
        names.sort(key=lambda name: _number(methods[name].get(order)) or 0.0, reverse=True)
    longest = {metric.key: _longest(methods, metric.key) for metric in metrics}
    rows = [
        ScoreRow(name, [_bar(methods[name], metric, longest[metric.key]) for metric in metrics])
        for name in names
    ]
    return markup.fill("scores", texts, metrics=metrics, rows=rows, order=order)


def _bar(method: Mapping[str, Any], metric: Metric, longest: float) -> ScoreBar:
    value = _number(method.get(metric.key))
    if value is None:
        return ScoreBar(format_score(None))
    low, high = _interval(method, metric.key)
    if low is None or high is None:
        return ScoreBar(format_score(value), 100 * value / longest)
    text = f"{format_score(value)} ({format_score(low)} – {format_score(high)})"
    return ScoreBar(text, 100 * value / longest, 100 * low / longest, 100 * high / longest)


def _longest(methods: Mapping[str, Mapping[str, Any]], key: str) -> float:
    ends = [
        end for each in methods.values()
        for end in (_number(each.get(key)), _interval(each, key)[1]) if end is not None
    ]  # fmt: skip
    return max(ends, default=0.0) or 1.0


def _interval(method: Mapping[str, Any], key: str) -> tuple[float | None, float | None]:
    found = method.get("intervals")
    ends = found.get(key) if isinstance(found, dict) else None
    if not isinstance(ends, list) or len(ends) != 2:
        return None, None
    return _number(ends[0]), _number(ends[1])


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else None  # type: ignore[arg-type]


def _methods(path: Path) -> dict[str, dict[str, Any]]:
    content = read_json(path)
    methods = content.get("methods") if isinstance(content, dict) else None
    if not isinstance(methods, dict):
        return {}
    return {name: each for name, each in methods.items() if isinstance(each, dict)}


def _report(path: Path, texts: Texts) -> str:
    try:
        page = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return markup.status(texts["no_report"])
    return markup.frame(page, title=texts["images_captions"])
