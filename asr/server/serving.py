"""Serve an application on a socket, until a signal; then finish what was accepted."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from asr.errors import ConfigError
from asr.server.application import Application
from asr.server.connection import LARGEST_MESSAGE
from asr.server.notes import collecting
from asr.server.options import ServeOptions

_HEAD_BYTES = 2**15
_ACCEPTED_AT_ONCE = 128  # connections, before those beyond the limit are closed again
_TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_BAD_HEAD = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_FAREWELL_SECONDS, _CLOSING_SECONDS = 60.0, 5.0  # for the last words of live speakers; for their clients to close
_QUIET_SECONDS = 0.2  # for requests that are on their way


class _Protocol(H11Protocol):
    """HTTP with limits on the time for the head of a request, and for reading an answer; uvicorn has none."""

    patience = 30.0  # seconds
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if self.limit_concurrency and len(self.connections) > self.limit_concurrency:  # each holds a file descriptor
            transport.write(_TOO_MANY)
            transport.close()
        self._expect_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect_head()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(self.patience, self.transport.abort)

    def resume_writing(self) -> None:
        if self._stalled:
            self._stalled.cancel()
        super().resume_writing()

    def _expect_head(self) -> None:
        self.loop.call_later(self.patience, self._close_unless_begun, self.cycle)

    def _close_unless_begun(self, before: Any) -> None:
        is_http = self in self.connections  # not upgraded to a WebSocket, nor closed
        if is_http and self.cycle is before and (before is None or before.response_complete):
            self.transport.close()


class _LiveProtocol(WebSocketsSansIOProtocol):
    """WebSockets to a client that must read: uvicorn's answers to pings would wait for it in memory without limit."""

    patience = 30.0  # seconds
    _stalled: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.handshake_initiated:  # websockets refuses the head, which is whole: uvicorn would wait for more
            self.transport.write(b"".join(self.conn.data_to_send()) or _BAD_HEAD)
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.transport.pause_reading()
        self._stalled = self.loop.call_later(self.patience, self.transport.abort)

    def resume_writing(self) -> None:
        if self._stalled:
            self._stalled.cancel()
        super().resume_writing()
        if not self.read_paused:
            self.transport.resume_reading()

    async def receive(self) -> Any:
        message = await super().receive()
        if not self.writable.is_set():
            self.transport.pause_reading()
        return message


class _Server(uvicorn.Server):
    """uvicorn, with signals that end it in peace, and a farewell to live speakers."""

    def __init__(self, config: uvicorn.Config, application: Application):
        super().__init__(config)
        self._application = application

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at the first signal, and at once at the second."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def handle_exit(self, sig: int, frame: Any) -> None:
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, let live speakers end, and answer the rest."""
        for server in self.servers:
            server.close()
        self._application.closing.set()
        await asyncio.sleep(_QUIET_SECONDS)
        seconds = min(_FAREWELL_SECONDS, self._application.options.stop_seconds or _FAREWELL_SECONDS)
        await self._wait(lambda: not self._application.access.num_live, seconds)
        await self._wait(lambda: not any(isinstance(each, _LiveProtocol) for each in self.server_state.connections))
        await super().shutdown(sockets)

    async def _wait(self, is_done: Callable[[], bool], seconds: float = _CLOSING_SECONDS) -> None:
        """Wait for so many seconds at most, until it is done or a second signal comes."""
        deadline = time.monotonic() + seconds
        while not (is_done() or self.force_exit) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)


def listen(options: ServeOptions) -> socket.socket:
    """The socket on which the server will answer.

    Raises:
        ConfigError: the host has no address.
        OSError: the address is in use, or not one of this machine.
    """
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        socket.getaddrinfo(options.host, options.port, family)  # create_server hides what is wrong with a name
        listener = socket.create_server((options.host, options.port), family=family, backlog=options.max_connections)
    except socket.gaierror as error:
        raise ConfigError(f"host must be an address, not {options.host!r}: {error.strerror}", "host") from None
    except OSError as error:
        advice = "; choose another --port" if error.errno == errno.EADDRINUSE else ""
        raise OSError(error.errno, os.strerror(error.errno or 0) + advice, f"{options.host}:{options.port}") from None
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # ms; else an answer that nobody reads keeps its closed connection for ever
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(options.patience * 1000))
    return listener


def _is_own_fault(record: logging.LogRecord) -> bool:
    """Whether a message is worth the log; broken texts over WebSockets, and those that are refused, would fill it."""
    return not record.getMessage().startswith(("Invalid UTF-8", "ASGI callable returned without completing handshake"))


def serve(application: Application, listener: socket.socket, *, ready: Callable[[], object]) -> bool:
    """Answer requests until SIGTERM or SIGINT, and then those that were accepted.

    Args:
        ready: called when requests are answered.
    Returns:
        Whether every accepted request was answered; a second signal, or `stop_seconds`, may prevent it.
    """
    options = application.options

    async def run(scope: Any, receive: Any, send: Any) -> None:
        await application(scope, receive, send)

    config = uvicorn.Config(
        run,
        http=type("_Patient", (_Protocol,), {"patience": options.patience}),
        ws=type("_PatientLive", (_LiveProtocol,), {"patience": options.patience}),
        backlog=_ACCEPTED_AT_ONCE,
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        limit_concurrency=options.max_connections,
        h11_max_incomplete_event_size=_HEAD_BYTES,
        ws_max_size=LARGEST_MESSAGE,
        ws_per_message_deflate=False,
        ws_ping_interval=None,  # the pong of a client that sends fast waits behind its sound
        timeout_graceful_shutdown=options.stop_seconds,  # type: ignore[arg-type]
    )
    server = _Server(config, application)

    async def main() -> None:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        if server.started:
            ready()
        await serving

    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # else clients fill the log
    logging.getLogger("uvicorn.error").addFilter(_is_own_fault)
    with collecting():
        asyncio.run(main())
        is_done = not server.force_exit and application.access.num_cancelled == 0
        if is_done:
            application.close()
    return is_done
