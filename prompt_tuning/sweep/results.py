"""What a sweep leaves for its reader: a table, the best settings as YAML, and Optuna's plots."""

import csv
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from igrag.files import atomic_path, write_json
from igrag.training.chart_style import STYLE, save_figure
from prompt_tuning.sweep.settings import Sweep, format_value
from prompt_tuning.sweep.study import SweepStudy
from prompt_tuning.sweep.trials import write_settings

BEST_NAME, CSV_NAME, JSON_NAME = "best.yaml", "trials.csv", "trials.json"
_OBJECTIVE = "validation BLEU-4"
_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "stopped early",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "not finished",
    TrialState.WAITING: "not finished",
}
_FIGURE_HEIGHT, _PANEL_WIDTH = 4.5, 3.2  # inches
_LABEL_SIZE = 9  # points
_LONGEST_TABLE = 10  # trials that are printed


def save_results(study: SweepStudy, sweep: Sweep) -> list[Path]:
    """Writes the table, and where a trial is complete the best settings and the plots.

    Returns:
        The files.
    """
    rows = [_row(trial) for trial in study.trials]
    csv_file, json_file = study.folder / CSV_NAME, study.folder / JSON_NAME
    _write_csv(csv_file, rows)
    write_json(json_file, rows)
    best = study.best
    if best is None:
        return [csv_file, json_file]
    best_file = study.folder / BEST_NAME
    comment = f"Validation BLEU-4 {best.value:.4f}: trial {best.number} of {len(rows)}."
    write_settings(best_file, sweep, dict(best.params), comment=comment)
    return [best_file, csv_file, json_file, *_draw_plots(study.study, study.folder)]


def table_text(study: SweepStudy) -> str:
    """Returns the best trials as a Markdown table, and how many there are of each state."""
    ranked = study.ranked[:_LONGEST_TABLE]
    keys = list(dict.fromkeys(key for trial in ranked for key in trial.params))
    rows = [["trial", "BLEU-4", *keys]]
    for trial in ranked:
        values = [format_value(trial.params.get(key)) for key in keys]
        rows.append([str(trial.number), f"{trial.value:.4f}", *values])
    rows.insert(1, ["---"] * len(rows[0]))
    states = [_STATES[trial.state] for trial in study.trials]
    counts = ", ".join(f"{states.count(each)} {each}" for each in dict.fromkeys(states))
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{table}\n\n{len(states)} trials: {counts}"


def _row(trial: FrozenTrial) -> dict[str, Any]:
    attributes = trial.user_attrs
    return {
        "trial": trial.number,
        "state": _STATES[trial.state],
        "bleu4": trial.value if trial.state == TrialState.COMPLETE else None,
        "untuned_bleu4": attributes.get("untuned_bleu4"),
        "best_step": attributes.get("best_step"),
        "validations": [trial.intermediate_values[n] for n in sorted(trial.intermediate_values)],
        "training_seconds": attributes.get("training_seconds"),
        "error": attributes.get("error"),
        "settings": trial.params,
    }


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    flat = [
        {key: value for key, value in row.items() if key not in ("settings", "validations")}
        | row["settings"]
        for row in rows
    ]
    names = list(dict.fromkeys(name for row in flat for name in row))
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, names, lineterminator="\n")
    table.writeheader()
    table.writerows(flat)
    with atomic_path(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _draw_plots(study: Study, folder: Path) -> list[Path]:
    """Draws Optuna's plots of the complete trials as PNG files."""
    import matplotlib

    matplotlib.use("Agg")  # Optuna draws with pyplot, which would look for a display.
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as plots

    complete = [each for each in study.get_trials() if each.state == TrialState.COMPLETE]
    keys = {key for trial in complete for key in trial.params}
    drawings: dict[str, Callable[..., Any]] = {
        "history.png": plots.plot_optimization_history,
        "slice.png": plots.plot_slice,
    }
    if len({trial.value for trial in complete}) > 1:  # Equal values have nothing to explain.
        drawings["parallel.png"] = plots.plot_parallel_coordinate
        drawings["importance.png"] = plots.plot_param_importances
    files = []
    for name, draw in drawings.items():
        with style.context(["default", STYLE]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # These plots are marked experimental.
            figure = _figure_of(draw(study, target_name=_OBJECTIVE))
            panels = len(keys) if name in ("slice.png", "parallel.png") else 0
            figure.set_size_inches(max(8.0, _PANEL_WIDTH * panels), _FIGURE_HEIGHT)
            for axes in figure.axes:  # Whole keys have room next to each other.
                axes.xaxis.label.set_fontsize(_LABEL_SIZE)
            save_figure(figure, folder / name, tight=True)
            pyplot.close(figure)
        files.append(folder / name)
    return files


def _figure_of(drawn: Any) -> Figure:
    axes: Axes = drawn if isinstance(drawn, Axes) else drawn.flat[0]
    figure = axes.figure
    assert isinstance(figure, Figure)
    return figure
