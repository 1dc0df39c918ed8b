"""The chart of a comparison."""

from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from PIL import Image

from evaluation.chart import draw_comparison, method_colors
from evaluation.results import EvaluationResult
from evaluation.scoring import headline_metrics
from tests.evaluation.example_results import CAPTIONS, make_dataset, make_result


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved."""
    saved: list[Figure] = []
    save = Figure.savefig

    def collect(figure: Figure, *args: object, **options: object) -> None:
        saved.append(figure)
        save(figure, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "savefig", collect)
    return saved


def draw(result: EvaluationResult, path: Path, *, title: str = "Captions") -> Path:
    """Draws a comparison."""
    draw_comparison(
        result.methods, path, title=title, subtitle=result.subject, baseline=result.baseline
    )
    return path


def bars(axes: Axes) -> list[float]:
    """Returns the lengths of a panel's bars, from the top down."""
    containers = [each for each in axes.containers if isinstance(each, BarContainer)]
    return [float(bar.get_width()) for each in containers for bar in each]


def test_chart_is_the_same_png_every_time(tmp_path: Path) -> None:
    """The PNG has the same bytes every time, and is higher with more methods."""
    path = draw(make_result(), tmp_path / "new" / "comparison.png")
    again = draw(make_result(), tmp_path / "again.png")
    assert path.read_bytes() == again.read_bytes()
    more = draw(make_result({str(n): CAPTIONS["base"] for n in range(14)}), tmp_path / "more.png")
    with Image.open(path) as image, Image.open(more) as higher:
        assert image.format == "PNG" and image.width == higher.width == 1350
        assert higher.height > 3 * image.height


def test_bars_and_intervals_show_the_scores(tmp_path: Path, figures: list[Figure]) -> None:
    """There is a panel for each metric; every bar reaches from 0 to the score."""
    result = make_result()
    draw(result, tmp_path / "a.png")
    assert [axes.get_title(loc="left") for axes in figures[0].axes] == [
        metric.label for metric in headline_metrics(result.methods)
    ]
    for axes, metric in zip(figures[0].axes, headline_metrics(result.methods), strict=True):
        assert bars(axes) == pytest.approx([method.value(metric) for method in result.methods])
        assert axes.get_xlim()[0] == 0
        reach = [each for each in axes.containers if isinstance(each, ErrorbarContainer)]
        ends = [each.lines[2][0].get_segments()[0][:, 0].tolist() for each in reach]
        intervals = [method.intervals[metric.key] for method in result.methods]
        expected = [
            [min(method.value(metric) or 0, found.low), max(method.value(metric) or 0, found.high)]
            for method, found in zip(result.methods, intervals, strict=True)
        ]
        assert ends == [pytest.approx(pair) for pair in expected]
    labels = [text.get_text() for text in figures[0].axes[0].get_yticklabels()]
    assert labels == ["base", "prompt"]
    assert figures[0].axes[0].yaxis_inverted()


def test_undefined_score_is_shown_as_not_available(tmp_path: Path, figures: list[Figure]) -> None:
    """A single image has no CIDEr-D: its panel shows "n/a" instead of a bar of length 0."""
    one = {name: texts[:1] for name, texts in CAPTIONS.items()}
    draw(make_result(one, make_dataset((("a dog runs",),))), tmp_path / "a.png")
    cider = figures[0].axes[1]
    assert bars(cider) == []
    assert [text.get_text().strip() for text in cider.texts] == ["n/a", "n/a"]


def test_methods_have_distinct_colors(tmp_path: Path) -> None:
    """Each method has its own color, the baseline gray; names can have any characters."""
    names = ["base", "prompt", "lora", "lora+prompt", "$x_1$", "a" * 80]
    result = make_result(dict.fromkeys(names, CAPTIONS["base"]))
    colors = method_colors(result.methods, "base")
    assert len(set(colors)) == len(names) and colors[0] == to_hex("#999999")
    assert method_colors(result.methods, "lora")[2] == colors[0]
    draw(result, tmp_path / "a.png", title="$\\frac$")
