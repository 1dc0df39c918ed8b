"""Whether the hub can be reached, and what an error of loading a model means."""

import os
import socket
import time
from collections.abc import Iterator

import huggingface_hub.constants
import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from igrag import hub
from igrag.hub import is_fetch_failure, prepare_for, reason_of


def answered(kind: type[Exception]) -> Exception:
    """Returns an error of the hub's, without the answer that it usually carries."""
    return kind.__new__(kind)


def wrapped(cause: Exception) -> OSError:
    """Returns what transformers makes of an error."""
    error = OSError("cannot load")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (LocalEntryNotFoundError("not in the cache"), True),
        (OfflineModeIsEnabled("offline"), True),
        (answered(RepositoryNotFoundError), True),
        (answered(GatedRepoError), False),
        (OSError(28, "No space left on device"), False),
        (ValueError("no such attention"), False),
    ],
)
def test_only_what_the_hub_does_not_give_is_a_fetch_failure(
    cause: Exception, expected: bool
) -> None:
    """Offline and unknown are told from reasons that another id or a network would not mend."""
    assert is_fetch_failure(cause) is expected
    assert is_fetch_failure(wrapped(cause)) is expected


def test_a_reason_is_one_short_line() -> None:
    """Lines are joined and cut; an error without a text has its name."""
    assert reason_of(OSError("a\n  b")) == "a b"
    assert len(reason_of(OSError("a" * 999))) == 200
    assert reason_of(KeyError()) == "KeyError"


@pytest.fixture
def listening() -> Iterator[str]:
    """The address of a server on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def closed() -> str:
    """An address on this machine where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def undecided(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Nobody has said whether to use the hub, and nothing is known of it."""
    hub._can_reach.cache_clear()
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_ENDPOINT", "http_proxy",
                 "HTTP_PROXY", "all_proxy", "ALL_PROXY"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    yield monkeypatch
    hub._can_reach.cache_clear()


def is_offline() -> bool:
    """Says whether the libraries keep to their cache, and those that are not imported yet will."""
    found = huggingface_hub.constants.is_offline_mode()
    assert found == (os.environ.get("HF_HUB_OFFLINE") == "1")
    return found


def test_a_hub_that_is_there_is_used(undecided: pytest.MonkeyPatch, listening: str) -> None:
    """Where something listens the libraries go on as they would."""
    undecided.setenv("HF_ENDPOINT", listening)
    prepare_for("some/model")
    assert not is_offline()


def test_a_hub_that_is_not_there_is_not_waited_for(
    undecided: pytest.MonkeyPatch, closed: str
) -> None:
    """A closed port, a name that does not exist and no address at all mean: the cache alone."""
    for endpoint in (closed, "https://no.such.invalid", "https://[", "nothing"):
        undecided.delenv("HF_HUB_OFFLINE", raising=False)
        undecided.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        undecided.setenv("HF_ENDPOINT", endpoint)
        prepare_for("some/model")
        assert is_offline(), endpoint


def test_a_hub_that_does_not_answer_is_not_waited_for(
    undecided: pytest.MonkeyPatch, listening: str
) -> None:
    """A name server that keeps silent costs the time allowed, and is asked once."""
    asked = []

    def keep_silent(url: str) -> bool:
        asked.append(url)
        time.sleep(1)
        return True

    undecided.setattr(hub, "_PATIENCE", 0.01)
    undecided.setattr(hub, "_connects", keep_silent)
    assert [hub._can_reach(listening) for _ in range(2)] == [False, False]
    assert asked == [listening]


def test_a_proxy_is_what_must_answer(
    undecided: pytest.MonkeyPatch, listening: str, closed: str
) -> None:
    """Behind a proxy the hub's own name need not be known here."""
    undecided.setenv("http_proxy", listening.removeprefix("http://"))
    undecided.setenv("no_proxy", "localhost")
    assert hub._can_reach("http://no.such.invalid")
    undecided.setenv("http_proxy", closed)
    assert not hub._can_reach("http://no.such.invalid/")


@pytest.mark.parametrize(
    ("model", "choice"), [("some/model", "0"), ("some/model", "1"), (".", None)]
)
def test_who_has_decided_is_not_asked(
    undecided: pytest.MonkeyPatch, closed: str, model: str, choice: str | None
) -> None:
    """HF_HUB_OFFLINE stays as the user sets it, and a folder needs no hub."""
    undecided.setenv("HF_ENDPOINT", closed)
    if choice is not None:
        undecided.setenv("HF_HUB_OFFLINE", choice)
    prepare_for(model)
    assert os.environ.get("HF_HUB_OFFLINE") == choice
    assert huggingface_hub.constants.HF_HUB_OFFLINE is False


def test_a_name_too_long_for_a_folder_is_no_folder(
    undecided: pytest.MonkeyPatch, closed: str
) -> None:
    """What no file system can hold is looked for on the hub, which says what is wrong with it."""
    undecided.setenv("HF_ENDPOINT", closed)
    prepare_for("a" * 5000)
    assert is_offline()
