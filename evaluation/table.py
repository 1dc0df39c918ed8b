"""The comparison as a Markdown table, aligned for terminals."""

from collections.abc import Mapping, Sequence

from evaluation.scoring import PRIMARY_METRIC, MethodScores, headline_metrics
from evaluation.training_facts import NOTHING_TRAINED, TrainingFacts
from igrag.metrics import format_score
from igrag.units import format_size, format_time

UNKNOWN, NONE = "n/a", "–"


def table_rows(
    methods: Sequence[MethodScores],
    *,
    baseline: str,
    facts: Mapping[str, TrainingFacts] | None = None,
    seconds: Mapping[str, float] | None = None,
) -> list[list[str]]:
    """Returns one row per method, after a row of titles.

    Args:
        methods: The scores of the methods.
        baseline: The method that the others are compared with.
        facts: By method, the cost of its training, none for one that is not there; None leaves
            the columns out.
        seconds: By method that generates, the time of it; None leaves the column out.
    """
    primary, *others = headline_metrics(methods)
    columns = [
        ["method", *(method.name for method in methods)],
        *([metric.label, *(format_score(method.value(metric)) for method in methods)]
          for metric in (primary, *others)),
        [f"{primary.label} over {baseline}", *(_gain(method, baseline)[0] for method in methods)],
        ["p", *(_gain(method, baseline)[1] for method in methods)],
    ]  # fmt: skip
    columns.insert(2, ["95% interval", *map(_interval, methods)])
    rows = [list(row) for row in zip(*columns, strict=True)]
    if facts is not None:
        rows[0] += ["trainable parameters", "share of the model", "training time", "size on disk"]
        for row, method in zip(rows[1:], methods, strict=True):
            row += format_facts(facts.get(method.name, NOTHING_TRAINED))
    if seconds is not None:
        rows[0].append("captions/s")
        for row, method in zip(rows[1:], methods, strict=True):
            taken = seconds.get(method.name)
            row.append(f"{len(method.captions) / taken:.1f}" if taken else NONE)
    return rows


def to_markdown(rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table of rows, the first of which are titles; figures align right."""
    cells = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        padded = [
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(f"| {' | '.join(padded)} |")
    rule = ["-" * (width - 1) + ":" if index else "-" * width for index, width in enumerate(widths)]
    lines.insert(1, f"| {' | '.join(rule)} |")
    return "\n".join(lines)


def format_facts(facts: TrainingFacts) -> tuple[str, str, str, str]:
    """Returns trainable parameters, their share, training time and size on disk."""
    if facts.trainable_parameters == 0:
        return "0", "0%", NONE, NONE
    count, percent = facts.trainable_parameters, facts.trainable_percent
    return (
        UNKNOWN if count is None else f"{count:,}",
        UNKNOWN if percent is None else f"{percent:.2g}%",
        UNKNOWN if facts.training_seconds is None else format_time(facts.training_seconds),
        UNKNOWN if facts.size_bytes is None else format_size(facts.size_bytes),
    )


def _interval(method: MethodScores) -> str:
    interval = method.intervals.get(PRIMARY_METRIC)
    return f"{interval.low:.3f} to {interval.high:.3f}" if interval else UNKNOWN


def _gain(method: MethodScores, baseline: str) -> tuple[str, str]:
    """Returns the difference to the baseline and its p-value."""
    if method.name == baseline:
        return NONE, NONE
    gain = method.gains.get(PRIMARY_METRIC)
    return (f"{gain.difference:+.3f}", f"{gain.p_value:.3f}") if gain else (UNKNOWN, UNKNOWN)
