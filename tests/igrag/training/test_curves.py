"""The training curves."""

import os
import subprocess
import sys
import warnings
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from PIL import Image

from igrag.config import REPO_ROOT
from igrag.training.curves import draw_curves, draw_runs
from igrag.training.record import ModelFacts, TrainingRecord
from tests.trainings import evaluation, training

SCORES = {0: 0.08, 20: 0.31, 40: 0.46, 60: 0.44}


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Collect the figures that are saved."""
    saved: list[Figure] = []
    save = Figure.savefig

    def collect(figure: Figure, *args: object, **options: object) -> None:
        saved.append(figure)
        save(figure, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "savefig", collect)
    return saved


def line(axes: Axes, label: str) -> Line2D:
    """Returns the one line of a panel that the legend calls so."""
    assert label in axes.get_legend_handles_labels()[1]
    (found,) = [line for line in axes.lines if line.get_label() == label]
    return found


def points(line: Line2D) -> list[tuple[float, float]]:
    """Returns what a line goes through."""
    return [(x, y) for x, y in np.asarray(line.get_xydata()).tolist()]


def test_curves_are_a_png_of_1200_x_960_pixels(tmp_path: Path) -> None:
    """The PNG is the only file in its folder, which is made if necessary."""
    file = tmp_path / "new" / "training_curves.png"
    draw_curves(training(SCORES, steps=60), file)
    with Image.open(file) as image:
        assert image.format == "PNG"
        assert image.size == (1200, 960)
    assert list(file.parent.iterdir()) == [file]


def test_curves_draw_every_figure_of_the_record(tmp_path: Path, figures: list[Figure]) -> None:
    """Both panels show the record's own numbers over one axis of steps."""
    record = training(SCORES, steps=60)
    draw_curves(record, tmp_path / "a.png")
    loss, bleu = figures[0].axes
    assert points(line(loss, "training")) == [(step.step, step.loss) for step in record.history]
    assert points(line(loss, "validation")) == [(step, 1.0) for step in SCORES]
    assert points(line(bleu, "validation")) == list(SCORES.items())
    assert loss.get_xlim() == bleu.get_xlim()
    low, high = bleu.get_xlim()
    assert low < 0 < 60 < high


def test_panels_of_the_curves_are_labeled(tmp_path: Path, figures: list[Figure]) -> None:
    """The headline, titles and axes say what is seen."""
    draw_curves(training(SCORES, steps=60), tmp_path / "a.png")
    headline, facts = (text.get_text() for text in figures[0].texts)
    assert headline == "Prompt tuning of t5"
    assert "BLEU-4 0.080 untuned, 0.460 tuned" in facts
    assert "100 trainable parameters (2.5%)" in facts
    loss, bleu = figures[0].axes
    assert (loss.get_title("left"), bleu.get_title("left")) == ("Loss", "Validation BLEU-4")
    assert bleu.get_xlabel() == "step (optimizer steps)"
    assert loss.get_ylabel()
    assert bleu.get_ylabel()


def test_untuned_model_is_a_dashed_line(tmp_path: Path, figures: list[Figure]) -> None:
    """The untuned score is a line across the whole panel, to compare every score with."""
    draw_curves(training(SCORES), tmp_path / "a.png")
    untuned = line(figures[0].axes[1], "untuned 0.080")
    assert points(untuned) == [(0.0, 0.08), (1.0, 0.08)]  # from edge to edge
    assert untuned.is_dashed()


def test_best_checkpoint_is_marked_in_both_panels(tmp_path: Path, figures: list[Figure]) -> None:
    """The best checkpoint has a star, not a color alone."""
    draw_curves(training(SCORES, steps=60), tmp_path / "a.png")
    loss, bleu = (line(axes, "best: checkpoint-40") for axes in figures[0].axes)
    assert points(loss) == [(40.0, 1.0)]
    assert points(bleu) == [(40.0, 0.46)]
    assert loss.get_marker() == bleu.get_marker() == "*"


def joined(axes: Axes) -> list[list[float]]:
    """Returns the steps of each line that joins validations."""
    lines = [line for line in axes.lines if str(line.get_label()).startswith("_child")]
    return [[x for x, _ in points(line)] for line in lines if len(points(line)) > 2]


