"""Looks at each request before its body is read: host, token and size; and counts the answers."""

import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:  # The page of igrag app has no metrics, nor the package for them.
    from igrag.serving.metrics import ServerMetrics

CAPTIONS, HEALTH = "/captions", "/health"
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(frozen=True, slots=True)
class GateRules:
    """What a request must fulfill.

    Attributes:
        token: The token of every request but those for health; None: the server is for this
            machine alone, and requests must address it by a name of this machine.
        most_bytes: The most bytes of a body.
        asks_password: Whether the application itself asks for a password: then requests may address
            the server by any name.
    """

    token: str | None
    most_bytes: int
    asks_password: bool = False

    @property
    def only_local(self) -> bool:
        """Whether requests must address the server by a name of this machine."""
        return self.token is None and not self.asks_password


class Gate:
    """An ASGI application in front of another one.

    Args:
        app: The application.
        rules: What a request must fulfill.
        metrics: Counts the requests for captions.
    """

    def __init__(
        self, app: ASGIApp, rules: GateRules, metrics: "ServerMetrics | None" = None
    ) -> None:
        self._app = app
        self._rules = rules
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request that fails a rule, and lets the others through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def noted_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            refusal = self._refusal(scope)
            if refusal is None:
                await self._app(scope, self._limited(receive), noted_send)
            else:
                await refusal(scope, receive, noted_send)
        finally:
            if self._metrics and scope["path"] == CAPTIONS:
                self._metrics.count_request(status, time.perf_counter() - started)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        """Returns the answer to a request that fails a rule."""
        headers = {name.decode("latin-1"): value for name, value in scope["headers"]}
        if not self._is_allowed(scope["path"], headers):
            found = "found another token" if "authorization" in headers else "found none"
            return JSONResponse(
                {"error": f"token: {found}, expected the header Authorization: Bearer TOKEN"},
                401,
                {"WWW-Authenticate": "Bearer"},
            )
        if self._rules.only_local and not _is_local(headers.get("host", b"")):
            # A web page whose name leads to this machine must not read captions (DNS rebinding).
            return JSONResponse(
                {"error": "Host: found another name, expected localhost or 127.0.0.1"}, 403
            )
        length = headers.get("content-length", b"")
        if length.isdigit() and int(length) > self._rules.most_bytes:
            return JSONResponse({"error": self._too_large()}, 413)
        return None

    def _is_allowed(self, path: str, headers: dict[str, bytes]) -> bool:
        token = self._rules.token
        if token is None or path == HEALTH:
            return True
        scheme, _, given = headers.get("authorization", b"").partition(b" ")
        # Compared in a time that does not depend on how much of it is right.
        is_same = secrets.compare_digest(given.strip(), token.encode("utf-8"))
        return is_same and scheme.lower() == b"bearer"

    def _limited(self, receive: Receive) -> Receive:
        """Returns `receive`, which ends a body that is too long: its declared length may be wrong.

        Raises:
            HTTPException: It is too long.
        """
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._rules.most_bytes:
                raise HTTPException(413, self._too_large())
            return message

        return limited

    def _too_large(self) -> str:
        return f"the request is too large, expected at most {self._rules.most_bytes:,} bytes"


def _is_local(host: bytes) -> bool:
    name = host.decode("latin-1").lower()
    bare = name if name.endswith("]") else name.rpartition(":")[0] or name
    return bare in _LOCAL_NAMES
