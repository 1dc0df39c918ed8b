"""The server fuzzed from its own description: no request brings it down or breaks its word."""

import threading
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("fastapi")
schemathesis = pytest.importorskip("schemathesis")

import uvicorn
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from igrag.serving.server import bind
from tests.igrag.serving.conftest import MakeApp


@pytest.fixture
def fuzzed(make_app: MakeApp) -> Iterator[object]:
    """The schema of a server that runs in a thread."""
    server = uvicorn.Server(uvicorn.Config(make_app(), log_config=None, ws="none"))
    with bind("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        while not server.started:
            time.sleep(0.05)
        yield schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
        server.should_exit = True
        thread.join()


described = schemathesis.pytest.from_fixture("fuzzed")


@pytest.mark.slow
@described.parametrize()
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_answers_are_as_described(case: "schemathesis.Case") -> None:
    """Statuses, types and JSON are those of the description, and never a 500.

    That data that fit the description are accepted is not checked: no schema describes which bytes
    are an image.
    """
    case.call_and_validate(excluded_checks=[positive_data_acceptance])