def test_only_near_validations_are_joined(tmp_path: Path, figures: list[Figure]) -> None:
    """A line stands where they are a twentieth of the training apart at most, else points alone."""
    draw_curves(training(SCORES, steps=60), tmp_path / "far.png")
    near = {0: 0.08, 50: 0.4, 53: 0.44, 56: 0.45, 60: 0.46}
    draw_curves(training(near, steps=60), tmp_path / "near.png")
    for axes in figures[0].axes:
        assert line(axes, "validation").get_linestyle() == "None"
        assert joined(axes) == []
    for axes in figures[1].axes:
        assert joined(axes) == [[50, 53, 56]], "60 is 4 steps away, more than a twentieth of 60"


def test_runs_are_drawn_as_mean_and_band(tmp_path: Path, figures: list[Figure]) -> None:
    """Seeds show a mean from lowest to highest where all runs have a step, and every best."""
    scores = [{0: 0.1, 20: 0.3, 40: 0.5}, {0: 0.1, 20: 0.4, 40: 0.3}, {0: 0.1, 20: 0.2, 30: 0.4}]
    draw_runs([training(each, steps=5) for each in scores], tmp_path / "a.png")
    loss, bleu = figures[0].axes
    means = np.asarray(line(bleu, "validation").get_xydata())
    assert means.ravel().tolist() == pytest.approx([0, 0.1, 20, 0.3])
    assert points(line(bleu, "best of each run")) == [(40, 0.5), (20, 0.4), (30, 0.4)]
    (bars,) = bleu.containers
    segments = bars.get_children()[-1].get_segments()  # type: ignore[attr-defined]
    assert segments[1][:, 1].tolist() == pytest.approx([0.2, 0.4])
    (band,) = loss.collections[:1]
    assert len(band.get_paths()) == 1 and len(points(line(loss, "training"))) == 5
    headline, facts = (text.get_text() for text in figures[0].texts)
    assert headline == "Prompt tuning of t5, 3 runs"
    assert "BLEU-4 0.100 untuned, 0.433 tuned (0.400 to 0.500)" in facts


def test_runs_without_a_common_step_can_be_drawn(tmp_path: Path) -> None:
    """The image has what there is, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_runs([training({}), training({20: 0.4}, steps=20)], tmp_path / "a.png")
        draw_runs([training({30: 0.1}, steps=3), training({20: 0.4})], tmp_path / "b.png")
    assert (tmp_path / "b.png").stat().st_size > 0


def texts(artist: Artist) -> list[Text]:
    """Returns all the texts of a part of the figure."""
    return [text for text in artist.findobj(Text) if isinstance(text, Text) and text.get_text()]


def smoothed(losses: list[float], tmp_path: Path, figures: list[Figure]) -> list[float]:
    """Returns what the smoothed line goes through."""
    record = training({}, steps=len(losses))
    record.history = [
        replace(step, loss=loss) for step, loss in zip(record.history, losses, strict=True)
    ]
    draw_curves(record, tmp_path / "a.png")
    return [loss for _, loss in points(line(figures[0].axes[0], "training, smoothed"))]


def test_training_loss_is_smoothed(tmp_path: Path, figures: list[Figure]) -> None:
    """Noise around a constant shrinks, at the ends too, and the constant stays."""
    noise = np.random.default_rng(0).normal(loc=5, size=400)
    smooth = np.asarray(smoothed(noise.tolist(), tmp_path, figures))
    assert smooth.std() < 0.3
    assert smooth.mean() == pytest.approx(5, abs=0.1)
    assert np.abs(smooth - 5).max() < 1


def test_smoothed_loss_does_not_lag(tmp_path: Path, figures: list[Figure]) -> None:
    """A straight line stays as it is, except at its ends."""
    fall = [5 - step / 50 for step in range(200)]
    smooth = smoothed(fall, tmp_path, figures)
    assert smooth[20:-20] == pytest.approx(fall[20:-20])


def test_loss_of_few_steps_is_not_smoothed(tmp_path: Path, figures: list[Figure]) -> None:
    """Each of nine steps is a point that can be seen."""
    draw_curves(training({}, steps=9), tmp_path / "a.png")
    (only,) = figures[0].axes[0].lines
    assert only.get_marker() == "."
    assert len(points(only)) == 9


@pytest.mark.parametrize(
    "record",
    [
        training({}),
        training({0: 0.08}),
        training({0: 0.0}),
        training({20: 0.3}),
        training({20: 1.0}, steps=1),
        training({}, steps=10),
        training({0: 0.3, 20: 0.2}, steps=20),
    ],
    ids=["nothing", "untuned", "zero", "one", "one step", "no validation", "worse"],
)
def test_curves_of_an_incomplete_record_can_be_drawn(
    tmp_path: Path, figures: list[Figure], record: TrainingRecord
) -> None:
    """From the first moment on there is an image, without a warning, with all points inside."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_curves(record, tmp_path / "a.png")
    loss, bleu = figures[0].axes
    low, high = bleu.get_ylim()
    assert high - low >= 0.05 - 1e-9, "noise must not look like progress"
    assert all(low <= found.bleu4 <= high for found in record.evaluations)
    low, high = bleu.get_xlim()
    steps = [found.step for found in record.evaluations] + [step.step for step in record.history]
    assert all(low < step < high for step in steps)
    assert (loss.get_legend() is not None) == bool(steps)


