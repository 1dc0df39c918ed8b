"""The application on tiny models: captions as the command prints them, and errors as JSON."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

import httpx

from igrag.captioning.captioner import Captioner
from igrag.commands.served_models import public_name
from igrag.errors import CheckpointError, MemoryExhaustedError
from igrag.serving.engine import CaptionEngine
from prompt_tuning.fingerprint import adapter_hash
from tests.command import Command, one_error
from tests.igrag.commands.test_caption_methods import adapter, save_random_prompt  # noqa: F401
from tests.igrag.commands.test_named_prompts import named  # noqa: F401
from tests.igrag.serving.conftest import LOCAL, MakeApp, ask, blank_png, broken_jpeg, form, post
from tests.tiny import CocoFolder

_OWN = ("image", "model", "seconds")  # keys whose values differ from the command's


def printed(command: Command, *words: object, settings: tuple[str, ...] = ()) -> dict[str, Any]:
    """Returns what the command prints, without what a server has of its own."""
    found = json.loads(command("--json", *words, settings=settings)[1])
    return {key: value for key, value in found.items() if key not in _OWN}


def served(response: httpx.Response) -> list[dict[str, Any]]:
    """Returns the captions of an answer, likewise."""
    assert response.status_code == 200, response.text
    found = response.json()["captions"]
    return [{key: each[key] for key in each if key not in _OWN} for each in found]


def test_captions_are_those_of_the_command(
    make_app: MakeApp, command: Command, coco: CocoFolder, tiny_t5: Path
) -> None:
    """Each image has the object that the command prints, under the name that it was sent under."""
    images = [coco.image(number) for number in (3, 1)]
    (response,) = post(make_app(), form(*images, top_k=2))
    assert served(response) == [printed(command, "--i", each, "--top_k", 2) for each in images]
    first = response.json()["captions"][0]
    assert (first["image"], first["model"]) == (images[0].name, tiny_t5.name)


@pytest.mark.slow
def test_different_requests_share_batches(
    make_app: MakeApp, command: Command, coco: CocoFolder, tmp_path: Path, tiny_t5: Path,
    adapter: Path, named: tuple[str, ...], monkeypatch: pytest.MonkeyPatch,  # noqa: F811
) -> None:  # fmt: skip
    """Methods, prompts and top_k mix: two calls, without the adapter and with it; each as alone."""
    on_lora = tmp_path / "on_lora.pt"
    save_random_prompt(on_lora, tiny_t5, seed=7, lora=adapter_hash(adapter))
    lora = ("lora_config.enabled=true", "lora_config.merge_and_unload=false")
    settings = (
        *named, f"lora_config.weights_path={adapter}",
        f"prompt_tuning.weights_path_with_lora={on_lora}",
    )  # fmt: skip
    calls = []
    caption = Captioner.caption_with_prompts

    def counted(self: Captioner, images, names, prompt_names, **options):  # type: ignore[no-untyped-def]
        calls.append([name for (name,) in prompt_names])
        return caption(self, images, names, prompt_names, **options)

    image = coco.image(4)
    app = make_app("--batch_wait_ms", 1000, settings=settings)
    monkeypatch.setattr(Captioner, "caption_with_prompts", counted)
    requests = [
        form(image), form(image, method="prompt", top_k=3), form(image, prompt_name="b"),
        form(image, method="lora"), form(image, method="lora+prompt"),
    ]  # fmt: skip
    found = [served(response)[0] for response in post(app, *requests)]
    assert sorted(map(str, calls)) == ["[None, 'default', 'b']", "[None, 'default']"]
    monkeypatch.undo()
    on = "prompt_tuning.enabled=true"
    words = ("--i", image)
    assert found == [
        printed(command, *words, settings=settings),
        printed(command, *words, "--top_k", 3, settings=(*settings, on)),
        printed(command, *words, "--prompt", "b", settings=settings),
        printed(command, *words, settings=(*settings, *lora)),
        printed(command, *words, settings=(*settings, *lora, on)),
    ]
    assert len({each["caption"] for each in found}) > 2


@pytest.mark.parametrize(
    "content",
    [b"no image", b"", blank_png(10_000, 10_000), broken_jpeg()],
    ids=["text", "empty", "100 megapixels", "broken"],
)
def test_bad_image_is_the_error_of_the_command(
    make_app: MakeApp, command: Command, coco: CocoFolder, tmp_path: Path, content: bytes
) -> None:
    """It is a 422 with the command's line, and the next request is answered."""
    bad = tmp_path / "bad.png"
    bad.write_bytes(content)
    line = one_error(command("--i", bad)[2]).removeprefix("error: ")
    app = make_app("--max_megapixels", 89)
    responses = post(app, form(coco.image(1), bad), form(coco.image(1)))
    expected = line.replace(str(bad), "bad.png").replace("89478485", "89000000")
    assert (responses[0].status_code, responses[0].json()) == (422, {"error": expected})
    assert len(served(responses[1])) == 1


