"""An application around tiny models, and ways to send it requests."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from igrag.commands import serve
from igrag.config import Config, find_model

if TYPE_CHECKING:
    import httpx
    from fastapi import FastAPI

MakeApp = Callable[..., "FastAPI"]
LOCAL = "http://localhost"


@pytest.fixture
def tiny_settings(knowledge_base: Path, tiny_clip: Path, tiny_t5: Path) -> list[str]:
    """The settings of the fixture `command`."""
    return [
        f"retrieval_config.encoder={tiny_clip}",
        f"model_config.models.flan-t5.path={tiny_t5}",
        f"knowledge_base_config.path={knowledge_base}",
        "generation_config.max_new_tokens=4",
    ]


@pytest.fixture
def make_app(tiny_settings: list[str]) -> MakeApp:
    """Makes an application as `igrag serve` does, given options and more settings."""
    pytest.importorskip("fastapi")

    def make(*words: object, settings: tuple[str, ...] = (), token: str | None = None) -> "FastAPI":
        arguments = serve.parse_arguments([str(word) for word in words])
        config = Config.load(arguments.config, [*tiny_settings, *settings])
        return serve.load_app(arguments, config, find_model(config.models, None), token)

    return make


def ask(app: "FastAPI", send: "Callable[[httpx.AsyncClient], Awaitable[Any]]") -> Any:
    """Starts the application, and returns what `send` returns for a client of it."""
    import httpx

    async def run() -> Any:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url=LOCAL, timeout=300) as client,
        ):
            return await send(client)

    return asyncio.run(run())


def post(app: "FastAPI", *requests: dict[str, Any]) -> "list[httpx.Response]":
    """Sends requests for captions at once; each is what httpx's `post` takes."""

    async def send(client: "httpx.AsyncClient") -> "list[httpx.Response]":
        return list(await asyncio.gather(*(client.post("/captions", **each) for each in requests)))

    found: list[httpx.Response] = ask(app, send)
    return found


def form(*images: Path, **fields: object) -> dict[str, Any]:
    """Returns a request for the captions of image files."""
    files = [("images", (image.name, image.read_bytes())) for image in images]
    return {"files": files, "data": {name: str(value) for name, value in fields.items()}}


def blank_png(width: int, height: int) -> bytes:
    """Returns a PNG of one color, which is small however many pixels it has."""
    stream = io.BytesIO()
    Image.new("1", (width, height)).save(stream, "PNG")
    return stream.getvalue()


def broken_jpeg() -> bytes:
    """Returns the first half of a JPEG."""
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(stream, "JPEG")
    return stream.getvalue()[: stream.tell() // 2]