def test_same_record_gives_the_same_png_bytes(tmp_path: Path) -> None:
    """An image that is drawn again differs only if the training does, whatever the settings."""
    record = training(SCORES, steps=60)
    draw_curves(record, tmp_path / "first.png")
    with matplotlib.rc_context({"axes.facecolor": "red", "savefig.dpi": 30, "axes.grid": False}):
        draw_curves(record, tmp_path / "second.png")
        assert matplotlib.rcParams["savefig.dpi"] == 30, "the user's settings come back"
    first = (tmp_path / "first.png").read_bytes()
    assert first == (tmp_path / "second.png").read_bytes()
    assert b"matplotlib" not in first
    draw_curves(training(SCORES | {60: 0.45}, steps=60), tmp_path / "other.png")
    assert first != (tmp_path / "other.png").read_bytes()


def test_no_text_of_the_curves_is_cut_off(tmp_path: Path, figures: list[Figure]) -> None:
    """Long names and large numbers stay inside the image, and no text covers another."""
    million = 1_000_000
    record = training({0: 0.2, million: 0.3}, steps=12)
    record.evaluations.append(evaluation(2 * million, 0.25, loss=123.456))
    record.model = ModelFacts("google/" + "flan-t5-$^$-" * 8, 11 * 10**9, 123_456_789)
    record.training_seconds = 12.7 * 86_400
    draw_curves(record, tmp_path / "a.png")
    figure = figures[0]
    drawn = figure.get_tightbbox()  # inches
    assert drawn.x0 >= 0
    assert drawn.y0 >= 0
    assert drawn.x1 <= 8
    assert drawn.y1 <= 6.4
    ticks = {
        text for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for text in texts(axis)
    }
    boxes = [
        (text.get_text(), text.get_window_extent()) for text in texts(figure) if text not in ticks
    ]
    assert "Prompt tuning of flan-t5-$^$-flan-t5-$^$-flan-t5-$^$-fla…" in dict(boxes)
    assert figure.axes[1].xaxis.get_offset_text().get_text() == "", "2000000, not 2 times 1e6"
    assert [
        (first, second)
        for (first, box), (second, other) in combinations(boxes, 2)
        if box.overlaps(other)
    ] == []


def test_failed_drawing_keeps_the_old_png(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that cannot be finished leaves the one before it, and no rest."""

    def fail(figure: Figure, *args: object, **options: object) -> None:
        raise OSError("No space left on device")

    file = tmp_path / "a.png"
    file.write_bytes(b"old")
    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="No space"):
        draw_curves(training(SCORES), file)
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_drawing_opens_no_window_and_changes_no_settings(tmp_path: Path) -> None:
    """pyplot, which would look for a display, is never imported, whatever the backend set."""
    code = (
        "import sys; from pathlib import Path; from tests.trainings import training; "
        "from igrag.training.curves import draw_curves; "
        f"draw_curves(training({{0: 0.1}}), Path({str(tmp_path / 'a.png')!r})); "
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPO_ROOT,
        env=os.environ | {"MPLBACKEND": "TkAgg"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"