def test_image_of_60_megapixels_is_refused(make_app: MakeApp) -> None:
    """By default the server takes fewer pixels than the command does."""
    files = [("images", ("a.png", blank_png(10_000, 6_000)))]
    (response,) = post(make_app(), {"files": files})
    assert response.status_code == 422
    assert response.json()["error"].startswith("a.png: the image is too large (10000 x 6000 pixels")


def test_no_name_in_a_request_is_opened(
    make_app: MakeApp, coco: CocoFolder, tmp_path: Path
) -> None:
    """A path or URL in place of an image is refused, and as an image's name it is only a name."""
    path = str(coco.image(2))
    named_as = [("images", (path, coco.image(5).read_bytes()))]
    page = [("images", ("http://localhost:9/a.jpg", b"http://localhost:9/a.jpg"))]
    app = make_app()
    as_text = {"data": {"images": path}, "files": [("x", ("x", b""))]}
    refused, answered, unread = post(app, as_text, {"files": named_as}, {"files": page})
    assert refused.status_code == 422 and "images" in refused.json()["error"]
    assert served(answered)[0]["retrieved"][0]["image_id"] == 5
    assert unread.status_code == 422 and "not an image" in unread.json()["error"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"top_k": 0}, "top_k: found '0', input should be greater than or equal to 1"),
        ({"top_k": "many"}, "top_k: found 'many', input should be a valid integer"),
        ({"method": "lora"}, "method: found 'lora', expected one of base"),
        ({"prompt": "a"}, "prompt: unknown field, expected some of images, method"),
    ],
)
def test_wrong_field_is_one_line(
    make_app: MakeApp, coco: CocoFolder, fields: dict[str, object], expected: str
) -> None:
    """The line has the field, what was found and what was expected."""
    (response,) = post(make_app(), form(coco.image(1), **fields))
    assert response.status_code == 422 and response.json()["error"].startswith(expected)


def test_body_that_is_too_large_is_refused(make_app: MakeApp) -> None:
    """By its declared length before it is read, and by what arrives where none is declared."""
    app = make_app("--max_upload_mb", 1)
    files = [("images", ("a.png", bytes(2_000_000)))]
    declared = httpx.Request("POST", LOCAL, files=files)
    body, kind = declared.read(), {"Content-Type": declared.headers["Content-Type"]}

    async def chunks() -> Any:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    responses = post(app, {"files": files}, {"content": chunks(), "headers": kind})
    assert [response.status_code for response in responses] == [413, 413]
    assert {response.json()["error"] for response in responses} == {
        "the request is too large, expected at most 1,000,000 bytes"
    }


def test_full_queue_is_429(make_app: MakeApp, coco: CocoFolder) -> None:
    """More images than fit are refused with a time to try again; more than ever fit with 413."""
    app = make_app("--queue_size", 2, "--batch_wait_ms", 500)
    image = coco.image(1)
    taken, refused, too_many = post(app, form(image, image), form(image), form(*[image] * 3))
    assert taken.status_code == 200 and too_many.status_code == 413
    assert refused.status_code == 429 and refused.headers["Retry-After"] == "1"
    assert refused.json() == {"error": "2 of 2 images are waiting, try again later"}


