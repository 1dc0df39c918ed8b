"""igrag serve: what it refuses before models are loaded, and how it stops."""

import re
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from igrag.cli import EXIT_TERMINATED
from igrag.commands import serve, served_models
from tests.command import one_error
from tests.tiny import CocoFolder

_TOKEN = "0123456789abcdef"


@pytest.fixture
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes the token of the user's own environment away."""
    monkeypatch.delenv(serve.TOKEN, raising=False)


def refusal(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    """Runs the command, which is a usage error; returns its line."""
    missing = "model_config.models.flan-t5.path=no/such/model"
    assert serve.command([*words, "--set", missing]) == 2
    return one_error(capfd.readouterr().err)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "captions.example"])
def test_other_machines_need_a_token(
    no_token: None, capfd: pytest.CaptureFixture[str], host: str
) -> None:
    """A host that others can reach is refused without a token, with the line that makes one."""
    pytest.importorskip("fastapi")
    line = refusal(capfd, "--host", host)
    assert f"--host {host}: other machines can reach it, expected a token in IGRAG_TOKEN" in line
    assert "export IGRAG_TOKEN=$(openssl rand -hex 32)" in line


def test_token_is_taken_from_the_environment(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any host may then be listened on; a token that can be guessed is refused."""
    pytest.importorskip("fastapi")
    assert serve.find_token("0.0.0.0", {serve.TOKEN: _TOKEN}) == _TOKEN
    assert serve.find_token("127.0.0.1", {serve.TOKEN: _TOKEN}) == _TOKEN
    assert serve.find_token("::1", {}) is serve.find_token("localhost", {}) is None
    monkeypatch.setenv(serve.TOKEN, "secret")
    line = refusal(capfd)
    assert "IGRAG_TOKEN: found 6 characters, expected at least 16" in line and "secret" not in line


def test_port_in_use_is_noticed_before_models_are_loaded(
    no_token: None, capfd: pytest.CaptureFixture[str]
) -> None:
    """The error has the port and what else to give."""
    pytest.importorskip("fastapi")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refusal(capfd, "--port", str(port))
    assert f"--port {port}: Address already in use; give another --port" in line


def test_missing_extra_is_one_line(
    no_token: None, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names what is missing, and the command that installs it."""
    monkeypatch.setattr(
        served_models, "find_spec", lambda name: None if name == "uvicorn" else name
    )
    expected = "igrag serve needs uvicorn, not installed; pip install 'igrag[serve]'"
    assert expected in refusal(capfd)


def test_exported_model_is_refused(no_token: None, capfd: pytest.CaptureFixture[str]) -> None:
    """It has one soft prompt and no method to choose: the server would have none at all."""
    pytest.importorskip("fastapi")
    line = refusal(capfd, "--port", "0", "--set", "model_config.engine=ctranslate2")
    assert "model_config.engine: found ctranslate2, which main.py alone can use" in line


@pytest.mark.slow
def test_sigterm_finishes_what_is_accepted(
    knowledge_base: Path, coco: CocoFolder, tiny_clip: Path, tiny_t5: Path
) -> None:
    """Requests in the queue are answered, and then the exit code is SIGTERM's."""
    pytest.importorskip("fastapi")
    httpx = pytest.importorskip("httpx")
    from benchmarks.serving import started

    settings = [
        f"retrieval_config.encoder={tiny_clip}", f"model_config.models.flan-t5.path={tiny_t5}",
        f"knowledge_base_config.path={knowledge_base}", "generation_config.max_new_tokens=60",
        "generation_config.no_repeat_ngram_size=1",
    ]  # fmt: skip
    overrides = [word for each in settings for word in ("--set", each)]
    image = coco.image(1).read_bytes()

    def ask(address: str) -> int:
        files = [("images", ("a.jpg", image))] * 3
        return int(httpx.post(f"{address}/captions", files=files, timeout=300).status_code)

    def waiting(address: str) -> float:
        metrics = httpx.get(f"{address}/metrics", timeout=300).text
        return float(re.findall(r"^igrag_images_waiting (\S+)$", metrics, re.MULTILINE)[0])

    with (
        started(["--batch_size", "1", *overrides]) as (process, address),
        ThreadPoolExecutor(5) as clients,
    ):
        answers = [clients.submit(ask, address) for _ in range(5)]
        while waiting(address) < 15:  # All of them are accepted.
            assert not any(answer.done() for answer in answers), "expected slower captions"
        process.send_signal(signal.SIGTERM)
        assert [answer.result() for answer in answers] == [200] * 5
        assert process.wait(300) == EXIT_TERMINATED
        assert process.stderr is not None and "error" not in process.stderr.read()
