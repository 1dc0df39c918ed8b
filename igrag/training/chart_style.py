"""What all charts share: colors, matplotlib settings, and how a figure is saved."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from igrag.files import atomic_path

# Okabe and Ito's colors, distinguishable for color-blind readers ("Color Universal Design", 2008).
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SKY, VERMILION, YELLOW = "#56B4E9", "#D55E00", "#F0E442"
COLORS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)
INK, GRAY, PALE = "#222222", "#666666", "#E4E4E4"
DPI = 150
# For `matplotlib.style.context(["default", {**STYLE, ...}])`: "default" resets the settings of
# the machine, so that the same data give the same image everywhere.
STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],  # Comes with matplotlib.
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


def save_figure(figure: Figure, path: Path) -> None:
    """Saves a figure as PNG, atomically; the same figure gives the same bytes.

    To be called inside the style's context. matplotlib's version is left out of the metadata.
    """
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
