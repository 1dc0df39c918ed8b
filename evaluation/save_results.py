"""The files of an evaluation, each written completely or not at all."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from evaluation.chart import draw_comparison
from evaluation.coco_results import RESULTS_NAME, result_files, write_results
from evaluation.human import HUMAN
from evaluation.overwrite_guard import METRICS_NAME
from evaluation.partial_captions import PARTIAL_NAME
from evaluation.report import write_report
from evaluation.results import EvaluationResult
from evaluation.retrieval_chart import draw_retrieval_quality
from evaluation.table import to_markdown
from igrag.files import atomic_path, remove_leftovers, write_json
from igrag.output_lock import held_since

TABLE_NAME, CHART_NAME, REPORT_NAME = "table.md", "comparison.png", "report.html"
RETRIEVAL_CHART_NAME = "retrieval_quality.png"


def file_names(methods: Iterable[str]) -> list[str]:
    """Returns the names of the files that `save_results` writes besides metrics.json.

    Args:
        methods: Those whose captions it writes; none if these came from files.
    """
    methods = [name for name in methods if name != HUMAN]
    files = [path.name for path in result_files(Path(), methods)]
    charts = [CHART_NAME, RETRIEVAL_CHART_NAME]
    return [*([RESULTS_NAME] if files else []), *files, TABLE_NAME, *charts, REPORT_NAME]


def save_results(result: EvaluationResult, folder: Path, *, report_images: int) -> list[Path]:
    """Writes all files of an evaluation, replacing those of the previous one.

    Args:
        result: The evaluation.
        folder: The output folder, created if it does not exist.
        report_images: Images in the report, see `write_report`.

    Returns:
        The files.
    """
    methods = [each.name for each in result.methods] if result.generation else []
    own = {METRICS_NAME, *file_names(methods)}
    remove_leftovers(folder, is_own=own.__contains__, before=held_since(folder))
    metrics, table = folder / METRICS_NAME, folder / TABLE_NAME
    chart, report = folder / CHART_NAME, folder / REPORT_NAME
    # First: the overwrite guard needs it, should an interruption leave only some of the files.
    write_json(metrics, result.to_json())
    files = []
    if result.generation:  # Captions that came from files are in files already.
        # Those of `human` are the references: scored again, they would match themselves.
        captions = {each.name: each.captions for each in result.methods if each.name != HUMAN}
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
    charts = [chart, *_draw_retrieval_quality(result, folder / RETRIEVAL_CHART_NAME)]
    write_report(result, report, charts=charts, max_images=report_images)
    if result.generation:  # Everything that it kept is saved.
        (folder / PARTIAL_NAME).unlink(missing_ok=True)
    return [*files, metrics, table, *charts, report]


def _draw_retrieval_quality(result: EvaluationResult, path: Path) -> list[Path]:
    """Draws the scores by how good retrieval was, if there are any, else removes the file."""
    if result.retrieval is None or not result.retrieval.groups:
        path.unlink(missing_ok=True)
        return []
    draw_retrieval_quality(result.retrieval, path, baseline=result.baseline)
    return [path]


def table_text(result: EvaluationResult) -> str:
    """Returns the table with its subject above, its notes and the further tables below."""
    parts = [result.subject, to_markdown(result.table()), _bullets(result.notes())]
    for table in result.tables():
        parts += [table.title, to_markdown(table.rows)]
        parts += [_bullets(table.notes)] if table.notes else []
    return "\n\n".join(parts) + "\n"


def _bullets(notes: Sequence[str]) -> str:
    return "\n".join(f"- {note}" for note in notes)
