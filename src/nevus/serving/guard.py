"""What every request passes first: host, token, size, number and time; and the headers of every answer."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from nevus.serving.config import Access, ServeLimits
from nevus.serving.metrics import ServiceMetrics

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PUBLIC = ("/", "/healthz", "/readyz", "/openapi.json")
STATIC = "/static/"
PREDICTIONS = "/v1/predictions"
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "geolocation=(), microphone=()",
    "cache-control": "no-store",
}
MAX_OTHER_BYTES = 1024 * 1024
"""Largest request that has no images."""
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")


class _TooLargeError(Exception):
    pass


class Guard:
    """An ASGI application around another one."""

    def __init__(self, app: App, access: Access, limits: ServeLimits, metrics: ServiceMetrics) -> None:
        """Wrap an application.

        Args:
            app: what is protected.
            access: token and hosts.
            limits: of size, number and time.
            metrics: that count requests.

        """
        self._app, self._access, self._limits, self._metrics = app, access, limits, metrics
        self._waiting = self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        answer = _Answer(send)
        refused = self._refusal(scope)
        try:
            if refused:
                await answer.error(*refused)
            else:
                await self._serve(scope, receive, answer)
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            # The template of the route, not the path: ids would make a counter each.
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.requests.labels(method, route, str(answer.status)).inc()

    async def _serve(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        predicts = scope["path"] == PREDICTIONS and scope["method"] == "POST"
        if predicts and self._waiting >= self._limits.max_waiting:
            await answer.error(503, "Cannot predict now: too many requests wait. Try again in a second.", _RETRY)
            return
        self._waiting += predicts
        self._metrics.waiting.set(self._waiting)
        received = _Received()
        try:
            async with asyncio.timeout(self._limits.request_timeout):
                await self._app(scope, self._limited(scope, receive, answer, received), answer.send)
        except TimeoutError:
            seconds = f"{self._limits.request_timeout:g}"
            await answer.error(
                503, f"Cannot finish the request: it took more than {seconds} seconds. Send less.", _RETRY
            )
        except _TooLargeError:
            pass  # it is answered
        finally:
            self._bytes -= received.bytes
            self._waiting -= predicts
            self._metrics.waiting.set(self._waiting)

    def _refusal(self, scope: Scope) -> tuple[int, str, dict[str, str]] | None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if self._access.hosts and _without_port(host) not in self._access.hosts:
            return 403, "Cannot serve this host name: only this machine may use the service.", {}
        origin = headers.get("origin")
        foreign = headers.get("sec-fetch-site") == "cross-site" and not _is_link(scope, headers)
        if foreign or (origin is not None and _host_of(origin) != host):
            return 403, "Cannot serve a page of another site.", {}
        path = scope["path"]
        if self._access.token and path not in PUBLIC and not path.startswith(STATIC):
            scheme, _, token = headers.get("authorization", "").partition(" ")
            given = token.strip().encode("utf-8", "replace") if scheme.lower() == "bearer" else b""
            if not hmac.compare_digest(given, self._access.token.encode()):
                return 401, "Cannot serve without the token: send the header Authorization: Bearer TOKEN.", _BEARER
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or int(length[:20]) > self._most(scope):
            return 413, self._too_large(scope), {"connection": "close"}
        return None

    def _most(self, scope: Scope) -> int:
        most = self._limits.max_request_bytes
        return most if scope["path"] == PREDICTIONS else min(most, MAX_OTHER_BYTES)

    def _too_large(self, scope: Scope) -> str:
        return f"Cannot receive the request: it has more than {self._most(scope):,} bytes. Send less."

    def _limited(self, scope: Scope, receive: Receive, answer: _Answer, received: _Received) -> Receive:
        async def limited() -> Message:
            message = await receive()
            size = len(message.get("body", b""))
            received.bytes += size
            self._bytes += size
            # Answered here: the parser of forms turns every error into one of its own.
            if received.bytes > self._most(scope):
                await answer.error(413, self._too_large(scope), {"connection": "close"})
                raise _TooLargeError
            if self._bytes > self._limits.max_waiting_bytes:
                reason = "Cannot receive the request now: too many bytes wait. Try again in a second."
                await answer.error(503, reason, {**_RETRY, "connection": "close"})
                raise _TooLargeError
            return message

        return limited


class _Received:
    """Bytes of a request so far."""

    def __init__(self) -> None:
        self.bytes = 0


class _Answer:
    """Sends with the headers of `HEADERS`, and knows whether an answer was begun."""

    def __init__(self, send: Send) -> None:
        self._send, self.status, self._refused = send, 0, False

    async def send(self, message: Message) -> None:
        if not self._refused:
            await self._forward(message)

    async def _forward(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            given = {name.lower() for name, _ in message.get("headers", ())}
            added = [(n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in given]
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await self._send(message)

    async def error(self, status: int, reason: str, more: dict[str, str]) -> None:
        if self.status:
            return  # the answer has begun; the connection ends with it
        body = json.dumps({"error": reason}).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body)), **more}
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self._forward({"type": "http.response.start", "status": status, "headers": encoded})
        await self._forward({"type": "http.response.body", "body": body})
        self._refused = True


_RETRY = {"retry-after": "1"}
_BEARER = {"www-authenticate": "Bearer"}


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _is_link(scope: Scope, headers: dict[str, str]) -> bool:
    """Whether a user followed a link to the page."""
    return scope["method"] == "GET" and scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host
