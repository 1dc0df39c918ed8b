"""The files of an evaluation, each written whole or not at all."""

from collections.abc import Iterable
from pathlib import Path

from evaluation.chart import draw_comparison
from evaluation.overwrite_guard import METRICS_NAME
from evaluation.report import write_report
from evaluation.results import Outcome
from evaluation.results_files import RESULTS_NAME, files_of_methods, write_results
from evaluation.table import as_markdown
from igrag.files import atomic_path, write_json

TABLE_NAME, CHART_NAME, REPORT_NAME = "table.md", "comparison.png", "report.html"


def names_of_files(methods: Iterable[str]) -> list[str]:
    """Names what `publish` writes beside metrics.json.

    Args:
        methods: Those whose captions it writes; none where these came from files.
    """
    files = [path.name for path in files_of_methods(Path(), methods)]
    return [*([RESULTS_NAME] if files else []), *files, TABLE_NAME, CHART_NAME, REPORT_NAME]


def publish(outcome: Outcome, folder: Path, *, report_images: int) -> list[Path]:
    """Writes everything into a folder; what an earlier evaluation left there is replaced.

    Args:
        outcome: What to tell.
        folder: Made if need be.
        report_images: Images to show in the report, see `write_report`.

    Returns:
        The files.
    """
    metrics, table = folder / METRICS_NAME, folder / TABLE_NAME
    chart, report = folder / CHART_NAME, folder / REPORT_NAME
    # First: it tells what the others are of, should an interruption leave only some of them.
    write_json(metrics, outcome.to_json())
    written = []
    if outcome.origin:  # Captions that came from files are in files already.
        captions = {score.name: score.captions for score in outcome.scores}
        written += write_results(folder, captions, outcome.split)
    with atomic_path(table) as temporary:
        temporary.write_text(table_text(outcome), encoding="utf-8")
    draw_comparison(
        outcome.scores,
        chart,
        title="Captions compared",
        subtitle=f"{outcome.subject}; with 95% intervals",
        reference=outcome.reference,
    )
    write_report(outcome, report, chart=chart, most=report_images)
    return [*written, metrics, table, chart, report]


def table_text(outcome: Outcome) -> str:
    """Returns the table with what it is of above, and its notes below."""
    notes = "\n".join(f"- {note}" for note in outcome.notes())
    return f"{outcome.subject}\n\n{as_markdown(outcome.rows())}\n\n{notes}\n"
