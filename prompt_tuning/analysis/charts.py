"""The charts of an analysis: soft tokens as a heat map, quality over the number of soft tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, style
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from igrag.training.chart_style import (
    BLUE,
    DPI,
    GRAY,
    INK,
    LEAST_SPAN,
    STYLE,
    VERMILION,
    save_figure,
)
from prompt_tuning.analysis.ablation import PromptScore
from prompt_tuning.analysis.vocabulary import NearestEntry

_CELL_HEIGHT, _TOP, _BOTTOM = 0.24, 0.85, 0.2  # inches
_ENTRY_WIDTH, _CHANGE_WIDTH, _LEFT, _RIGHT, _GAP = 1.15, 1.25, 0.75, 0.2, 0.25
_LONGEST_ENTRY = 12  # characters
_DARK = 0.6  # from here on a cell's text is white
_STYLE: dict[str, Any] = {
    **STYLE,
    "text.parse_math": False,  # An entry with dollar signs is not a formula.
    "axes.labelcolor": GRAY,
    "axes.spines.left": False,
    "axes.spines.bottom": False,
    "axes.titlesize": STYLE["font.size"],
    "xtick.bottom": False,
    "ytick.left": False,
    "ytick.color": GRAY,
}
_CURVE_INCHES = (8.0, 5.6)


def draw_tokens(
    entries: Sequence[Sequence[NearestEntry]],
    norms: Sequence[float],
    path: Path,
    *,
    title: str,
    whole: PromptScore | None = None,
    without: Sequence[PromptScore] = (),
) -> None:
    """Draws a row for each soft token into a PNG, atomically; the same data give the same bytes.

    Args:
        entries: The nearest vocabulary entries of each, colored by their cosine.
        norms: The Euclidean norm of each.
        path: The file.
        title: First line.
        whole: The score of the whole prompt; None without an ablation.
        without: The score without each, colored by the difference to the whole prompt's.
    """
    panels: list[tuple[str, NDArray[np.float64], list[list[str]], str]] = [
        ("cosine with the nearest vocabulary entries",
         np.array([[each.cosine for each in row] for row in entries]),
         [[f"{_short(each.token)} {each.cosine:.2f}" for each in row] for row in entries],
         "Blues"),
        ("norm", np.array(norms)[:, None], [[f"{norm:.1f}"] for norm in norms], "gray_r"),
    ]  # fmt: skip
    if whole is not None:
        losses = [score.loss - whole.loss for score in without]
        bleu = [score.bleu_4 - whole.bleu_4 for score in without]
        panels += [
            ("loss without it", np.array(losses)[:, None], [[f"{x:+.4f}"] for x in losses], "PuOr"),
            ("BLEU-4 without it", np.array(bleu)[:, None], [[f"{x:+.4f}"] for x in bleu], "PuOr_r"),
        ]
    widths = [
        _ENTRY_WIDTH * values.shape[1] if number == 0 else _CHANGE_WIDTH
        for number, (_, values, _, _) in enumerate(panels)
    ]
    width = sum(widths) + _LEFT + _RIGHT + _GAP * (len(panels) - 1)
    height = _CELL_HEIGHT * len(entries) + _TOP + _BOTTOM
    with style.context(["default", _STYLE]):
        figure = Figure(figsize=(width, height), dpi=DPI)
        figure.text(_GAP / width, 1 - 0.35 / height, title, fontsize=13, fontweight="bold")
        left = _LEFT
        for number, ((name, values, texts, colors), wide) in enumerate(
            zip(panels, widths, strict=True)
        ):
            axes = figure.add_axes(
                (left / width, _BOTTOM / height, wide / width, 1 - (_TOP + _BOTTOM) / height)
            )
            _draw_cells(axes, values, texts, colors)
            axes.set_title(name, loc="left" if number == 0 else "center")
            axes.set_yticks(range(len(entries)) if number == 0 else [])
            axes.set_yticklabels([f"token {index + 1}" for index in axes.get_yticks().astype(int)])
            left += wide + _GAP
        save_figure(figure, path)


def draw_pruning(
    scores: Sequence[tuple[int, PromptScore]],
    path: Path,
    *,
    title: str,
    subtitle: str,
    retrained: tuple[int, PromptScore] | None = None,
) -> None:
    """Draws loss and BLEU-4 over the number of soft tokens, into a PNG as `draw_tokens`.

    Args:
        scores: The number of soft tokens, and what the prompt of that length scores.
        path: The file.
        title: First line.
        subtitle: Below the title.
        retrained: The same of the prompt that was trained again.
    """
    with style.context(["default", {**_STYLE, "axes.titlesize": STYLE["axes.titlesize"]}]):
        figure = Figure(figsize=_CURVE_INCHES, dpi=DPI)
        figure.text(0.016, 0.945, title, fontsize=14, fontweight="bold", color=INK)
        figure.text(0.016, 0.9, subtitle, color=GRAY)
        frame = {"left": 0.085, "right": 0.975, "bottom": 0.1, "top": 0.83, "hspace": 0.3}
        panels = figure.subplots(2, sharex=True, gridspec_kw=frame)
        for axes, key, name in zip(panels, ("loss", "bleu_4"), ("Loss", "BLEU-4"), strict=True):
            axes.plot([size for size, _ in scores], [getattr(each, key) for _, each in scores],
                      color=BLUE, marker="o", markersize=4, label="pruned")  # fmt: skip
            if retrained is not None:
                axes.plot([retrained[0]], [getattr(retrained[1], key)], color=VERMILION,
                          marker="D", linestyle="none", label="retrained")  # fmt: skip
            axes.set_title(name)
            low, high = axes.get_ylim()
            if high - low < LEAST_SPAN:
                middle = (low + high) / 2
                axes.set_ylim(middle - LEAST_SPAN / 2, middle + LEAST_SPAN / 2)
        panels[1].set_xlabel("soft tokens")
        panels[1].xaxis.set_major_locator(MaxNLocator(integer=True))
        if retrained is not None:
            panels[1].legend(frameon=False)
        save_figure(figure, path)


def _draw_cells(
    axes: Axes, values: NDArray[np.float64], texts: Sequence[Sequence[str]], colors: str
) -> None:
    signed = colors.startswith("PuOr")
    reach = float(np.abs(values).max()) or 1.0
    norm = TwoSlopeNorm(0.0, -reach, reach) if signed else None
    low = None if signed else 0.0
    axes.imshow(values, cmap=colormaps[colors], norm=norm, vmin=low, aspect="auto")
    axes.grid(visible=False)
    axes.set_xticks([])
    for row, line in enumerate(texts):
        for column, text in enumerate(line):
            is_dark = abs(values[row, column]) / reach > _DARK
            axes.text(column, row, text, ha="center", va="center", fontsize=7.5,
                      color="white" if is_dark else INK)  # fmt: skip


def _short(token: str) -> str:
    return token if len(token) <= _LONGEST_ENTRY else f"{token[: _LONGEST_ENTRY - 1]}…"
