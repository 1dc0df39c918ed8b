"""Scores by how good retrieval was as a chart: a panel for each metric and property."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.chart import method_colors
from evaluation.retrieval_quality import RetrievalQuality, ScoredGroup
from igrag.metrics import Metric
from igrag.training.chart_style import DPI, INK, STYLE, save_figure

_PANEL_WIDTH, _PANEL_HEIGHT = 3.6, 2.3  # inches
_HEAD, _LEGEND_ROW, _LEGEND_COLUMNS = 0.4, 0.24, 4
_MARKERS = "osD^vPX<>*"  # Methods differ in their marks too, not in color alone.
_STYLE = {**STYLE, "text.parse_math": False, "axes.grid.axis": "y", "xtick.color": INK}


def draw_retrieval_quality(quality: RetrievalQuality, path: Path, *, baseline: str) -> None:
    """Draws the scores of all groups into a PNG, atomically; the same scores give the same bytes.

    Args:
        quality: The scores by group, with one group or more.
        path: The file.
        baseline: The method that the others are compared with; it is gray.
    """
    columns = [[*found] for _, found in groupby(quality.groups, key=lambda each: each.grouping.key)]
    metrics = quality.metrics
    legend_rows = -(-len(quality.whole) // _LEGEND_COLUMNS)
    height = _HEAD + _PANEL_HEIGHT * len(metrics) + _LEGEND_ROW * (legend_rows + 1)
    with style.context(["default", _STYLE]):
        figure = Figure(
            figsize=(_PANEL_WIDTH * max(2, len(columns)), height), dpi=DPI, layout="constrained"
        )
        figure.suptitle("Scores by how good retrieval was", x=0.012, ha="left", fontweight="bold")
        panels = figure.subplots(len(metrics), len(columns), sharey="row", squeeze=False)
        for metric, row in zip(metrics, panels, strict=True):
            for groups, axes in zip(columns, row, strict=True):
                _draw_panel(axes, groups, metric, method_colors(quality.whole, baseline))
            row[0].set_ylabel(metric.label)
            row[0].set_ylim(bottom=0)
        for groups, axes in zip(columns, panels[0], strict=True):
            axes.set_title(groups[0].grouping.title)
        lines, names = panels[0][0].get_legend_handles_labels()
        figure.legend(lines, names, loc="outside lower left", ncols=_LEGEND_COLUMNS, frameon=False)
        save_figure(figure, path)


def _draw_panel(
    axes: Axes, groups: Sequence[ScoredGroup], metric: Metric, colors: Sequence[str]
) -> None:
    """Draws a line for each method through its scores of the groups."""
    names = [f"{each.group.name}\n{_images(len(each.group.indices))}" for each in groups]
    axes.set_xticks(range(len(groups)), names, fontsize=7.5)
    axes.set_xlim(-0.4, len(groups) - 0.6)
    for number, color in enumerate(colors):
        methods = [each.methods[number] for each in groups]
        scores = [method.value(metric) for method in methods]
        values = [float("nan") if score is None else score for score in scores]
        marker = _MARKERS[number % len(_MARKERS)]
        axes.plot(
            range(len(groups)), values, color=color, marker=marker, markersize=5, linewidth=1.4,
            label=methods[0].name,
        )  # fmt: skip


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"
