"""Listens, announces the address, and stops when it is asked to."""

import ipaddress
import os
import socket
import sys

import uvicorn
from fastapi import FastAPI

from igrag.errors import UsageError

# Connections that wait for the system to accept them; more are refused.
_BACKLOG = 128
# At once; more are answered with 503, so that the server does not run out of file descriptors.
_MOST_CONNECTIONS = 500


def is_loopback(host: str) -> bool:
    """Returns whether a host to listen on can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bind(host: str, port: int) -> socket.socket:
    """Binds a socket, so that a port in use is noticed before models are loaded.

    Args:
        host: A name or an address.
        port: 0 for any that is free.

    Raises:
        UsageError: The host is unknown, or the port is in use.
    """
    bound: socket.socket | None = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(found[0], found[1])
        if os.name == "posix":  # Elsewhere it would take the port of another program.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(found[4])
    except OSError as error:
        if bound is not None:
            bound.close()
        reason = error.strerror or str(error)
        raise UsageError(
            f"--host {host} --port {port}: {reason}; give another --port, or 0 for any"
        ) from None
    return bound


class AnnouncingServer(uvicorn.Server):
    """A server that prints its address on stderr as soon as it takes requests."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to listen."""
        await super().startup(sockets)
        for each in sockets or ():
            host, port = each.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            print(f"note: listening on http://{shown}:{port}", file=sys.stderr, flush=True)


def serve(app: FastAPI, bound: socket.socket, *, stop_seconds: int) -> None:
    """Serves until SIGTERM or Ctrl-C; requests that are accepted are answered first.

    The signal is raised again at the end, so that the command has its usual exit code.

    Args:
        app: The application.
        bound: The socket to listen on.
        stop_seconds: How long accepted requests have to be finished; then they are dropped.
    """
    config = uvicorn.Config(
        app,
        backlog=_BACKLOG,
        log_config=None,  # The project's log is set up already.
        access_log=False,
        lifespan="on",
        limit_concurrency=_MOST_CONNECTIONS,
        server_header=False,
        timeout_graceful_shutdown=stop_seconds,
        ws="none",
    )
    AnnouncingServer(config).run(sockets=[bound])
