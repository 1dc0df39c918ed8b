"""igrag app: what it refuses before models are loaded."""

import pytest

from igrag.commands import app
from tests.command import one_error

_MISSING = "model_config.models.flan-t5.path=no/such/model"


def refusal(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    """Runs the command, which is a usage error; returns its line."""
    assert app.command([*words, "--port", "0", "--set", _MISSING]) == 2
    return one_error(capfd.readouterr().err)


@pytest.mark.parametrize("words", [["--host", "0.0.0.0"], ["--share"]])
def test_other_machines_need_a_password(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """What others can reach is refused without a password, and with one that can be guessed."""
    pytest.importorskip("gradio")
    monkeypatch.delenv(app.PASSWORD, raising=False)
    expected = f"{' '.join(words)}: other machines can reach it, expected a password in"
    assert expected in refusal(capfd, *words)
    monkeypatch.setenv(app.PASSWORD, "secret")
    line = refusal(capfd, *words)
    assert "IGRAG_PASSWORD: found 6 characters, expected at least 16" in line


def test_missing_extra_is_one_line(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names what is missing, and the command that installs it."""
    monkeypatch.setattr("igrag.commands.served_models.find_spec", lambda name: None)
    assert "igrag app needs gradio, not installed; pip install 'igrag[app]'" in refusal(capfd)
