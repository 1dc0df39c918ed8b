"""The tab that captions a dropped image."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import gradio as gr
from gradio.i18n import I18nData
from gradio.utils import get_upload_folder

from igrag.app.live_captions import CaptionView, LiveCaptions
from igrag.app.texts import texts_for

# A key of the texts -> what Gradio shows in the browser's language.
Label = Callable[[str], I18nData]
_MOST_MATCHES, _MOST_BEAMS = 20, 8
MODEL = "model"  # All events that use the model take their turn.


def add_caption_tab(
    live: LiveCaptions, label: Label, *, top_k: int, beams: int, examples: Sequence[Path]
) -> None:
    """Adds the components and events of the tab to the page that is being built.

    Args:
        live: Captions images.
        label: Returns labels in the browser's language.
        top_k: Similar images in the prompt at first.
        beams: Beams at first.
        examples: Images to choose from.
    """
    with gr.Row(equal_height=False):
        with gr.Column(min_width=280):
            image = gr.Image(
                label=label("image"), type="filepath", height=300, elem_id="image",
                sources=["upload", "webcam", "clipboard"], buttons=[],
            )  # fmt: skip
            # Gradio would open the file itself, with errors of its own.
            setattr(image, "preprocess", uploaded_file)  # noqa: B010
            if examples:
                _add_examples(image, examples, label)
            names = gr.CheckboxGroup(
                live.names, value=live.methods, label=label("methods"), info=label("methods_info"),
                elem_id="methods",
            )  # fmt: skip
            with gr.Accordion(label("decoding"), open=True):
                matches = gr.Slider(
                    1, max(_MOST_MATCHES, top_k), top_k, step=1, label=label("top_k"),
                    elem_id="top_k", buttons=[],
                )  # fmt: skip
                width = gr.Slider(
                    1, max(_MOST_BEAMS, beams), beams, step=1, label=label("beams"),
                    info=label("beams_info"), elem_id="beams", buttons=[],
                )  # fmt: skip
        with gr.Column(min_width=280, scale=2):
            outputs = [gr.HTML(elem_id=name) for name in ("status", "captions", "matches")]
            inputs: list[Any] = [image, names, matches, width]
            _add_explanation(live, label, inputs)

    def caption(
        path: Path | None, chosen: list[str], top_k: int, beams: int, request: gr.Request
    ) -> Iterator[list[Any]]:
        texts = texts_for(request.headers.get("accept-language"))
        views = live.caption(path, chosen, top_k=int(top_k), beams=int(beams), texts=texts)
        for view in views:
            yield _updates(view)

    gr.on(
        [each.change for each in inputs], caption, inputs, outputs, show_progress="hidden",
        trigger_mode="always_last", concurrency_limit=1, concurrency_id=MODEL,
        api_visibility="private",
    )  # fmt: skip


def uploaded_file(payload: Any) -> Path | None:
    """Returns the file that gr.Image got, without opening it.

    Raises:
        Error: It is not one that was uploaded.
    """
    if payload is None or payload.path is None:
        return None
    if not is_upload(payload.path):
        raise gr.Error("found another file, expected an upload", print_exception=False)
    return Path(payload.path)


def is_upload(path: str | Path) -> bool:
    """Returns whether a file was uploaded, or is an example: Gradio has both in one folder."""
    found = Path(path).resolve()
    return found.is_relative_to(Path(get_upload_folder()).resolve()) and found.is_file()


def _add_examples(image: gr.Image, examples: Sequence[Path], label: Label) -> None:
    """Adds images to choose from.

    Not as gr.Examples: it makes the component again for the session, without `uploaded_file`.
    """
    shown = gr.Dataset(
        components=[image], samples=[[str(path)] for path in examples], type="index",
        label=cast(str, label("examples")), samples_per_page=len(examples),
    )  # fmt: skip
    shown.click(
        lambda index: shown.samples[index][0], shown, image,
        postprocess=False, show_progress="hidden", api_visibility="private",
    )  # fmt: skip


def _add_explanation(live: LiveCaptions, label: Label, inputs: Sequence[Any]) -> None:
    """Adds the explanation of a caption, where there are explanations."""
    if not live.explained:
        return
    image, _, matches, width = inputs
    with gr.Accordion(label("why"), open=False, elem_id="why"):
        name = gr.Dropdown(
            live.explained,
            value=live.explained[0],
            label=label("why_method"),
            info=label("why_info"),
        )
        button = gr.Button(label("explain"), variant="primary", elem_id="explain")
        page = gr.HTML(elem_id="explanation")

    def explain(path: Path | None, name: str, top_k: int, beams: int, request: gr.Request) -> str:
        texts = texts_for(request.headers.get("accept-language"))
        return live.explain(path, name, top_k=int(top_k), beams=int(beams), texts=texts)

    button.click(
        explain, [image, name, matches, width], page,
        concurrency_limit=1, concurrency_id=MODEL, api_visibility="private",
    )  # fmt: skip


def _updates(view: CaptionView) -> list[Any]:
    parts = (view.status, view.captions, view.matches)
    return [gr.skip() if part is None else part for part in parts]
