"""The comparison as a table in Markdown, aligned so that it reads in a terminal too."""

from collections.abc import Mapping, Sequence

from evaluation.scoring import BLEU4, CIDER_D, ROUGE_L, Metric, Score
from evaluation.training_facts import TrainingFacts
from igrag.metrics import format_score

NOT_KNOWN, NOTHING = "n/a", "–"


def table_rows(
    scores: Sequence[Score],
    *,
    reference: str,
    meteor: Mapping[str, float] | None = None,
    facts: Mapping[str, TrainingFacts] | None = None,
    seconds: Mapping[str, float] | None = None,
) -> list[list[str]]:
    """Lays out one method a row, below a row of titles.

    Args:
        scores: Of the methods.
        reference: The method that the others are compared with.
        meteor: METEOR of each; None leaves the column out.
        facts: What each cost; None leaves the columns out.
        seconds: How long each wrote; None leaves the column out.
    """
    titles = [
        "method", "BLEU-4", "95% interval", "CIDEr-D", "ROUGE-L", f"BLEU-4 over {reference}", "p",
    ]  # fmt: skip
    rows = [titles, *(_score_cells(score, reference) for score in scores)]
    if meteor is not None:
        place = titles.index(ROUGE_L.label) + 1  # beside the other scores
        titles.insert(place, "METEOR")
        for row, score in zip(rows[1:], scores, strict=True):
            row.insert(place, format_score(meteor[score.name]))
    if facts is not None:
        titles += ["trainable parameters", "share of the model", "training time", "size on disk"]
        for row, score in zip(rows[1:], scores, strict=True):
            row += format_facts(facts[score.name])
    if seconds is not None:
        titles.append("captions/s")
        for row, score in zip(rows[1:], scores, strict=True):
            row.append(f"{len(score.captions) / seconds[score.name]:.1f}")
    return rows


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    """Turns rows, the first of which are titles, into a Markdown table; figures stand right."""
    cells = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        padded = [
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(f"| {' | '.join(padded)} |")
    rule = [
        "-" * width if not place else "-" * (width - 1) + ":" for place, width in enumerate(widths)
    ]
    lines.insert(1, f"| {' | '.join(rule)} |")
    return "\n".join(lines)


def format_interval(score: Score, metric: Metric) -> str:
    """Returns "0.401 to 0.433"."""
    interval = score.intervals.get(metric.key)
    return f"{interval.low:.3f} to {interval.high:.3f}" if interval else NOT_KNOWN


def format_gain(score: Score, metric: Metric, *, reference: str) -> tuple[str, str]:
    """Returns the difference to the reference method and its p-value."""
    if score.name == reference:
        return NOTHING, NOTHING
    gain = score.gains.get(metric.key)
    return (f"{gain.difference:+.3f}", f"{gain.p_value:.3f}") if gain else (NOT_KNOWN, NOT_KNOWN)


def format_facts(facts: TrainingFacts) -> tuple[str, str, str, str]:
    """Returns trainable parameters, their share, training time and size on disk."""
    if facts.trainable_parameters == 0:
        return "0", "0%", NOTHING, NOTHING
    count, percent = facts.trainable_parameters, facts.trainable_percent
    return (
        NOT_KNOWN if count is None else f"{count:,}",
        NOT_KNOWN if percent is None else f"{percent:.2g}%",
        NOT_KNOWN if facts.training_seconds is None else format_time(facts.training_seconds),
        NOT_KNOWN if facts.size_bytes is None else format_size(facts.size_bytes),
    )


def format_time(seconds: float) -> str:
    """Returns "48 s", "2 min 05 s" or "1 h 40 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def format_size(size: int) -> str:
    """Returns "640 B", "16 kB" or "3.4 MB", in powers of 1000."""
    if size < 1000:
        return f"{size} B"
    value, unit = size / 1000, "kB"
    if value >= 999.5:  # which would be shown as 1,000
        value, unit = value / 1000, "MB"
    return f"{value:.1f} {unit}" if value < 10 else f"{value:,.0f} {unit}"


def _score_cells(score: Score, reference: str) -> list[str]:
    return [
        score.name,
        format_score(score.value(BLEU4)),
        format_interval(score, BLEU4),
        format_score(score.value(CIDER_D)),
        format_score(score.value(ROUGE_L)),
        *format_gain(score, BLEU4, reference=reference),
    ]
