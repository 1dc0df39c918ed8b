"""Parts of the page as HTML, in the style of report.html."""

from html import escape
from pathlib import Path
from typing import Any

from igrag.app.texts import Texts
from igrag.training.html_page import PAGE_STYLE, fill_template

_HERE = Path(__file__).parent


def fill(name: str, texts: Texts, **values: Any) -> str:
    """Fills the template `NAME.html.jinja`."""
    return fill_template(_HERE / f"{name}.html.jinja", texts=texts, **values)


def heading(title: str, subtitle: str) -> str:
    """Returns the head of the page."""
    return (
        f'<div class="igrag"><h1>{escape(title)}</h1><p class="soft">{escape(subtitle)}</p></div>'
    )


def status(text: str) -> str:
    """Returns what is going on, which screen readers announce."""
    return f'<div class="igrag"><p class="soft" role="status">{escape(text)}</p></div>'


def error(text: str) -> str:
    """Returns a line on what went wrong, which screen readers announce at once."""
    return f'<div class="igrag"><p class="error" role="alert">{escape(text)}</p></div>'


def frame(page: str, *, title: str) -> str:
    """Returns a whole page in a frame, which can reach neither this page nor the network.

    Args:
        page: HTML with everything inlined; its own scripts run.
        title: What it is.
    """
    return (
        f'<div class="igrag"><iframe sandbox="allow-scripts" title="{escape(title)}" '
        f'srcdoc="{escape(page)}"></iframe></div>'
    )


def head() -> str:
    """Returns the page's style, which is that of report.html and its own, and its script."""
    styles = [file.read_text(encoding="utf-8") for file in (PAGE_STYLE, _HERE / "app.css")]
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    return f"<style>{''.join(styles)}</style><script>{script}</script>"
