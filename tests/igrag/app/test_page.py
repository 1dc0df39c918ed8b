"""The page of igrag app in a browser: captions, choices, languages, errors, and no other host."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

import pytest

from evaluation.save_results import save_results
from tests.evaluation.example_results import make_result
from tests.igrag.app.conftest import Served, Visit
from tests.igrag.serving.conftest import blank_png, broken_jpeg

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow
METHODS = ["base", "prompt", "lora", "lora+prompt"]


def test_upload_is_captioned_and_choices_are_live(served: Served, visit: Visit) -> None:
    """An image gets matches with images, the prompt, and a caption of each method; choices count.

    Only the page's own server is asked for anything.
    """
    visit.upload(served.coco.image(1))
    visit.wait_for("#status", "Done.")
    assert list(visit.captions()) == METHODS
    matches = visit.page.locator("#matches ol > li")
    assert matches.count() == 5 and matches.locator("img").count() == 5
    assert "similarity 1.000" in matches.first.inner_text()
    visit.page.locator("#matches summary").last.click()
    assert "A dog in field 1, way 0." in visit.page.locator("#matches pre").inner_text()
    visit.page.get_by_role("button", name=served.coco.image(3).name).click()
    visit.page.locator("#matches ol > li:first-child", has_text="dog in field 3").wait_for()
    visit.wait_for("#status", "Done.")

    visit.page.get_by_role("checkbox", name="base").uncheck()
    visit.page.locator("#captions dt", has_text="base").wait_for(state="detached")
    visit.page.get_by_role("checkbox", name="prompt: named", exact=True).check()
    visit.page.locator("#captions dt", has_text="prompt: named").wait_for()
    visit.page.locator("#top_k input[type=number]").fill("2")
    visit.page.locator("#top_k input[type=number]").press("Enter")
    visit.page.wait_for_function("document.querySelectorAll('#matches ol > li').length == 2")
    visit.wait_for("#status", "Done.")

    visit.page.locator("#why button").first.click()
    visit.page.locator("#explain").click()
    frame = visit.page.frame_locator("#explanation iframe")
    frame.get_by_role("heading", name="What the decoder read").wait_for()
    visit.keep_screenshot("caption")

    hosts = {urlparse(url).netloc for url in visit.requested if url.startswith("http")}
    assert hosts == {urlparse(served.address).netloc}


def test_page_is_chinese_for_a_chinese_browser(browser: Browser, served: Served) -> None:
    """Labels and results are in the browser's language."""
    with browser.new_context(locale="zh-CN") as context:
        visit = Visit(context, served.address)
        visit.page.get_by_role("heading", name="检索增强的图像描述").wait_for()
        visit.page.get_by_text("方法和软提示").first.wait_for()
        visit.upload(served.coco.image(2))
        visit.wait_for("#status", "完成。")
        visit.wait_for("#matches", "相似图片")
        visit.keep_screenshot("caption-zh")


def test_report_is_chinese_for_a_chinese_browser(browser: Browser, tmp_path: Path) -> None:
    """The file of the report, which the page shows, has its texts in both languages."""
    save_results(make_result(generated=True), tmp_path / "results", report_images=3)
    with browser.new_context(locale="zh-CN") as context:
        page = context.new_page()
        page.goto((tmp_path / "results" / "report.html").as_uri())
        page.get_by_label("在描述和编号中搜索").fill("beach")
        page.get_by_text("3 张图片中的 1 张").wait_for()
        assert page.evaluate("document.documentElement.lang") == "zh"


def test_bad_image_is_one_line_and_the_page_goes_on(served: Served, visit: Visit) -> None:
    """What is no image, too large or broken is the error of main.py; the next one is captioned."""
    for content, expected in (
        (b"no image", "bad.png: not an image in a known format"),
        (blank_png(10_000, 6_000), "bad.png: the image is too large (10000 x 6000 pixels"),
        (broken_jpeg(), "bad.png: the image cannot be read"),
    ):
        visit.upload({"name": "bad.png", "mimeType": "image/png", "buffer": content})
        visit.wait_for("#status [role=alert]", expected)
        assert not visit.page.locator("#captions dt").count()
        visit.page.get_by_role("button", name="Clear").or_(
            visit.page.get_by_label("Remove Image")
        ).first.click()
        visit.wait_for("#status", "No image yet")
    visit.upload(served.coco.image(3))
    visit.wait_for("#status", "Done.")


def test_evaluation_is_browsed(visit: Visit) -> None:
    """Scores have bars and can be sorted; the report with its search is in the page."""
    visit.page.get_by_role("tab", name="Evaluations").click()
    rows = visit.page.locator("#scores tbody th")
    rows.first.wait_for()
    assert rows.all_inner_texts() == ["base", "prompt"]
    assert visit.page.locator("#scores td svg path").count() == rows.count() * 3
    visit.page.get_by_label("Sort by").click()
    visit.page.get_by_role("option", name="CIDEr-D").click()
    visit.page.locator("#scores th[aria-sort]", has_text="CIDEr-D").wait_for()
    frame = visit.page.frame_locator("#report iframe")
    frame.get_by_label("Search in captions and ids").fill("beach")
    frame.get_by_text("1 of 3 images").wait_for()


