"""HTML pages of one file each, in one style: images are inlined, and nothing is fetched."""

import io
from base64 import b64encode
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from igrag.files import atomic_path

PAGE_STYLE = Path(__file__).with_name("page.css")
_LONGEST_SIDE, _QUALITY = 360, 78  # pixels and JPEG quality: about 12 kB a photograph


def write_page(path: Path, template: Path, **values: Any) -> None:
    """Fills a template and writes it, atomically; see `fill_template`."""
    page = fill_template(template, **values)
    with atomic_path(path) as temporary:
        temporary.write_bytes(page.encode("utf-8"))


def fill_template(template: Path, **values: Any) -> str:
    """Returns a page, or a part of one, which can be written as UTF-8.

    Args:
        template: A Jinja template, which may include page.css, the style of all pages.
        values: What the template shows; texts are escaped.
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template.name).render(**values)
    # JSON can hold half a surrogate pair, a file in UTF-8 cannot.
    return page.encode("utf-8", "replace").decode("utf-8")


def inline_image(image: Image.Image) -> str:
    """Returns an RGB image, scaled down, as the data URI of a JPEG."""
    thumbnail = image.copy()
    thumbnail.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    thumbnail.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return data_uri(buffer.getvalue(), "jpeg")


def data_uri(content: bytes, subtype: str) -> str:
    """Returns the content of an image file as a data URI."""
    return f"data:image/{subtype};base64,{b64encode(content).decode()}"
