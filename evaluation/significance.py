"""What beats what: every method against those that need no training and chosen others."""

from collections.abc import Sequence

from evaluation.extra_table import ExtraTable
from evaluation.human import HUMAN
from evaluation.rows import BASELINES
from evaluation.scoring import MethodScores, headline_metrics
from igrag.errors import UsageError
from igrag.metrics import Comparison, Metric

SIGNIFICANT = 0.05  # p-value
_TESTED = ("bleu4", "cider_d")
_NO_FIGURE = "–"


def compared_with(names: Sequence[str], against: Sequence[str] = ()) -> list[str]:
    """Returns those of a comparison's methods that the others are tested against.

    Args:
        names: Its methods.
        against: Methods besides the baselines.

    Raises:
        UsageError: The comparison has no such method.
    """
    for name in against:
        if name not in names:
            raise UsageError(f"--against {name}: expected some of {','.join(names)}")
    return [*dict.fromkeys([*(name for name in BASELINES if name in names), *against])]


def subjects_of(methods: Sequence[MethodScores]) -> list[MethodScores]:
    """Returns the methods that must beat the baselines: all but these and `human`."""
    return [each for each in methods if each.name not in (*BASELINES, HUMAN)]


def significance_table(methods: Sequence[MethodScores]) -> ExtraTable | None:
    """Returns the differences to every baseline with their p-values; None without any."""
    metrics = _tested_metrics(methods)
    subjects = subjects_of(methods)
    names = [*dict.fromkeys(name for method in subjects for name in method.over)]
    if not (metrics and names):
        return None
    titles = ["method", *(f"{metric.label} over {name}" for metric in metrics for name in names)]
    rows = [
        [
            method.name,
            *(_cell(method.over.get(name, {}).get(metric.key))
              for metric in metrics for name in names),
        ]
        for method in subjects
    ]  # fmt: skip
    return ExtraTable("Differences to other methods (p of the paired test)",
                      [titles, *rows])  # fmt: skip


def sentences(methods: Sequence[MethodScores]) -> list[str]:
    """Returns a sentence for each method: what it beats, in which metric, by how much."""
    metrics = _tested_metrics(methods)
    clauses = {
        method.name: [part for metric in metrics if (part := _clause(method, metric))]
        for method in subjects_of(methods)
    }
    return [f"{name}: {'; '.join(parts)}." for name, parts in clauses.items() if parts]


def _clause(method: MethodScores, metric: Metric) -> str:
    """Returns "in BLEU-4 it beats base by 0.4 (p = 0.002) and is no better than nearest (...)"."""
    verbs: dict[str, list[str]] = {}
    for name, gains in method.over.items():
        if found := gains.get(metric.key):
            verb, figure = _verb(found)
            verbs.setdefault(verb, []).append(f"{name} {figure}")
    clauses = [f"{verb} {_enumerate(texts)}" for verb, texts in verbs.items()]
    return f"in {metric.label} it {_enumerate(clauses)}" if clauses else ""


def _verb(found: Comparison) -> tuple[str, str]:
    figure = f"p = {found.p_value:.3f}"
    # Near 0 BLEU-4 differs by what COCO adds to counts: a difference that nobody sees is none.
    if found.p_value >= SIGNIFICANT or f"{abs(found.difference):.3f}" == "0.000":
        return "is no better than", f"({found.difference:+.3f}, {figure})"
    verb = "beats" if found.difference > 0 else "is worse than"
    return verb, f"by {abs(found.difference):.3f} ({figure})"


def _enumerate(texts: Sequence[str]) -> str:
    *first, last = texts
    return f"{', '.join(first)} and {last}" if first else last


def _cell(found: Comparison | None) -> str:
    return f"{found.difference:+.3f} ({found.p_value:.3f})" if found else _NO_FIGURE


def _tested_metrics(methods: Sequence[MethodScores]) -> list[Metric]:
    return [metric for metric in headline_metrics(methods) if metric.key in _TESTED]
