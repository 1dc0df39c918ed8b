"""The curves of a training run: the loss, and the BLEU-4 of its validations, over the steps."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from igrag.training.chart_style import (
    BLUE,
    DPI,
    GRAY,
    INK,
    STYLE,
    VERMILION,
    YELLOW,
    save_figure,
)
from igrag.training.record import Evaluation, TrainingRecord, TrainingStep

_INCHES = (8.0, 6.4)  # 1200 x 960 pixels
_FRAME = {"left": 0.085, "right": 0.975, "bottom": 0.085, "top": 0.825, "hspace": 0.28}
_LONGEST_NAME = 40  # characters of the model's name
_FEWEST_SMOOTHED = 10  # steps; fewer need no smoothing
_LEAST_SPAN = 0.05  # of the BLEU axis: noise must not look like progress
_METHODS = {"prompt_tuning": "Prompt tuning", "lora": "LoRA"}
_STYLE: dict[str, Any] = {
    **STYLE,
    "axes.formatter.limits": (-4, 8),  # Steps as whole numbers, without 1e6 in the corner.
    "axes.formatter.useoffset": False,
    "axes.labelcolor": GRAY,
    "axes.ymargin": 0.08,
    "legend.frameon": False,
    "lines.solid_capstyle": "round",
    "ytick.color": GRAY,
}


def draw_curves(record: TrainingRecord, path: Path) -> None:
    """Draws a training run as a PNG of 1200 x 960 pixels, atomically.

    The same record gives the same bytes, whatever matplotlib's settings on the machine are.
    """
    # A figure of its own, without pyplot: no window, no state that others share.
    with style.context(["default", _STYLE]):
        figure = Figure(figsize=_INCHES, dpi=DPI)
        _draw_headline(figure, record)
        loss, bleu = figure.subplots(2, sharex=True, gridspec_kw=_FRAME)
        _draw_loss(loss, record)
        _draw_bleu(bleu, record)
        _finish(loss, bleu, record)
        save_figure(figure, path)


def _draw_headline(figure: Figure, record: TrainingRecord) -> None:
    model, best, untuned = record.model, record.best, record.untuned
    name = Path(model.name).name
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME - 1]}…"
    facts = [
        f"{model.trainable_parameters:,} trainable parameters ({model.trainable_percent:.2g}%)",
        f"trained for {timedelta(seconds=round(record.training_seconds))}",
    ]
    if best and untuned:
        facts.insert(0, f"BLEU-4 {untuned.bleu4:.3f} untuned, {best.bleu4:.3f} tuned")
    # parse_math: a name with dollar signs is no formula.
    title = f"{_METHODS[record.method]} of {name}"
    figure.text(0.016, 0.955, title, fontsize=14, fontweight="bold", parse_math=False)
    figure.text(0.016, 0.917, "   ·   ".join(facts), color=GRAY)


def _draw_loss(axes: Axes, record: TrainingRecord) -> None:
    axes.set_title("Loss")
    axes.set_ylabel("cross-entropy (nats per token)")
    steps = [step.step for step in record.history]
    losses = [step.loss for step in record.history]
    if len(steps) >= _FEWEST_SMOOTHED:
        axes.plot(steps, losses, color=BLUE, alpha=0.3, linewidth=0.8, label="training")
        axes.plot(steps, _smoothed(losses), color=BLUE, linewidth=2, label="training, smoothed")
    elif steps:
        axes.plot(steps, losses, color=BLUE, marker=".", label="training")
    _draw_validations(axes, record, [found.loss for found in record.evaluations])


def _draw_bleu(axes: Axes, record: TrainingRecord) -> None:
    axes.set_title("Validation BLEU-4")
    axes.set_ylabel("BLEU-4 (0 to 1)")
    if record.untuned:
        value = record.untuned.bleu4
        axes.axhline(value, color=INK, linewidth=1.2, dashes=(6, 4), label=f"untuned {value:.3f}")
    _draw_validations(axes, record, [found.bleu4 for found in record.evaluations])
    low, high = axes.get_ylim()
    more = max(0.0, _LEAST_SPAN - (high - low)) / 2
    axes.set_ylim(max(0.0, low - more), high + more)


def _draw_validations(axes: Axes, record: TrainingRecord, values: Sequence[float]) -> None:
    """Draws one value for each validation, and a star at the best checkpoint."""
    if not values:
        return
    steps = [found.step for found in record.evaluations]
    axes.plot(steps, values, color=VERMILION, linewidth=1.2, marker="o", label="validation")
    if record.best:
        index = record.evaluations.index(record.best)
        axes.axvline(steps[index], color=GRAY, linewidth=1, linestyle=":", zorder=1)
        axes.plot(
            steps[index],
            values[index],
            color=YELLOW,
            linestyle="none",
            marker="*",
            markersize=15,
            markeredgecolor=INK,
            clip_on=False,
            zorder=3,
            label=f"best: {record.best.checkpoint}",
        )


def _finish(loss: Axes, bleu: Axes, record: TrainingRecord) -> None:
    """Formats the shared axis of steps, and adds the legends."""
    points: list[Evaluation | TrainingStep] = [*record.evaluations, *record.history]
    last = max((point.step for point in points), default=0) or 1
    bleu.set_xlim(-0.02 * last, 1.02 * last)
    bleu.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    bleu.set_xlabel("step (optimizer steps)")
    for axes in (loss, bleu):
        if axes.get_legend_handles_labels()[0]:
            # In the line of the title, above all curves.
            axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, borderaxespad=0.1)


def _smoothed(values: Sequence[float]) -> list[float]:
    """Returns a weighted mean around each value (Hann window), which does not lag behind."""
    weights = np.hanning(2 * round(len(values) ** 0.5) + 1)
    sums = np.convolve(values, weights, mode="same")
    smooth: list[float] = (sums / np.convolve(np.ones(len(values)), weights, mode="same")).tolist()
    return smooth
