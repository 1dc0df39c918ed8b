"""The server fuzzed from its own description: no request brings it down or breaks its word."""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

pytest.importorskip("fastapi")
schemathesis = pytest.importorskip("schemathesis")

import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
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


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
def test_answers_are_as_described(fuzzed: Any, mode: str) -> None:
    """Statuses, types and JSON are those of the description, and never a 500.

    Data that fit the description and others are sent. That the former are accepted is not checked:
    no schema describes which bytes are an image.
    """
    statuses: dict[str, set[int]] = {}
    for found in fuzzed.get_all_operations():
        operation = found.ok()
        cases = operation.as_strategy(generation_mode=schemathesis.GenerationMode[mode])

        @given(case=cases)
        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
        def check(case: Any) -> None:
            response = case.call_and_validate(excluded_checks=[positive_data_acceptance])
            statuses.setdefault(case.path, set()).add(response.status_code)

        with suppress(Unsatisfiable):  # Nothing contradicts a request that has no fields.
            check()
    assert 422 in statuses["/captions"]
