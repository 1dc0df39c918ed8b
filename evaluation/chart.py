"""The comparison as a chart: a bar with its 95% interval for each method, a panel per metric."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from evaluation.scoring import MethodScores, headline_metrics
from igrag.metrics import Metric
from igrag.training.chart_style import COLORS, DPI, GRAY, INK, STYLE, save_figure

_BASELINE_COLOR = "#999999"
_PANEL_WIDTH = 3.0  # inches
_ROW_HEIGHT, _FRAME_HEIGHT = 0.42, 1.35  # inches: of a method, and of titles and axes together
_LEAST_RANGE = 0.02  # share of a metric's range that an axis shows
_NAME_LENGTH, _SUBTITLE_LENGTH = 28, 110  # characters
_STYLE = {
    **STYLE,
    "text.parse_math": False,  # A name with dollar signs is not a formula.
    "axes.grid.axis": "x",
    "axes.spines.left": False,
    "ytick.color": INK,
    "ytick.left": False,
}


def draw_comparison(
    methods: Sequence[MethodScores], path: Path, *, title: str, subtitle: str, baseline: str
) -> None:
    """Draws all methods into a PNG, atomically; the same scores give the same bytes.

    Args:
        methods: The scores of the methods, from the top down.
        path: The file.
        title: First line.
        subtitle: Second line.
        baseline: The method that the others are compared with; it is gray.
    """
    metrics = headline_metrics(methods)
    height = _FRAME_HEIGHT + _ROW_HEIGHT * len(methods)
    # Figure instead of pyplot: pyplot keeps a global state and looks for a display.
    with style.context(["default", _STYLE]):
        # Room for title and subtitle, whatever the height.
        layout = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - 0.62 / height), w_pad=0.12)
        size = (_PANEL_WIDTH * max(3, len(metrics)), height)
        figure = Figure(figsize=size, dpi=DPI, layout=layout)
        figure.text(0.012, 1 - 0.27 / height, title, fontsize=14, fontweight="bold")
        figure.text(0.012, 1 - 0.52 / height, _shorten(subtitle, _SUBTITLE_LENGTH), color=GRAY)
        panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for axes, metric in zip(panels, metrics, strict=True):
            _draw_panel(axes, methods, metric, method_colors(methods, baseline))
        save_figure(figure, path)


def method_colors(methods: Sequence[MethodScores], baseline: str) -> list[str]:
    """Returns the color of every method in the chart and the report; the baseline is gray."""
    others = [method.name for method in methods if method.name != baseline]
    return [
        _BASELINE_COLOR if method.name == baseline
        else COLORS[others.index(method.name) % len(COLORS)]
        for method in methods
    ]  # fmt: skip


def _draw_panel(
    axes: Axes, methods: Sequence[MethodScores], metric: Metric, colors: Sequence[str]
) -> None:
    axes.set_title(metric.label)
    axes.set_yticks(range(len(methods)), [_shorten(each.name, _NAME_LENGTH) for each in methods])
    axes.set_ylim(len(methods) - 0.5, -0.5)  # The first method on top.
    right = 0.0
    for row, (method, color) in enumerate(zip(methods, colors, strict=True)):
        value = method.value(metric)
        if value is None:
            axes.text(0, row, " n/a", va="center", color=GRAY)
            continue
        axes.barh(row, value, height=0.62, color=color)
        interval = method.intervals.get(metric.key)
        end = interval.high if interval else value
        if interval:
            # A percentile interval need not contain the score itself.
            reach = [[max(0.0, value - interval.low)], [max(0.0, interval.high - value)]]
            axes.errorbar(value, row, xerr=reach, color=INK, capsize=3, linewidth=1.2)
        right = max(right, end)
        axes.annotate(
            f"{value:.3f}", (end, row), xytext=(5, 0), textcoords="offset points", va="center"
        )
    # At least some of the range: noise must not look like a score. Figures need room on the right.
    axes.set_xlim(0, 1.28 * max(right, _LEAST_RANGE * metric.maximum))


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
