"""The page around tiny models, served in this process, and a browser that looks at it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from time import sleep
from typing import TYPE_CHECKING

import pytest

from evaluation.save_results import save_results
from igrag.commands import app
from igrag.config import REPO_ROOT, Config, find_model
from igrag.retrieval.build import build_knowledge_base
from igrag.retrieval.image_encoder import ImageEncoder
from tests.evaluation.example_results import make_result
from tests.igrag.commands.test_caption_methods import save_random_prompt
from tests.prompt_tuning.adapters import save_adapter
from tests.tiny import CocoFolder, save_coco

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

VERSION_0_1 = REPO_ROOT / "tests" / "fixtures" / "version_0_1"
SECONDS = 120  # a machine may be busy


@dataclass(frozen=True)
class Served:
    """A page that is served.

    Attributes:
        address: Where.
        coco: The images of its knowledge base.
        run: The folder of a training run.
    """

    address: str
    coco: CocoFolder
    run: Path


@contextmanager
def serving(words: list[str], settings: list[str], *, password: str | None = None) -> Iterator[str]:
    """Serves the page as `igrag app` does, and gives its address."""
    import uvicorn

    arguments = app.parse_arguments(words)
    config = Config.load(arguments.config, settings)
    page = app.load_page(arguments, config, find_model(config.models, None), password)
    server = uvicorn.Server(
        uvicorn.Config(page, port=0, log_config=None, timeout_graceful_shutdown=1, ws="none")
    )
    thread = Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            sleep(0.05)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, tiny_clip: Path, tiny_t5: Path
) -> Iterator[Served]:
    """The page with every method, a soft prompt by name, and images of the knowledge base."""
    pytest.importorskip("gradio")
    folder = tmp_path_factory.mktemp("page")
    coco = save_coco(folder / "coco", count=12)
    encoder = ImageEncoder(str(tiny_clip), device="cpu")
    build_knowledge_base(coco.captions, coco.images, folder / "kb", encoder=encoder, progress=False)
    settings = [
        f"retrieval_config.encoder={tiny_clip}",
        f"model_config.models.flan-t5.path={tiny_t5}",
        f"knowledge_base_config.path={folder / 'kb'}",
        "generation_config.max_new_tokens=4",
        f"lora_config.weights_path={save_adapter(folder / 'lora', tiny_t5)}",
        *save_random_prompt(folder / "default.pt", tiny_t5),
        f"prompt_tuning.prompts.named={folder / 'named.pt'}",
    ]
    save_random_prompt(folder / "named.pt", tiny_t5, seed=1, length=5)
    runs = shutil.copytree(VERSION_0_1 / "prompt", folder / "runs" / "a")
    save_results(make_result(generated=True), folder / "results" / "first", report_images=3)
    words = ["--images", coco.images, "--examples", coco.images]
    words += ["--results", folder / "results", "--runs", runs.parent]
    with serving(list(map(str, words)), settings) as address:
        yield Served(address, coco, runs)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium or Chrome; none is downloaded."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("needs Chromium (Debian's package chromium) or Chrome")
    with playwright.sync_playwright() as started:
        # Root, as in a container, has no sandbox; the page is the test's own.
        found = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


class Visit:
    """A visit to the page, with what it asked for from the network."""

    def __init__(self, context: BrowserContext, address: str) -> None:
        context.set_default_timeout(SECONDS * 1000)
        self.requested: list[str] = []
        self.page: Page = context.new_page()
        self.page.on("request", lambda request: self.requested.append(request.url))
        self.page.goto(address)
        self.page.get_by_role("checkbox", name="base").first.wait_for()

    def upload(self, *files: Path | dict[str, object]) -> None:
        """Drops an image."""
        self.page.locator("#image input[type=file]").set_input_files(files)  # type: ignore[arg-type]

    def wait_for(self, selector: str, text: str) -> None:
        """Waits until an element has a text."""
        self.page.locator(selector).get_by_text(text).first.wait_for()

    def keep_screenshot(self, name: str) -> None:
        """Saves the whole page in the folder that the environment variable SCREENSHOTS names."""
        if folder := os.environ.get("SCREENSHOTS"):
            self.page.screenshot(path=Path(folder, f"{name}.png"), full_page=True)

    def captions(self) -> dict[str, str]:
        """Returns the captions by method."""
        names = self.page.locator("#captions dt").all_inner_texts()
        texts = self.page.locator("#captions dd").all_inner_texts()
        return dict(zip(names, texts, strict=True))


@pytest.fixture
def visit(browser: Browser, served: Served) -> Iterator[Visit]:
    """A visit in English."""
    with browser.new_context(locale="en-US") as context:
        yield Visit(context, served.address)
