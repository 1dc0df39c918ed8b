"""A training as a image: the loss, and the BLEU-4 of its validations, over the steps."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from igrag.files import atomic_path
from igrag.training.record import Evaluation, TrainingRecord, TrainingStep

# Okabe and Ito's colors, which the color-blind tell apart too ("Color Universal Design", 2008).
_BLUE, _VERMILION, _YELLOW = "#0072B2", "#D55E00", "#F0E442"
_INK, _GRAY, _PALE = "#222222", "#666666", "#E4E4E4"
_INCHES, _DPI = (8.0, 6.4), 150  # 1200 x 960 pixels
_FRAME = {"left": 0.085, "right": 0.975, "bottom": 0.085, "top": 0.825, "hspace": 0.28}
_LONGEST_NAME = 40  # characters of the model's name
_FEWEST_SMOOTHED = 10  # steps; the eye smooths fewer by itself
_LEAST_SPAN = 0.05  # of the BLEU axis: noise must not look like progress
_METHODS = {"prompt_tuning": "Prompt tuning", "lora": "LoRA"}
_STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],  # Comes with matplotlib, so it is the same everywhere.
    "font.size": 9.5,
    "text.color": _INK,
    "axes.axisbelow": True,
    "axes.edgecolor": "#B0B0B0",
    "axes.formatter.limits": (-4, 8),  # Steps are whole numbers, not 1.2 with 1e6 in the corner.
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.labelcolor": _GRAY,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.ymargin": 0.08,
    "grid.color": _PALE,
    "legend.frameon": False,
    "lines.solid_capstyle": "round",
    "xtick.color": _GRAY,
    "ytick.color": _GRAY,
}


def draw_curves(record: TrainingRecord, path: Path) -> None:
    """Draws a training into a PNG of 1200 x 960 pixels, atomically.

    The same record gives the same bytes, whatever matplotlib's settings on the machine are.
    """
    # A figure of its own, without pyplot: no window, no state that others share.
    with style.context(["default", _STYLE]), atomic_path(path) as temporary:
        figure = Figure(figsize=_INCHES, dpi=_DPI)
        _write_headline(figure, record)
        loss, bleu = figure.subplots(2, sharex=True, gridspec_kw=_FRAME)
        _draw_loss(loss, record)
        _draw_bleu(bleu, record)
        _finish(loss, bleu, record)
        # Without the library's version, which the record names.
        figure.savefig(temporary, format="png", dpi=_DPI, metadata={"Software": None})


def _write_headline(figure: Figure, record: TrainingRecord) -> None:
    model, best, untuned = record.model, record.best, record.untuned
    name = Path(model.name).name
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME - 1]}…"
    facts = [
        f"{model.trainable_parameters:,} trained parameters ({model.trainable_percent:.2g}%)",
        f"trained for {timedelta(seconds=round(record.training_seconds))}",
    ]
    if best and untuned:
        facts.insert(0, f"BLEU-4 {untuned.bleu4:.3f} untuned, {best.bleu4:.3f} tuned")
    # A name is not a formula, be there dollar signs in it.
    title = f"{_METHODS[record.method]} of {name}"
    figure.text(0.016, 0.955, title, fontsize=14, fontweight="bold", parse_math=False)
    figure.text(0.016, 0.917, "   ·   ".join(facts), color=_GRAY)


def _draw_loss(axes: Axes, record: TrainingRecord) -> None:
    axes.set_title("Loss")
    axes.set_ylabel("cross-entropy (nats a token)")
    steps = [step.step for step in record.history]
    losses = [step.loss for step in record.history]
    if len(steps) >= _FEWEST_SMOOTHED:
        axes.plot(steps, losses, color=_BLUE, alpha=0.3, linewidth=0.8, label="training")
        axes.plot(steps, _smoothed(losses), color=_BLUE, linewidth=2, label="training, smoothed")
    elif steps:
        axes.plot(steps, losses, color=_BLUE, marker=".", label="training")
    _draw_validations(axes, record, [found.loss for found in record.evaluations])


def _draw_bleu(axes: Axes, record: TrainingRecord) -> None:
    axes.set_title("Validation BLEU-4")
    axes.set_ylabel("BLEU-4 (0 to 1)")
    if record.untuned:
        value = record.untuned.bleu4
        axes.axhline(value, color=_INK, linewidth=1.2, dashes=(6, 4), label=f"untuned {value:.3f}")
    _draw_validations(axes, record, [found.bleu4 for found in record.evaluations])
    low, high = axes.get_ylim()
    more = max(0.0, _LEAST_SPAN - (high - low)) / 2
    axes.set_ylim(max(0.0, low - more), high + more)


def _draw_validations(axes: Axes, record: TrainingRecord, values: Sequence[float]) -> None:
    """Draws one value for each validation, and a star at the best checkpoint."""
    if not values:
        return
    steps = [found.step for found in record.evaluations]
    axes.plot(steps, values, color=_VERMILION, linewidth=1.2, marker="o", label="validation")
    if record.best:
        place = record.evaluations.index(record.best)
        axes.axvline(steps[place], color=_GRAY, linewidth=1, linestyle=":", zorder=1)
        axes.plot(
            steps[place],
            values[place],
            color=_YELLOW,
            linestyle="none",
            marker="*",
            markersize=15,
            markeredgecolor=_INK,
            clip_on=False,
            zorder=3,
            label=f"best: {record.best.checkpoint}",
        )


def _finish(loss: Axes, bleu: Axes, record: TrainingRecord) -> None:
    """Sets the axis of steps that both share, and the legends."""
    points: list[Evaluation | TrainingStep] = [*record.evaluations, *record.history]
    last = max((point.step for point in points), default=0) or 1
    bleu.set_xlim(-0.02 * last, 1.02 * last)
    bleu.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    bleu.set_xlabel("step (optimizer steps)")
    for axes in (loss, bleu):
        if axes.get_legend_handles_labels()[0]:
            # In the title's line, where no curve ever is.
            axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, borderaxespad=0.1)


def _smoothed(values: Sequence[float]) -> list[float]:
    """Returns the mean around each value, in which near ones weigh more; it does not lag."""
    weights = np.hanning(2 * round(len(values) ** 0.5) + 1)
    sums = np.convolve(values, weights, mode="same")
    smooth: list[float] = (sums / np.convolve(np.ones(len(values)), weights, mode="same")).tolist()
    return smooth
