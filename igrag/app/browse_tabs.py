"""The tabs that browse evaluations and training runs."""

from typing import Any

import gradio as gr

from igrag.app.caption_tab import Label
from igrag.app.evaluations import Evaluations
from igrag.app.texts import texts_for
from igrag.app.training_runs import MOST_RUNS, TrainingRuns
from igrag.metrics import registered_metrics

_SECONDS = 5  # between two looks at the records of runs that may be training


def add_evaluation_tab(tab: gr.Tab, evaluations: Evaluations, label: Label) -> None:
    """Adds the components and events of a tab that browses evaluations."""
    with gr.Row():
        name = gr.Dropdown(label=label("evaluation"), elem_id="evaluation", scale=2)
        orders = [(metric.label, metric.key) for metric in registered_metrics() if metric.headline]
        order = gr.Dropdown([("–", ""), *orders], value="", label=label("sort_by"), elem_id="sort")
    scores, report = gr.HTML(elem_id="scores"), gr.HTML(elem_id="report")

    def find(chosen: str | None) -> Any:
        return _choices(evaluations.names(), chosen)

    def show_scores(chosen: str | None, key: str, request: gr.Request) -> str:
        return evaluations.scores(chosen, key, _texts(request))

    def show_report(chosen: str | None, request: gr.Request) -> str:
        return evaluations.report(chosen, _texts(request))

    options: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    tab.select(find, name, name, **options)
    gr.on([tab.select, name.change, order.change], show_scores, [name, order], scores, **options)
    gr.on([tab.select, name.change], show_report, name, report, **options)


def add_runs_tab(tab: gr.Tab, runs: TrainingRuns, label: Label) -> None:
    """Adds the components and events of a tab that browses training runs."""
    names = gr.Dropdown(
        multiselect=True, max_choices=MOST_RUNS, label=label("runs"), info=label("runs_info"),
        elem_id="runs",
    )  # fmt: skip
    page, shown = gr.HTML(elem_id="run"), gr.State([])
    timer = gr.Timer(_SECONDS)

    def find(chosen: list[str] | None) -> Any:
        found = runs.names()
        kept = [name for name in chosen or [] if name in found] or found[:1]
        return gr.Dropdown(choices=found, value=kept)

    def show(chosen: list[str] | None, request: gr.Request) -> tuple[str, Any]:
        state = runs.state(chosen or [])  # Before: what is written while it is read is read again.
        return runs.show(chosen or [], _texts(request)), state

    def refresh(chosen: list[str] | None, before: Any, request: gr.Request) -> tuple[Any, Any]:
        if runs.state(chosen or []) == before:
            return gr.skip(), gr.skip()
        return show(chosen, request)

    options: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    tab.select(find, names, names, **options).then(show, names, [page, shown], **options)
    names.change(show, names, [page, shown], **options)
    timer.tick(refresh, [names, shown], [page, shown], **options)


def _choices(found: list[str], chosen: str | None) -> Any:
    value = chosen if chosen in found else next(iter(found), None)
    return gr.Dropdown(choices=found, value=value)


def _texts(request: gr.Request) -> Any:
    return texts_for(request.headers.get("accept-language"))
