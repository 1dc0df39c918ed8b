"""The chart of a comparison."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from evaluation.chart import draw_comparison, method_colors
from evaluation.results import EvaluationResult
from evaluation.scoring import MethodScores, headline_metrics
from igrag.metrics import CaptionScores, Interval, MetricScore, registered_metrics
from tests.evaluation.example_results import CAPTIONS, REFERENCES, make_dataset, make_result


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


def scored(name: str, values: Mapping[str, float], *, reach: float = 0.0) -> MethodScores:
    """Returns a method with these scores (key -> value) and intervals of `reach` around them."""
    metrics = {metric.key: metric for metric in registered_metrics() if metric.key in values}
    scores = {key: MetricScore(value) for key, value in values.items()}
    intervals = {
        key: Interval(value, value - reach, value + reach) for key, value in values.items()
    }
    return MethodScores(name, ("a dog",), CaptionScores(metrics, scores, {}), intervals, {})


def draw_scores(methods: Sequence[MethodScores], path: Path, *, title: str = "Captions") -> None:
    """Draws methods; the first one is the baseline."""
    draw_comparison(
        methods, path, title=title, subtitle="3 images of captions.json", baseline=methods[0].name
    )


def bars(axes: Axes) -> list[float]:
    """Returns the lengths of a panel's bars, from the top down."""
    containers = [each for each in axes.containers if isinstance(each, BarContainer)]
    return [float(bar.get_width()) for each in containers for bar in each]


@pytest.mark.slow
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


def test_axis_spans_a_twentieth_of_the_range_at_least(
    tmp_path: Path, figures: list[Figure]
) -> None:
    """Scores of next to nothing stay short bars: 0.05 of BLEU-4, and as much of CIDEr-D's 10."""
    draw_scores([scored("base", {"bleu4": 0.002, "cider_d": 0.01})], tmp_path / "a.png")
    bleu, cider = figures[0].axes
    assert bleu.get_xlim() == (0, 0.05) and cider.get_xlim() == (0, 0.5)
    draw_scores([scored("base", {"bleu4": 0.5, "cider_d": 2.0})], tmp_path / "b.png")
    assert figures[1].axes[0].get_xlim()[1] == pytest.approx(0.64)


def test_scores_that_round_to_zero_read_as_zero(tmp_path: Path, figures: list[Figure]) -> None:
    """Rounding errors below and above 0 draw no bar and no interval, and no "-0.000"."""
    methods = [scored("base", {"bleu4": -1e-9}), scored("prompt", {"bleu4": 4e-4}, reach=5e-5)]
    draw_scores(methods, tmp_path / "a.png")
    (bleu,) = figures[0].axes
    assert bars(bleu) == [0, 0]
    assert [text.get_text() for text in bleu.texts] == ["0.000", "0.000"]
    assert not any(isinstance(each, ErrorbarContainer) for each in bleu.containers)


@pytest.mark.parametrize(
    ("count", "title", "name"),
    [
        (1, "Captions", "m"),
        (2, "Captions of many methods compared " * 5, "runs/with_a_long_name/checkpoint-375"),
        (12, "Captions" * 40, "x" * 80),
        (12, "Captions", "a b " * 40),
    ],
)
def test_no_text_of_the_chart_covers_another(
    tmp_path: Path, figures: list[Figure], count: int, title: str, name: str
) -> None:
    """Names and titles of any length wrap, and everything is inside the image."""
    values = {"bleu4": 0.5, "rouge_l": 0.2}
    methods = [scored(f"{number} {name}", values, reach=0.1) for number in range(count)]
    draw_scores(methods, tmp_path / "a.png", title=title)
    figure = figures[0]
    width, height = figure.get_size_inches()
    drawn = figure.get_tightbbox()
    assert drawn.x0 >= 0 and drawn.y0 >= 0 and drawn.x1 <= width and drawn.y1 <= height
    # matplotlib spaces the numbers of an axis itself; names stand at the first panel alone.
    ticks = [axes.xaxis for axes in figure.axes] + [axes.yaxis for axes in figure.axes[1:]]
    not_checked = {text for axis in ticks for text in axis.findobj(Text)}
    boxes = [
        (text.get_text(), text.get_window_extent())
        for text in figure.findobj(Text)
        if isinstance(text, Text) and text.get_visible() and text.get_text().strip()
        if text not in not_checked
    ]
    assert len(boxes) >= 3 * count + 5
    assert [
        (first, second)
        for (first, box), (second, other) in combinations(boxes, 2)
        if box.overlaps(other)
    ] == []


def test_many_metrics_stand_in_rows(
    tmp_path: Path, figures: list[Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than four panels take a second row, instead of a chart that is ever wider."""
    keys = ["bleu4", "cider_d", "rouge_l", "bleu1", "bleu2", "bleu3"]
    method = scored("base", dict.fromkeys(keys, 0.5))
    for metric in method.scores.metrics.values():
        monkeypatch.setattr(metric, "headline", True)
    draw_scores([method], tmp_path / "a.png")
    axes = figures[0].axes
    assert len(axes) == len(keys)
    assert len({round(each.get_position().y0, 3) for each in axes}) == 2
    assert figures[0].get_size_inches()[0] == 9


@pytest.mark.parametrize("images", [1, 3])
def test_intervals_are_named_where_there_are_any(
    tmp_path: Path, figures: list[Figure], images: int
) -> None:
    """The last line explains bars and lines; a single image has no intervals to explain."""
    captions = {name: texts[:images] for name, texts in CAPTIONS.items()}
    draw(make_result(captions, make_dataset(REFERENCES[:images])), tmp_path / "a.png")
    footer = figures[0].texts[-1].get_text()
    assert ("95% intervals" in footer) == (images > 1)