@pytest.mark.parametrize(
    ("error", "status", "expected"),
    [
        (MemoryExhaustedError("memory ran out"), 503, "memory ran out"),
        (RuntimeError("/secret/path"), 500, "generating failed; the server's log has the reason"),
    ],
)
def test_failure_of_a_batch_leaves_the_server_up(
    make_app: MakeApp, coco: CocoFolder, monkeypatch: pytest.MonkeyPatch,
    error: Exception, status: int, expected: str,
) -> None:  # fmt: skip
    """The answer shows nothing of the machine, and the next request is answered."""
    app = make_app()
    caption, errors = CaptionEngine.caption, [error]

    def failing(self: CaptionEngine, items: Any) -> Any:
        if errors:
            raise errors.pop()
        return caption(self, items)

    monkeypatch.setattr(CaptionEngine, "caption", failing)

    async def send(client: httpx.AsyncClient) -> list[httpx.Response]:
        request = form(coco.image(1))
        return [await client.post("/captions", **request) for _ in range(2)]

    failed, answered = ask(app, send)
    assert (failed.status_code, failed.json()) == (status, {"error": expected})
    assert answered.status_code == 200


def test_token_is_required(make_app: MakeApp, coco: CocoFolder) -> None:
    """With a token only health is open, and any host may be addressed."""
    app = make_app(token="0123456789abcdef")

    async def send(client: httpx.AsyncClient) -> list[int]:
        right = {"Authorization": "Bearer 0123456789abcdef", "Host": "captions.example"}
        wrong = [{}, {"Authorization": "Bearer 0123"}, {"Authorization": "Basic 0123456789abcdef"}]
        request = form(coco.image(1))
        answers = [await client.post("/captions", headers=each, **request) for each in wrong]
        answers += [await client.get("/metrics"), await client.get("/openapi.json")]
        assert all(answer.headers["WWW-Authenticate"] == "Bearer" for answer in answers)
        answers += [await client.get("/health")]
        answers += [await client.post("/captions", headers=right, **request)]
        return [answer.status_code for answer in answers]

    assert ask(app, send) == [401, 401, 401, 401, 401, 200, 200]


def test_other_hosts_are_refused_without_a_token(make_app: MakeApp) -> None:
    """A web page whose name leads to this machine reads nothing."""
    names = ["localhost:8000", "127.0.0.1", "[::1]:80", "evil.example", "localhost.evil.example"]

    async def send(client: httpx.AsyncClient) -> list[int]:
        answers = [await client.get("/health", headers={"Host": name}) for name in names]
        return [answer.status_code for answer in answers]

    assert ask(make_app(), send) == [200, 200, 200, 403, 403]


def test_health_and_metrics(make_app: MakeApp, coco: CocoFolder) -> None:
    """Health lists what can be asked for; metrics count requests, and images by batch."""

    async def send(client: httpx.AsyncClient) -> tuple[dict[str, Any], str]:
        request = form(coco.image(1), coco.image(2))
        await asyncio.gather(client.post("/captions", **request), client.post("/captions"))
        health = (await client.get("/health")).json()
        return health, (await client.get("/metrics")).text

    health, metrics = ask(make_app("--batch_wait_ms", 200), send)
    assert (health["status"], health["methods"], health["prompt_names"]) == ("ok", ["base"], [])
    lines = metrics.splitlines()
    for line in (
        'igrag_requests_total{status="200"} 1.0', 'igrag_requests_total{status="422"} 1.0',
        "igrag_batch_images_count 1.0", "igrag_batch_images_sum 2.0", "igrag_images_waiting 0.0",
    ):  # fmt: skip
        assert line in lines


def test_missing_prompt_is_an_error_at_the_start(make_app: MakeApp, tmp_path: Path) -> None:
    """A soft prompt that is missing is noticed before the first request asks for it."""
    with pytest.raises(CheckpointError, match=r"none\.pt"):
        make_app(settings=(f"prompt_tuning.prompts.a={tmp_path / 'none.pt'}",))


def test_answers_name_no_folder_of_the_machine() -> None:
    """A model is shown as its folder's name, or as its hub id."""
    assert public_name("/home/someone/models/t5") == "t5"
    assert public_name("google/flan-t5-base") == "google/flan-t5-base"
