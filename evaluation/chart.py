"""The comparison as a chart: a bar with its 95% interval for each method, a panel per metric."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from evaluation.scoring import MethodScores, headline_metrics
from igrag.metrics import Metric, format_score
from igrag.training.chart_style import (
    COLORS,
    DPI,
    GRAY,
    INK,
    LEAST_SPAN,
    STYLE,
    save_figure,
    wrap_text,
)

_BASELINE_COLOR = "#999999"
_MOST_COLUMNS = 4  # panels in a row
_TITLE_SIZE, _TEXT_SIZE, _PANEL_TITLE_SIZE = 14.0, STYLE["font.size"], STYLE["axes.titlesize"]
_DIGITS = 3  # of a score; what rounds to 0 is drawn as 0
_INTERVALS = "Bars: scores. Lines: 95% intervals (bootstrap over images)."
_LONE_SCORES = "Bars: scores of all images together."
# Inches.
_PANEL_WIDTH, _NAME_WIDTH, _MARGIN = 3.0, 1.7, 0.11
_LINE_HEIGHT, _ROW_GAP, _AXIS_HEIGHT = 0.155, 0.265, 0.62
_TITLE_HEIGHT, _PANEL_TITLE_HEIGHT, _FOOTER_HEIGHT = 0.26, 0.18, 0.22
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
        subtitle: Below the title.
        baseline: The method that the others are compared with; it is gray.
    """
    metrics = headline_metrics(methods)
    layout = _Layout(methods, metrics, title=title, subtitle=subtitle)
    # Figure instead of pyplot: pyplot keeps a global state and looks for a display.
    with style.context(["default", _STYLE]):
        figure = Figure(figsize=(layout.width, layout.height), dpi=DPI, layout=layout.engine())
        _write_lines(figure, layout.title, layout.height - _MARGIN, _TITLE_HEIGHT, bold=True)
        _write_lines(figure, layout.subtitle, layout.subtitle_top, _LINE_HEIGHT)
        panels = figure.subplots(layout.rows, layout.columns, sharey=True, squeeze=False).flatten()
        colors = method_colors(methods, baseline)
        for axes, metric, label in zip(panels, metrics, layout.labels, strict=False):
            axes.set_title("\n".join(label))
            _draw_panel(axes, methods, metric, colors)
            _name_methods(axes, layout.names)
        for axes in panels[len(metrics) :]:  # the last row's rest
            axes.remove()
        footer = _INTERVALS if any(method.intervals for method in methods) else _LONE_SCORES
        figure.text(_MARGIN / layout.width, 0.09 / layout.height, footer, color=GRAY)
        save_figure(figure, path)


class _Layout:
    """The texts, cut into lines that fit, and the room in inches that they and the panels need.

    Panels stand in rows of at most `_MOST_COLUMNS`, about equally long.
    """

    def __init__(
        self,
        methods: Sequence[MethodScores],
        metrics: Sequence[Metric],
        *,
        title: str,
        subtitle: str,
    ) -> None:
        self.rows = -(-len(metrics) // _MOST_COLUMNS)
        self.columns = -(-len(metrics) // self.rows)
        self.width = _PANEL_WIDTH * max(3, self.columns)  # wide enough for a title
        room = self.width - 2 * _MARGIN
        self.title = wrap_text(title, room, size=_TITLE_SIZE, bold=True)
        self.subtitle = wrap_text(subtitle, room, size=_TEXT_SIZE, most_lines=4)
        self.names = [
            wrap_text(method.name, _NAME_WIDTH, size=_TEXT_SIZE, most_lines=4) for method in methods
        ]
        self.labels = [
            wrap_text(metric.label, 0.75 * _PANEL_WIDTH, size=_PANEL_TITLE_SIZE, bold=True)
            for metric in metrics
        ]
        bar = _ROW_GAP + _LINE_HEIGHT * max(map(len, self.names))
        label = _PANEL_TITLE_HEIGHT * max(map(len, self.labels))
        panel = _AXIS_HEIGHT + label + bar * len(methods)
        self._head = _MARGIN + _TITLE_HEIGHT * len(self.title) + _LINE_HEIGHT * len(self.subtitle)
        self.height = self._head + _MARGIN + panel * self.rows + _FOOTER_HEIGHT

    @property
    def subtitle_top(self) -> float:
        """Where the subtitle begins, from the bottom."""
        return self.height - _MARGIN - _TITLE_HEIGHT * len(self.title)

    def engine(self) -> ConstrainedLayoutEngine:
        """Returns matplotlib's layout of the panels between head and footer."""
        bottom, head = _FOOTER_HEIGHT / self.height, (self._head + _MARGIN) / self.height
        return ConstrainedLayoutEngine(
            rect=(0, bottom, 1, 1 - bottom - head), w_pad=0.12, h_pad=0.08
        )


def method_colors(methods: Sequence[MethodScores], baseline: str) -> list[str]:
    """Returns the color of every method in the chart and the report; the baseline is gray."""
    others = [method.name for method in methods if method.name != baseline]
    return [
        _BASELINE_COLOR if method.name == baseline
        else COLORS[others.index(method.name) % len(COLORS)]
        for method in methods
    ]  # fmt: skip


def _write_lines(
    figure: Figure, lines: Sequence[str], top: float, line_height: float, *, bold: bool = False
) -> None:
    """Writes lines of text from `top` downwards; both lengths in inches."""
    width, height = figure.get_size_inches()
    for number, line in enumerate(lines):
        figure.text(
            _MARGIN / width,
            (top - line_height * number) / height,
            line,
            va="top",
            fontsize=_TITLE_SIZE if bold else _TEXT_SIZE,
            fontweight="bold" if bold else "normal",
            color=INK if bold else GRAY,
        )


def _name_methods(axes: Axes, names: Sequence[Sequence[str]]) -> None:
    axes.set_yticks(range(len(names)), ["\n".join(lines) for lines in names])
    axes.set_ylim(len(names) - 0.5, -0.5)  # The first method on top.


def _draw_panel(
    axes: Axes, methods: Sequence[MethodScores], metric: Metric, colors: Sequence[str]
) -> None:
    right = 0.0
    for row, (method, color) in enumerate(zip(methods, colors, strict=True)):
        score = method.value(metric)
        if score is None:
            axes.text(0, row, " n/a", va="center", color=GRAY)
            continue
        value = _zero_if_tiny(score)
        axes.barh(row, value, height=0.62, color=color)
        end = value
        interval = method.intervals.get(metric.key)
        if interval and _zero_if_tiny(interval.high):
            # A percentile interval need not contain the score itself.
            reach = [[max(0.0, value - interval.low)], [max(0.0, interval.high - value)]]
            axes.errorbar(value, row, xerr=reach, color=INK, capsize=3, linewidth=1.2)
            end = max(value, interval.high)
        right = max(right, end)
        axes.annotate(
            format_score(value, digits=_DIGITS),
            (end, row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
        )
    # Figures need room on the right.
    axes.set_xlim(0, max(1.28 * right, _least_span(metric, right)))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))


def _zero_if_tiny(score: float) -> float:
    """Returns 0 for a score that the chart's digits show as 0, else the score."""
    return score if round(abs(score), _DIGITS) else 0.0


def _least_span(metric: Metric, right: float) -> float:
    """Returns the least that an axis shows: a share of the metric's range, if it has an end."""
    return LEAST_SPAN * metric.maximum if metric.maximum < float("inf") else max(right, LEAST_SPAN)
