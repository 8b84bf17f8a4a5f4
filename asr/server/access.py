"""What stands before every request: origin, token, limits of number, size and time, and the form of errors."""

from __future__ import annotations

import asyncio
import hmac
import math
import re
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from asr.server.errors import RequestError
from asr.server.metrics import Metrics
from asr.server.options import ServeOptions

TRANSCRIPTIONS = "/v1/audio/transcriptions"
PATHS = ("/", "/healthz", "/metrics", "/v1/models", TRANSCRIPTIONS)
TOKEN_PROTOCOL = "asr.token."
"""Begins the WebSocket protocol that carries the token, in Base64 for URLs: browsers can set no other header."""

_OPENAI_PROTOCOL = "openai-insecure-api-key."  # the same of OpenAI's clients in JavaScript, with the token as it is
_OPEN = ("/", "/healthz")  # without a token: the page holds nothing, and its requests bring the token
_FORM_BYTES = 2**16  # of an upload beside its file
_DRAINED_SECONDS, _DRAINED_BYTES = 2.0, 2**26  # of the rest of a refused upload


class Access:
    """An ASGI application before another one, which answers what may not pass.

    Args:
        seconds_owed: gives the time that a request which comes now has to wait, for Retry-After.
    """

    def __init__(
        self, app: ASGIApp, *, options: ServeOptions, metrics: Metrics, seconds_owed: Callable[[], float] = lambda: 0.0
    ):
        self._app, self._options, self._metrics, self._seconds_owed = app, options, metrics, seconds_owed
        self.num_requests = self.num_live = 0
        self.num_cancelled = 0  # requests that were accepted, and dropped when the server stopped

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._live(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and count it."""
        begin, exchange = time.perf_counter(), _Exchange(scope, receive, send, self._options)
        path = scope["path"] if scope["path"] in PATHS else "other"
        try:
            try:
                self._check(scope)
                if path == TRANSCRIPTIONS and scope["method"] == "POST":
                    with self._admitted():
                        await self._app(scope, exchange.receive, exchange.send)
                else:
                    await self._app(scope, exchange.receive, exchange.send)
            except RequestError as error:
                if exchange.status:
                    raise
                await error_response(error)(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        finally:
            self._metrics.request(path, exchange.status, time.perf_counter() - begin)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a live speaker in, or refuse with an HTTP error before the handshake."""
        try:
            self._check(scope)
            if self.num_live >= self._options.live:
                raise _too_many(f"at most {self._options.live} live speakers are heard at a time", 10.0)
        except RequestError as error:
            await WebSocket(scope, receive, send).send_denial_response(error_response(error))
            return
        self.num_live += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self.num_live -= 1

    def _check(self, scope: Scope) -> None:
        """Raises: RequestError: another site's page sends the request, the token is wrong, or the upload too large."""
        headers, is_live = Headers(scope=scope), scope["type"] == "websocket"
        if not _may_be_called(headers.get("host", ""), self._options):
            raise RequestError(
                403,
                "the header Host must be localhost or an address; other names must be allowed with --hosts",
                code="foreign_host",
            )
        is_action = is_live or scope["method"] not in ("GET", "HEAD")
        if is_action and "origin" in headers and not _is_own(headers["origin"], headers.get("host", "")):
            raise RequestError(403, "pages of other sites may not use this server", code="foreign_origin")
        needs_token = self._options.token and (is_live or scope["path"] not in _OPEN)
        if needs_token and not _has_token(headers, self._options.token or ""):
            raise RequestError(
                401,
                "a valid token must be given, as Authorization: Bearer TOKEN",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._options.max_upload_bytes + _FORM_BYTES:
            raise too_large(self._options)

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        """Hold a place among the requests.

        Raises:
            RequestError: there is none.
        """
        if self.num_requests >= self._options.queue:
            raise _too_many(f"at most {self._options.queue} requests are accepted at a time", self._seconds_owed())
        self.num_requests += 1
        try:
            yield
        finally:
            self.num_requests -= 1


class _Exchange:
    """The messages of one request, with the limits of size and time, and what is known of the answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, options: ServeOptions):
        self._receive, self._send, self._options = receive, send, options
        self._holds_back = "expect" in Headers(scope=scope)  # the client sends its upload only when it is asked to
        self._deadline = time.monotonic() + options.upload_seconds
        self._size, self._has_body = 0, True
        self.status = 0  # of the answer, once it is begun

    async def receive(self) -> Message:
        """The next part of the upload; after it, the end of the connection."""
        if not self._has_body:
            return await self._receive()
        self._holds_back = False
        left = self._deadline - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, min(self._options.patience, left))):
                message = await self._receive()
        except TimeoutError:
            if left <= self._options.patience:
                limit = f"be complete within {self._options.upload_seconds:g} s"
            else:
                limit = f"have no pause of {self._options.patience:g} s"
            raise RequestError(408, f"an upload must {limit}", code="timeout") from None
        if message["type"] == "http.request":
            self._has_body = message.get("more_body", False)
            self._size += len(message.get("body", b""))
            if self._size > self._options.max_upload_bytes + _FORM_BYTES:
                raise too_large(self._options)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if self._has_body and message["status"] >= 400:
                if not self._holds_back:
                    await self._drain()
                message = {**message, "headers": [*message.get("headers", []), (b"connection", b"close")]}
            self.status = message["status"]
        await self._send(message)

    async def _drain(self) -> None:
        """Read some of the rest of a refused upload, since many clients only listen after they have sent all."""
        try:
            async with asyncio.timeout(_DRAINED_SECONDS):
                size = 0
                while size < _DRAINED_BYTES:
                    message = await self._receive()
                    size += len(message.get("body", b""))
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        self._has_body = False
                        return
        except TimeoutError:
            return


def error_response(error: RequestError) -> JSONResponse:
    """The answer that tells the error."""
    return JSONResponse(error.document, status_code=error.status, headers=error.headers)


def too_large(options: ServeOptions) -> RequestError:
    """The error for a large upload."""
    return RequestError(
        413, f"file must have at most {options.max_upload_bytes} bytes", param="file", code="file_too_large"
    )


def _too_many(message: str, seconds: float) -> RequestError:
    """The error for a request that may succeed after some seconds."""
    wait = max(1, min(math.ceil(seconds), 600))
    return RequestError(
        429, f"{message}; try again later", code="rate_limit_exceeded", headers={"Retry-After": str(wait)}
    )


def _is_own(origin: str, host: str) -> bool:
    """Whether a page of this server sends the request."""
    return host != "" and origin.partition("://")[2].lower() == host.lower()


def _may_be_called(name: str, options: ServeOptions) -> bool:
    """Whether no other site's page sends the request under its own name, which its owner points at this machine.

    Such a page (DNS rebinding) has the right Origin, but no token, and its name is never an address. Programs that are
    no browsers may leave Host out.
    """
    if options.token or not is_this_machine(options.host) or not name:
        return True
    match = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::\d*)?", name.lower())
    host = match[1].strip("[]").rstrip(".") if match else ""
    return _is_address(host) or is_this_machine(host) or host in map(str.lower, options.hosts)


def is_this_machine(host: str) -> bool:
    """Whether only this machine can reach a server on a host; `localhost` is never another machine, by RFC 6761."""
    if _is_address(host):
        return ip_address(host).is_loopback
    return host.lower() == "localhost" or host.lower().endswith(".localhost")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _has_token(headers: Headers, token: str) -> bool:
    """Whether the token stands in the header, or in a WebSocket protocol; compared in constant time."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return hmac.compare_digest(given.strip().encode(), token.encode())
    encoded = urlsafe_b64encode(token.encode()).decode().rstrip("=")
    expected = (f"{TOKEN_PROTOCOL}{encoded}".encode(), f"{_OPENAI_PROTOCOL}{token}".encode())
    protocols = [entry.strip().encode() for entry in headers.get("sec-websocket-protocol", "").split(",")]
    return any(hmac.compare_digest(entry, right) for entry in protocols for right in expected)
