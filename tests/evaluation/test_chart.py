"""The image of a comparison."""

from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from PIL import Image

from evaluation.chart import draw_comparison, method_colors
from evaluation.results import Outcome
from evaluation.scoring import METRICS
from tests.evaluation.outcomes import CAPTIONS, outcome_of, split_of


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


def draw(outcome: Outcome, path: Path, *, title: str = "Captions") -> Path:
    """Draws a comparison."""
    draw_comparison(
        outcome.scores, path, title=title, subtitle=outcome.subject, reference=outcome.reference
    )
    return path


def bars(axes: Axes) -> list[float]:
    """Returns the lengths of a panel's bars, from the top down."""
    containers = [each for each in axes.containers if isinstance(each, BarContainer)]
    return [float(bar.get_width()) for each in containers for bar in each]


def test_image(tmp_path: Path) -> None:
    """A PNG, higher with more methods, the same bytes every time."""
    path = draw(outcome_of(), tmp_path / "new" / "comparison.png")
    again = draw(outcome_of(), tmp_path / "again.png")
    assert path.read_bytes() == again.read_bytes()
    more = draw(outcome_of({str(n): CAPTIONS["base"] for n in range(20)}), tmp_path / "more.png")
    with Image.open(path) as image, Image.open(more) as higher:
        assert image.format == "PNG" and image.width == higher.width == 1350
        assert higher.height > 3 * image.height


def test_bars_and_intervals_are_the_scores(tmp_path: Path, figures: list[Figure]) -> None:
    """One panel a metric; every bar begins at 0 and ends at the score, in its interval."""
    outcome = outcome_of()
    draw(outcome, tmp_path / "a.png")
    assert [axes.get_title(loc="left") for axes in figures[0].axes] == [
        metric.label for metric in METRICS
    ]
    for axes, metric in zip(figures[0].axes, METRICS, strict=True):
        assert bars(axes) == pytest.approx([score.value(metric) for score in outcome.scores])
        assert axes.get_xlim()[0] == 0
        reach = [each for each in axes.containers if isinstance(each, ErrorbarContainer)]
        ends = [each.lines[2][0].get_segments()[0][:, 0].tolist() for each in reach]
        intervals = [score.intervals[metric.key] for score in outcome.scores]
        expected = [
            [min(score.value(metric) or 0, found.low), max(score.value(metric) or 0, found.high)]
            for score, found in zip(outcome.scores, intervals, strict=True)
        ]
        assert ends == [pytest.approx(pair) for pair in expected]
    labels = [text.get_text() for text in figures[0].axes[0].get_yticklabels()]
    assert labels == ["base", "prompt"]
    assert figures[0].axes[0].yaxis_inverted()


def test_a_score_that_is_not_defined(tmp_path: Path, figures: list[Figure]) -> None:
    """A single image has no CIDEr-D: the panel says so instead of drawing 0."""
    one = {name: texts[:1] for name, texts in CAPTIONS.items()}
    draw(outcome_of(one, split_of((("a dog runs",),))), tmp_path / "a.png")
    cider = figures[0].axes[1]
    assert bars(cider) == []
    assert [text.get_text().strip() for text in cider.texts] == ["n/a", "n/a"]


def test_methods_are_told_apart(tmp_path: Path) -> None:
    """By colors of their own, the reference's being gray, and by names of any kind."""
    names = ["base", "prompt", "lora", "lora+prompt", "$x_1$", "a" * 80]
    outcome = outcome_of(dict.fromkeys(names, CAPTIONS["base"]))
    colors = method_colors(outcome.scores, "base")
    assert len(set(colors)) == len(names) and colors[0] == to_hex("#999999")
    assert method_colors(outcome.scores, "lora")[2] == colors[0]
    draw(outcome, tmp_path / "a.png", title="$\\frac$")
