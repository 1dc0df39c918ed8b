"""The curves of training runs: the loss, and the BLEU-4 of their validations, over the steps."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from statistics import mean
from typing import Any, Literal

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
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
    YELLOW,
    save_figure,
)
from igrag.training.record import Evaluation, TrainingRecord, TrainingStep

_INCHES = (8.0, 6.4)  # 1200 x 960 pixels
_FRAME = {"left": 0.085, "right": 0.975, "bottom": 0.085, "top": 0.825, "hspace": 0.28}
_LONGEST_NAME = 40  # characters of the model's name
_FEWEST_SMOOTHED = 10  # steps; fewer need no smoothing
# Share of the training. Validations that are farther apart are not joined: a line would claim a
# slow course, where most of the change comes within a few steps that nobody measured.
_NEAR = 0.05
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
Runs = Sequence[TrainingRecord]


def draw_curves(record: TrainingRecord, path: Path) -> None:
    """Draws a training run as a PNG of 1200 x 960 pixels, atomically.

    The same record gives the same bytes, whatever matplotlib's settings on the machine are.
    """
    draw_runs([record], path)


def draw_runs(runs: Runs, path: Path) -> None:
    """Draws runs of one training, as with several seeds, as `draw_curves` draws a single one.

    Lines are means over the runs; bands, and bars at single validations, reach from the lowest to
    the highest. Steps that only some runs have are left out.

    Args:
        runs: One or more, of the same method and model.
        path: The file.
    """
    # A figure of its own, without pyplot: no window, no state that others share.
    with style.context(["default", _STYLE]):
        figure = Figure(figsize=_INCHES, dpi=DPI)
        _draw_headline(figure, runs)
        loss, bleu = figure.subplots(2, sharex=True, gridspec_kw=_FRAME)
        _draw_loss(loss, runs)
        _draw_bleu(bleu, runs)
        _finish(loss, bleu, runs)
        save_figure(figure, path)


def _draw_headline(figure: Figure, runs: Runs) -> None:
    model = runs[0].model
    name = Path(model.name).name
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME - 1]}…"
    title = f"{_METHODS[runs[0].method]} of {name}"
    if len(runs) == 1:
        seconds = round(runs[0].training_seconds)
        facts = [
            f"{model.trainable_parameters:,} trainable parameters ({model.trainable_percent:.2g}%)",
            f"trained for {timedelta(seconds=seconds)}",
        ]
    else:
        title += f", {len(runs)} runs"
        facts = ["lines: means; bands and bars: lowest to highest"]
    scores = [(run.untuned.bleu4, run.best.bleu4) for run in runs if run.best and run.untuned]
    if len(scores) == len(runs):
        untuned, tuned = zip(*scores, strict=True)
        reach = f" ({min(tuned):.3f} to {max(tuned):.3f})" if len(runs) > 1 else ""
        facts.insert(0, f"BLEU-4 {mean(untuned):.3f} untuned, {mean(tuned):.3f} tuned{reach}")
    # parse_math: a name with dollar signs is no formula.
    figure.text(0.016, 0.955, title, fontsize=14, fontweight="bold", parse_math=False)
    figure.text(0.016, 0.917, "   ·   ".join(facts), color=GRAY)


def _draw_loss(axes: Axes, runs: Runs) -> None:
    axes.set_title("Loss")
    axes.set_ylabel("cross-entropy (nats per token)")
    steps, losses = _common([{step.step: step.loss for step in run.history} for run in runs])
    if len(steps) >= _FEWEST_SMOOTHED:
        smooth = np.array([_smoothed(values) for values in losses])
        if len(runs) == 1:
            axes.plot(steps, losses[0], color=BLUE, alpha=0.3, linewidth=0.8, label="training")
        _draw_band(axes, steps, smooth, BLUE)
        axes.plot(steps, smooth.mean(0), color=BLUE, linewidth=2, label="training, smoothed")
    elif steps:
        _draw_band(axes, steps, losses, BLUE)
        axes.plot(steps, losses.mean(0), color=BLUE, marker=".", label="training")
    _draw_validations(axes, runs, "loss")


def _draw_bleu(axes: Axes, runs: Runs) -> None:
    axes.set_title("Validation BLEU-4")
    axes.set_ylabel("BLEU-4 (0 to 1)")
    untuned = [run.untuned.bleu4 for run in runs if run.untuned]
    if untuned:
        value = mean(untuned)
        axes.axhline(value, color=INK, linewidth=1.2, dashes=(6, 4), label=f"untuned {value:.3f}")
    _draw_validations(axes, runs, "bleu4")
    low, high = axes.get_ylim()
    more = max(0.0, LEAST_SPAN - (high - low)) / 2
    axes.set_ylim(max(0.0, low - more), high + more)


def _draw_validations(axes: Axes, runs: Runs, name: Literal["loss", "bleu4"]) -> None:
    """Draws one point for each validation, and a star at each run's best checkpoint."""
    points = [{found.step: getattr(found, name) for found in run.evaluations} for run in runs]
    steps, values = _common(points)
    if steps:
        means = values.mean(0)
        for part in _near_parts(steps, _last_step(runs)):
            axes.plot(steps[part], means[part], color=VERMILION, linewidth=1.2)
            _draw_band(axes, steps[part], values[:, part], VERMILION)
        if len(runs) > 1:
            reach = np.abs([values.min(0) - means, values.max(0) - means])
            axes.errorbar(steps, means, reach, color=VERMILION, linestyle="none", capsize=3)
        axes.plot(steps, means, color=VERMILION, linestyle="none", marker="o", label="validation")
    best = [(run.best.step, getattr(run.best, name)) for run in runs if run.best]
    for step, _ in best:
        axes.axvline(step, color=GRAY, linewidth=1, linestyle=":", zorder=1)
    if best:
        first = runs[0].best
        label = f"best: {first.checkpoint}" if first and len(runs) == 1 else "best of each run"
        axes.plot(
            *zip(*best, strict=True),
            color=YELLOW,
            linestyle="none",
            marker="*",
            markersize=15 if len(runs) == 1 else 9,
            markeredgecolor=INK,
            clip_on=False,
            zorder=3,
            label=label,
        )


