"""The comparison as a image: a bar with its 95% interval for each method and metric."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from evaluation.scoring import METRICS, Metric, Score
from igrag.files import atomic_path

# Okabe and Ito's colors, which the color-blind tell apart too ("Color Universal Design", 2008).
_REFERENCE, _COLORS = "#999999", ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_INK, _GRAY, _PALE = "#222222", "#666666", "#E4E4E4"
_WIDTH, _DPI = 9.0, 150  # inches; 1350 pixels
_ROW, _AROUND = 0.42, 1.35  # inches: of each method, and of titles and axes
_LONGEST_NAME, _LONGEST_LINE = 28, 110  # characters
_STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],  # Comes with matplotlib, so it is the same everywhere.
    "font.size": 9.5,
    "text.color": _INK,
    "text.parse_math": False,  # A name is not a formula, be there dollar signs in it.
    "axes.axisbelow": True,
    "axes.edgecolor": "#B0B0B0",
    "axes.grid": True,
    "axes.grid.axis": "x",
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "grid.color": _PALE,
    "xtick.color": _GRAY,
    "ytick.color": _INK,
    "ytick.left": False,
}


def draw_comparison(
    scores: Sequence[Score], path: Path, *, title: str, subtitle: str, reference: str
) -> None:
    """Draws all methods into a PNG, atomically; the same scores give the same bytes.

    Args:
        scores: Of the methods, from the top down.
        path: The file.
        title: Its first line.
        subtitle: Its second line.
        reference: The method that the others are compared with; it is gray.
    """
    height = _AROUND + _ROW * len(scores)
    # A figure of its own, without pyplot: no window, no state that others share.
    with style.context(["default", _STYLE]), atomic_path(path) as temporary:
        # Room for the two lines of the headline, whatever the height.
        layout = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - 0.62 / height), w_pad=0.12)
        figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, layout=layout)
        figure.text(0.012, 1 - 0.27 / height, title, fontsize=14, fontweight="bold")
        figure.text(0.012, 1 - 0.52 / height, _short(subtitle, _LONGEST_LINE), color=_GRAY)
        panels = figure.subplots(1, len(METRICS), sharey=True)
        for axes, metric in zip(panels, METRICS, strict=True):
            _draw_panel(axes, scores, metric, method_colors(scores, reference))
        figure.savefig(temporary, format="png", dpi=_DPI, metadata={"Software": None})


def method_colors(scores: Sequence[Score], reference: str) -> list[str]:
    """Gives every method its color, the reference gray, in the chart and in the report."""
    others = [score.name for score in scores if score.name != reference]
    return [
        _REFERENCE if score.name == reference else _COLORS[others.index(score.name) % len(_COLORS)]
        for score in scores
    ]


def _draw_panel(axes: Axes, scores: Sequence[Score], metric: Metric, colors: Sequence[str]) -> None:
    axes.set_title(metric.label)
    axes.set_yticks(range(len(scores)), [_short(score.name, _LONGEST_NAME) for score in scores])
    axes.set_ylim(len(scores) - 0.5, -0.5)  # The first one on top.
    right = 0.0
    for place, (score, color) in enumerate(zip(scores, colors, strict=True)):
        value = score.value(metric)
        if value is None:
            axes.text(0, place, " n/a", va="center", color=_GRAY)
            continue
        axes.barh(place, value, height=0.62, color=color)
        interval = score.intervals.get(metric.key)
        end = interval.high if interval else value
        if interval:
            # A resample's interval need not hold the score of the whole.
            reach = [[max(0.0, value - interval.low)], [max(0.0, interval.high - value)]]
            axes.errorbar(value, place, xerr=reach, color=_INK, capsize=3, linewidth=1.2)
        right = max(right, end)
        axes.annotate(
            f"{value:.3f}", (end, place), xytext=(5, 0), textcoords="offset points", va="center"
        )
    axes.set_xlim(0, right * 1.28 or 1)  # Bars begin at 0; beyond them the figures find room.


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
