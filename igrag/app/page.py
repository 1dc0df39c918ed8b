"""Builds the page, and the application that serves it and sends nothing elsewhere."""

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported

import gradio as gr
from fastapi import FastAPI
from gradio.blocks import Block
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from igrag.app import markup
from igrag.app.browse_tabs import add_evaluation_tab, add_runs_tab
from igrag.app.caption_tab import Label, add_caption_tab, is_upload
from igrag.app.evaluations import Evaluations
from igrag.app.live_captions import LiveCaptions
from igrag.app.texts import TEXTS, texts_for
from igrag.app.training_runs import TrainingRuns
from igrag.serving.gate import Gate, GateRules

Move = Callable[[Block, str | Path | None], Awaitable[str | None]]
USER = "igrag"
_PREFIX = "igrag_"  # Gradio has texts of its own under short keys.
_QUEUE_SIZE = 32  # events that wait; more are refused
# Whatever a library or a caption contains, the browser asks this server alone.
_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "frame-ancestors 'none'; base-uri 'self'; form-action 'self'"
)


@dataclass(frozen=True, slots=True)
class PageOptions:
    """What the application needs to know.

    Attributes:
        top_k: Similar images in the prompt at first.
        beams: Beams at first.
        examples: Images to choose from.
        evaluations: What the second tab offers.
        runs: What the third tab offers.
        rules: What each request must fulfill.
        password: What a visitor must know; None: the page is for this machine alone.
    """

    top_k: int
    beams: int
    examples: Sequence[Path]
    evaluations: Evaluations
    runs: TrainingRuns
    rules: GateRules
    password: str | None


def create_page(live: LiveCaptions, options: PageOptions) -> FastAPI:
    """Makes the application."""
    i18n = gr.I18n(
        **{
            language: {f"{_PREFIX}{key}": text for key, text in texts.items()}
            for language, texts in TEXTS.items()
        }
    )
    page = build_page(live, lambda key: i18n(f"{_PREFIX}{key}"), options)
    app = FastAPI(title="IGRAG", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Gate, rules=options.rules)
    app.add_middleware(LocalPolicy)
    gr.mount_gradio_app(
        app, page, path="", i18n=i18n, theme=_theme(), css="", run_history=False,
        head=markup.head(), footer_links=[], pwa=False, mcp_server=False,
        ssr_mode=False, enable_monitoring=False, show_error=True,
        max_file_size=options.rules.most_bytes,
        auth=(USER, options.password) if options.password else None,
    )  # fmt: skip
    return app


def build_page(live: LiveCaptions, label: Label, options: PageOptions) -> gr.Blocks:
    """Builds the components and events of all tabs."""
    page: gr.Blocks = gr.Blocks(title="IGRAG", analytics_enabled=False, fill_width=True)
    with page:
        head = gr.HTML()
        with gr.Tabs():
            with gr.Tab(label("tab_caption")):
                add_caption_tab(
                    live, label, top_k=options.top_k, beams=options.beams, examples=options.examples
                )
            with gr.Tab(label("tab_evaluations")) as tab:
                add_evaluation_tab(tab, options.evaluations, label)
            with gr.Tab(label("tab_runs")) as tab:
                add_runs_tab(tab, options.runs, label)

    def greet(request: gr.Request) -> str:
        texts = texts_for(request.headers.get("accept-language"))
        return markup.heading(texts["title"], texts["subtitle"])

    with page:
        page.load(greet, None, head, show_progress="hidden", api_visibility="private")
    page.queue(max_size=_QUEUE_SIZE, default_concurrency_limit=2)
    only_take_uploads()
    return page


def only_take_uploads() -> None:
    """Lets no component open a path or an address that a request names.

    Gradio would fetch an address, and in an application that it is mounted in, as here, copy any
    file that the process can read. The class is changed, not the page's components: one that an
    event changes is made again for the session.
    """
    Block.async_move_resource_to_block_cache = _move_upload


_move: Move = Block.async_move_resource_to_block_cache


async def _move_upload(block: Block, path: str | Path | None) -> str | None:
    if path is not None and not is_upload(path):
        raise gr.Error("found another file, expected an upload", print_exception=False)
    return await _move(block, path)


class LocalPolicy:
    """An ASGI application in front of another one, whose answers forbid requests elsewhere."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Adds the header to each answer."""

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                policy = [
                    (b"content-security-policy", _POLICY.encode("ascii")),
                    (b"referrer-policy", b"no-referrer"),
                ]
                message = {**message, "headers": [*message["headers"], *policy]}
            await send(message)

        await self._app(scope, receive, send_with_policy)


def _theme() -> gr.themes.Base:
    """Returns Gradio's theme in the colors of report.html and with the system's fonts."""
    theme = gr.themes.Base(
        primary_hue="blue",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    colors = {
        "body_background_fill": "--page", "background_fill_primary": "--card",
        "background_fill_secondary": "--page", "block_background_fill": "--card",
        "block_border_color": "--line", "border_color_primary": "--line",
        "body_text_color": "--ink", "block_label_text_color": "--soft",
        "block_title_text_color": "--ink", "block_info_text_color": "--soft",
        "body_text_color_subdued": "--soft", "input_background_fill": "--page",
        "input_border_color": "--line", "panel_background_fill": "--card",
        "checkbox_label_background_fill": "--page",
    }  # fmt: skip
    both = {name: f"var({color})" for name, color in colors.items()}
    fixed = {
        "button_primary_background_fill": "#0072b2",
        "button_primary_background_fill_hover": "#005a8c",
        "button_primary_text_color": "#fff",
        "checkbox_background_color_selected": "#0072b2",
        "slider_color": "#0072b2",
        "color_accent": "#0072b2",
        "block_radius": "10px",
    }
    for name, value in both.items():
        fixed[name] = fixed[f"{name}_dark"] = value
    return theme.set(**fixed)