def _draw_band(axes: Axes, steps: Sequence[int], values: NDArray[np.float64], color: str) -> None:
    """Fills from the lowest to the highest of several runs' values [R, S]."""
    if len(values) > 1:
        axes.fill_between(steps, values.min(0), values.max(0), color=color, alpha=0.2, linewidth=0)


def _common(points: Sequence[dict[int, float]]) -> tuple[list[int], NDArray[np.float64]]:
    """Returns the steps that every run has, and the runs' values [R, S] there."""
    steps = sorted(set.intersection(*map(set, points)))
    return steps, np.array([[values[step] for step in steps] for values in points])


def _near_parts(steps: Sequence[int], last: int) -> Iterator[slice]:
    """Yields the parts of at least two steps that are near to each other, see `_NEAR`."""
    start = 0
    for end in range(1, len(steps) + 1):
        if end == len(steps) or steps[end] - steps[end - 1] > _NEAR * last:
            if end - start > 1:
                yield slice(start, end)
            start = end


def _last_step(runs: Runs) -> int:
    """Returns the last step of all runs, at least 1."""
    points: list[Evaluation | TrainingStep] = []
    for run in runs:
        points += [*run.evaluations, *run.history]
    return max((point.step for point in points), default=0) or 1


def _finish(loss: Axes, bleu: Axes, runs: Runs) -> None:
    """Formats the shared axis of steps, and adds the legends."""
    last = _last_step(runs)
    bleu.set_xlim(-0.02 * last, 1.02 * last)
    bleu.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    bleu.set_xlabel("step (optimizer steps)")
    for axes in (loss, bleu):
        if axes.get_legend_handles_labels()[0]:
            # In the line of the title, above all curves.
            axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, borderaxespad=0.1)


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns a weighted mean around each value (Hann window), which does not lag behind."""
    weights = np.hanning(2 * round(len(values) ** 0.5) + 1)
    sums = np.convolve(values, weights, mode="same")
    smooth: NDArray[np.float64] = sums / np.convolve(np.ones(len(values)), weights, mode="same")
    return smooth
