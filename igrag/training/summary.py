"""What both trainings print: the run at its start, the table of validations at its end."""

from collections.abc import Collection, Sequence
from pathlib import Path

from igrag.training.record import Evaluation, TrainingRecord

_COLUMNS: tuple[str, ...] = ("step", "epoch", "val loss", "BLEU-1", "BLEU-4")
MIN_BLEU4 = 0.001  # below it, captions and references have next to nothing in common
MIN_LEAD = 0.0005  # of BLEU-4; smaller differences are noise


def run_header(record: TrainingRecord, train_file: str, val_file: str) -> str:
    """Returns the parameter counts of a run, and the examples with their files."""
    data = record.data
    return (
        f"{record.model.name}: {record.model.describe_parameters()}\n"
        f"{data['train_examples']:,} training examples ({train_file}), "
        f"{data['val_examples']:,} validation examples ({val_file})"
    )


def run_footer(record: TrainingRecord, best: Path, *files: Path) -> str:
    """Returns the table of validations, and the paths of the best weights and of the results."""
    results = ", ".join(map(str, files))
    return f"{results_table(record)}\nbest:    {best}\nresults: {results}"


def results_table(record: TrainingRecord) -> str:
    """Returns a table of all validations, one a line, with the gain of the best checkpoint.

    Notes at the end name what makes the choice of the best checkpoint doubtful.
    """
    rows = [(*_COLUMNS, "")]
    for evaluation in record.evaluations:
        figures = (evaluation.loss, evaluation.bleu1, evaluation.bleu4)
        cells = (str(evaluation.step), f"{evaluation.epoch:.2f}", *(f"{x:.4f}" for x in figures))
        rows.append((*cells, _remark(record, evaluation)))
    table = aligned(rows, left={len(_COLUMNS)})
    return "\n".join([table, *(f"note: {note}" for note in best_notes(record))])


def aligned(rows: Sequence[Sequence[str]], *, left: Collection[int] = ()) -> str:
    """Returns rows as text in columns, those with an index in `left` aligned left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def best_notes(record: TrainingRecord) -> list[str]:
    """Returns why the best checkpoint may be no better than others; empty if it clearly is."""
    best, gain = record.best, record.gain
    if best is None:
        return []
    notes = []
    if best.bleu4 < MIN_BLEU4:
        notes.append(f"the best BLEU-4 is below {MIN_BLEU4}: the captions match hardly any n-gram")
    if gain is not None and gain < 0:
        notes.append(
            "every checkpoint is worse than the untuned model, the best one too; do not use it: "
            "train longer, or with another learning_rate"
        )
    elif gain is not None and gain < MIN_LEAD:
        notes.append(f"the best BLEU-4 exceeds the untuned model's by less than {MIN_LEAD}")
    others = [found.bleu4 for found in record.evaluations if found.checkpoint and found != best]
    if others and round(best.bleu4 - max(others), 4) < MIN_LEAD:
        notes.append(
            f"the best BLEU-4 exceeds another checkpoint's by less than {MIN_LEAD}; the lower "
            "validation loss decides between equal ones"
        )
    return notes


def _remark(record: TrainingRecord, evaluation: Evaluation) -> str:
    if evaluation is record.untuned:
        return "untuned"
    if evaluation is not record.best:
        return ""
    return "best" if record.gain is None else f"best (BLEU-4 {record.gain:+.4f})"
