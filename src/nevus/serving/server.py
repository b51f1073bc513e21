"""A running service: uvicorn with the application."""

from __future__ import annotations

import asyncio
import os
import signal
import socket

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from nevus.errors import NevusError
from nevus.serving.config import ServeLimits
from nevus.serving.guard import Guard

HEADER_TIMEOUT = 15
"""Seconds after which an idle connection is closed."""


class _Protocol(HttpToolsProtocol):
    """Closes a connection that sends no whole header in time; uvicorn does so only after the first answer."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._header_timer = self.loop.call_later(HEADER_TIMEOUT, transport.close)

    def on_headers_complete(self) -> None:
        self._header_timer.cancel()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._header_timer.cancel()
        super().connection_lost(exc)


def raise_file_limit() -> None:
    """Raise the soft limit of open files to the hard one: each connection and larger upload takes one (POSIX)."""
    try:
        import resource
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else 65536, hard))


def listen(host: str, port: int) -> socket.socket:
    """Bind a port; 0 takes a free one.

    Raises:
        NevusError: the address or port cannot be bound.

    """
    if not 0 <= port < 65536:
        raise NevusError(f"Cannot serve on {host} port {port}: ports are from 0 to 65535. Choose another --port.")
    # asyncio switches off Nagle's delay, which costs 40 ms an answer, only where the protocol is named.
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(512)
    except OSError as error:
        bound.close()
        reason = error.strerror or str(error)
        raise NevusError(f"Cannot serve on {host} port {port}: {reason}. Choose another --host or --port.") from None
    bound.set_inheritable(True)
    return bound


def run(app: Guard, bound: socket.socket, limits: ServeLimits) -> None:
    """Serve until SIGTERM or SIGINT; what is under way is finished first.

    Args:
        app: the application.
        bound: the port.
        limits: whose `request_timeout` bounds the time to finish.

    """
    # uvicorn raises the signal again when it has finished; the command then simply ends.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    raise_file_limit()
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=True,
        lifespan="on",
        timeout_keep_alive=HEADER_TIMEOUT,
        timeout_graceful_shutdown=int(limits.request_timeout) + 1,
        h11_max_incomplete_event_size=64 * 1024,
        ws="none",
        http=_Protocol,
        proxy_headers=False,
        loop="asyncio",
    )
    server = uvicorn.Server(config)
    server.run(sockets=[bound])
    if not server.started:
        raise NevusError("Cannot serve: the start failed, for the reason above. Correct it and start again.")
