"""The files of an evaluation, each written completely or not at all."""

from collections.abc import Iterable
from pathlib import Path

from evaluation.chart import draw_comparison
from evaluation.coco_results import RESULTS_NAME, result_files, write_results
from evaluation.overwrite_guard import METRICS_NAME
from evaluation.report import write_report
from evaluation.results import EvaluationResult
from evaluation.table import to_markdown
from igrag.files import atomic_path, write_json

TABLE_NAME, CHART_NAME, REPORT_NAME = "table.md", "comparison.png", "report.html"


def file_names(methods: Iterable[str]) -> list[str]:
    """Returns the names of the files that `save_results` writes besides metrics.json.

    Args:
        methods: Those whose captions it writes; none if these came from files.
    """
    files = [path.name for path in result_files(Path(), methods)]
    return [*([RESULTS_NAME] if files else []), *files, TABLE_NAME, CHART_NAME, REPORT_NAME]


def save_results(result: EvaluationResult, folder: Path, *, report_images: int) -> list[Path]:
    """Writes all files of an evaluation, replacing those of the previous one.

    Args:
        result: The evaluation.
        folder: The output folder, created if it does not exist.
        report_images: Images in the report, see `write_report`.

    Returns:
        The files.
    """
    metrics, table = folder / METRICS_NAME, folder / TABLE_NAME
    chart, report = folder / CHART_NAME, folder / REPORT_NAME
    # First: the overwrite guard needs it, should an interruption leave only some of the files.
    write_json(metrics, result.to_json())
    files = []
    if result.generation:  # Captions that came from files are in files already.
        captions = {method.name: method.captions for method in result.methods}
        files += write_results(folder, captions, result.dataset)
    with atomic_path(table) as temporary:
        temporary.write_text(table_text(result), encoding="utf-8")
    draw_comparison(
        result.methods,
        chart,
        title="Captions compared",
        subtitle=result.subject,
        baseline=result.baseline,
    )
    write_report(result, report, chart=chart, max_images=report_images)
    return [*files, metrics, table, chart, report]


def table_text(result: EvaluationResult) -> str:
    """Returns the table with its subject above and its notes below."""
    notes = "\n".join(f"- {note}" for note in result.notes())
    return f"{result.subject}\n\n{to_markdown(result.table())}\n\n{notes}\n"
