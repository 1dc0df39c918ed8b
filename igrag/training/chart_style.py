"""What all charts share: colors, matplotlib settings, texts that fit, and how a figure is saved."""

import re
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from igrag.files import atomic_path

# Okabe and Ito's colors, distinguishable for color-blind readers ("Color Universal Design", 2008).
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SKY, VERMILION, YELLOW = "#56B4E9", "#D55E00", "#F0E442"
COLORS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)
INK, GRAY, PALE = "#222222", "#666666", "#E4E4E4"
DPI = 150
_FAMILY = "DejaVu Sans"  # Comes with matplotlib.
# For `matplotlib.style.context(["default", {**STYLE, ...}])`: "default" resets the settings of
# the machine, so that the same data give the same image everywhere.
STYLE: dict[str, Any] = {
    "font.family": [_FAMILY],
    "font.size": 9.5,
    "text.color": INK,
    "axes.axisbelow": True,
    "axes.edgecolor": "#B0B0B0",
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "grid.color": PALE,
    "xtick.color": GRAY,
}
# A shared axis shows at least this share of a metric's range: noise must not look like progress.
LEAST_SPAN = 0.05
# A line may break after a space, and in a path or name after one of these.
_BREAK = re.compile(r"[^\s/_+,.:;=-]*[/_+,.:;=-]*\s*")


def wrap_text(
    text: str, inches: float, *, size: float, bold: bool = False, most_lines: int = 3
) -> list[str]:
    """Cuts a text into lines that are no wider than `inches` when they are drawn.

    Args:
        text: One line of text.
        inches: The room.
        size: Font size in points.
        bold: Whether it is drawn bold.
        most_lines: The last of these ends with an ellipsis where there is more text.
    """
    font = FontProperties(family=_FAMILY, size=size, weight="bold" if bold else "normal")

    def fits(line: str) -> bool:
        return _width(line.rstrip(), font) <= inches

    lines = [""]
    for part in _BREAK.findall(" ".join(text.split())):
        # A part that is wider than a whole line is cut between any two characters.
        for piece in [part] if fits(part) else part:
            if lines[-1] and not fits(lines[-1] + piece):
                lines.append("")
            lines[-1] += piece
    lines = [line.strip() for line in lines]
    if len(lines) > most_lines:
        last = lines[most_lines - 1]
        while last and not fits(f"{last}…"):
            last = last[:-1]
        lines[most_lines - 1 :] = [f"{last}…"]
    return lines


def save_figure(figure: Figure, path: Path, *, tight: bool = False) -> None:
    """Saves a figure as PNG, atomically; the same figure gives the same bytes.

    To be called inside the style's context. matplotlib's version is left out of the metadata.

    Args:
        figure: The figure.
        path: The file.
        tight: Fit the image to what is drawn, for a figure whose layout another library made.
    """
    fit = "tight" if tight else None
    with atomic_path(path) as temporary:
        figure.savefig(
            temporary, format="png", dpi=DPI, metadata={"Software": None}, bbox_inches=fit
        )


def _width(text: str, font: FontProperties) -> float:
    """Returns the width of a drawn text in inches."""
    width, _, _ = RendererAgg(1, 1, DPI).get_text_width_height_descent(text, font, ismath=False)
    return float(width) / DPI
