"""A training's validations as a table, for the end of the training."""

from igrag.training.record import Evaluation, TrainingRecord

_COLUMNS: tuple[str, ...] = ("step", "epoch", "val loss", "BLEU-1", "BLEU-4")


def results_table(record: TrainingRecord) -> str:
    """Lays out all validations, one a line; the best names its gain over the untuned model.

    Where that is a loss, a line at the end says so.
    """
    rows = [_COLUMNS]
    for found in record.evaluations:
        figures = (f"{value:.4f}" for value in (found.loss, found.bleu1, found.bleu4))
        rows.append((str(found.step), f"{found.epoch:.2f}", *figures))
    remarks = ["", *(_remark(record, found) for found in record.evaluations)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row, remark in zip(rows, remarks, strict=True):
        cells = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([*cells, remark]).rstrip())
    if record.gain is not None and record.gain < 0:
        lines.append(
            "note: every checkpoint is worse than the untuned model, the best one too; do not use "
            "it: train longer, or with another learning_rate"
        )
    return "\n".join(lines)


def _remark(record: TrainingRecord, evaluation: Evaluation) -> str:
    if evaluation is record.untuned:
        return "untuned"
    if evaluation is not record.best:
        return ""
    return "best" if record.gain is None else f"best (BLEU-4 {record.gain:+.4f})"