def test_training_run_is_refreshed(served: Served, visit: Visit) -> None:
    """Curves and checkpoints of a run are shown, and those of its record when it changes."""
    visit.page.get_by_role("tab", name="Training runs").click()
    visit.page.locator("#run img.chart").wait_for()
    visit.page.locator("#run tbody tr", has_text="checkpoint-36").wait_for()
    file = served.run / "all_results.json"
    content = file.read_text(encoding="utf-8")
    file.write_text(content.replace("checkpoint-36", "checkpoint-37"), encoding="utf-8")
    visit.page.locator("#run tbody tr", has_text="checkpoint-37").wait_for()


def test_page_fits_a_telephone(browser: Browser, served: Served) -> None:
    """At 400 pixels nothing reaches out of the page, and every control has a name."""
    with browser.new_context(locale="en-US", viewport={"width": 400, "height": 800}) as context:
        visit = Visit(context, served.address)
        visit.upload(served.coco.image(4))
        visit.wait_for("#status", "Done.")
        for name, part in (("Caption", "#matches"), ("Evaluations", "#report iframe"),
                           ("Training runs", "#run table")):  # fmt: skip
            visit.page.get_by_role("tab", name=name).click()
            visit.page.locator(part).first.wait_for()
            visit.keep_screenshot(f"{name} at 400 pixels")
            assert visit.page.evaluate("document.documentElement.scrollWidth") == 400
            too_wide = visit.page.evaluate(
                """[...document.querySelectorAll('main *')].filter(each =>
                    !each.closest('.wide > *') && each.checkVisibility()
                    && each.getBoundingClientRect().right > 400
                ).map(each => each.outerHTML.slice(0, 200))"""
            )
            assert too_wide == []
        visit.page.get_by_role("tab", name="Caption").click()
        unnamed = visit.page.evaluate(
            """[...document.querySelectorAll('input:not([type=file]), button, select')].filter(
                each => each.checkVisibility() && !each.labels?.length && !each.innerText.trim()
                  && !each.ariaLabel && !each.title && !each.querySelector('img[alt]')
              ).map(each => each.outerHTML.slice(0, 200))"""
        )
        assert unnamed == []


def test_page_breaks_no_rule_of_accessibility(served: Served, visit: Visit) -> None:
    """Axe finds nothing serious on a tab, and the keyboard alone reaches every control."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    visit.upload(served.coco.image(5))
    visit.wait_for("#status", "Done.")
    serious = []
    for name, part in (("Caption", "#matches"), ("Evaluations", "#report iframe"),
                       ("Training runs", "#run table")):  # fmt: skip
        visit.page.get_by_role("tab", name=name).focus()
        visit.page.keyboard.press("Enter")
        visit.page.locator(part).first.wait_for()
        serious += [
            (name, rule["id"], node["html"][:200])
            for rule in axe.run(visit.page).response["violations"]
            if rule["impact"] in ("serious", "critical")
            for node in rule["nodes"]
        ]
    assert serious == []


def test_path_or_address_in_a_request_is_not_opened(served: Served) -> None:
    """A request that names a file of this machine, or an address, instead of an upload fails."""
    httpx = pytest.importorskip("httpx")
    config = httpx.get(f"{served.address}/config", timeout=300).json()
    index, event = next(
        (number, each)
        for number, each in enumerate(config["dependencies"])
        if len(each["inputs"]) == 4 and len(each["outputs"]) == 3
    )
    meta = {"_type": "gradio.FileData"}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        port = listener.getsockname()[1]
        for path in (str(served.coco.image(1)), f"http://127.0.0.1:{port}/a.png"):
            for image in (
                {"path": path, "meta": meta},
                {"path": path},
                {"url": path, "path": path},
            ):
                body = {
                    "data": [image, ["base"], 5, 1], "fn_index": event.get("id", index),
                    "session_hash": "a",
                }  # fmt: skip
                httpx.post(f"{served.address}/gradio_api/queue/join", json=body, timeout=300)
                events = httpx.get(
                    f"{served.address}/gradio_api/queue/data?session_hash=a", timeout=300
                ).text
                last = [json.loads(line[6:]) for line in events.splitlines() if "data: {" in line]
                done = [each for each in last if each["msg"] == "process_completed"]
                assert [each["success"] for each in done] == [False], (image, events)
        file = httpx.get(f"{served.address}/gradio_api/file={served.coco.image(1)}", timeout=300)
        assert file.status_code == 403
        with pytest.raises(TimeoutError):
            listener.accept()
