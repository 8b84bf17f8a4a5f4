"""What the protocols of live speech share: the messages of a WebSocket in their time, and the stream that hears."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from asr.recognition.streaming import Stream, StreamOptions, StreamUpdate
from asr.server.access import TOKEN_PROTOCOL
from asr.server.errors import RequestError
from asr.server.metrics import Metrics
from asr.server.options import ServeOptions
from asr.server.workers import Vocabularies

LARGEST_MESSAGE = 2**20  # bytes: half a minute at 16 kHz
DONE, WRONG, TOO_MUCH, GOING_AWAY = 1000, 1007, 1008, 1012  # codes of RFC 6455 and its registry
_REASON_BYTES = 120  # of a WebSocket's closing frame
Value = TypeVar("Value")


class Ended(Exception):
    """The server ends the speech.

    Args:
        code: of the closing frame.
        name: a word for programs.
    """

    def __init__(self, code: int, name: str, reason: str):
        super().__init__(reason)
        self.code, self.name = code, name


class Hearing:
    """The sound of one speaker: how much came, and the stream that recognises it.

    Args:
        seconds: of all sound.
        begin: seconds of sound before the stream.
    """

    def __init__(self, options: ServeOptions, vocabularies: Vocabularies, executor: Executor, metrics: Metrics):
        self._options, self._vocabularies, self._executor, self._metrics = options, vocabularies, executor, metrics
        self.hotwords: tuple[str, ...] = ()
        self.stream_options: StreamOptions = options.stream
        self.stream: Stream | None = None
        self.seconds = self.begin = 0.0
        self._came = time.monotonic()

    async def expect(self, hotwords: tuple[str, ...]) -> tuple[str, ...]:
        """Let the next stream expect hotwords; the result are notes about those that cannot be spelled.

        Raises:
            AsrError: none can be spelled.
        """
        _, notes = await self._work(lambda: self._vocabularies.expecting(hotwords))
        self.hotwords = hotwords
        return notes

    async def accept(self, samples: np.ndarray, sample_rate: int) -> StreamUpdate:
        """What is known after a block of samples (N,) int16."""
        stream = await self._open()
        seconds = len(samples) / sample_rate
        self.seconds += seconds
        self._metrics.sound("live", seconds)
        return await self._work(lambda: stream.accept(samples, sample_rate))

    async def finish(self) -> StreamUpdate:
        """The rest of the text; the next block begins a new stream at `seconds`."""
        stream, self.stream = self.stream, None
        return await self._work(stream.finish) if stream else StreamUpdate()

    def check(self) -> None:
        """Raises: Ended: the sound, or the time that it took to come, has reached its limit."""
        if max(self.seconds, time.monotonic() - self._came) > self._options.max_live_seconds:
            limit = f"live speech must end within {self._options.max_live_seconds:g} s"
            raise Ended(TOO_MUCH, "session_expired", limit)

    async def _open(self) -> Stream:
        if self.stream is None:
            recognizer, _ = await self._work(lambda: self._vocabularies.expecting(self.hotwords))
            self.stream, self.begin = recognizer.stream(self.stream_options), self.seconds
        return self.stream

    async def _work(self, work: Callable[[], Value]) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)


async def accept(websocket: WebSocket, *protocols: str) -> None:
    """Open the connection, with the first protocol of the client that is one of these or carries the token."""
    offered = websocket.scope.get("subprotocols", [])
    known = (name for name in offered if name in protocols or name.startswith(TOKEN_PROTOCOL))
    await websocket.accept(subprotocol=next(known, None))


async def next_message(websocket: WebSocket, options: ServeOptions, closing: asyncio.Event) -> dict[str, Any]:
    """The next message, with `text` or `bytes`.

    Raises:
        Ended: there is none in time, or the server stops.
        WebSocketDisconnect: the client has gone.
    """
    receiving = asyncio.ensure_future(websocket.receive())
    stopping = asyncio.ensure_future(closing.wait())
    try:
        await asyncio.wait((receiving, stopping), timeout=options.patience, return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():  # first: a client that sends fast always has a message here
            raise Ended(GOING_AWAY, "server_stopping", "the server stops")
        if receiving.done():
            message = receiving.result()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1006))
            return dict(message)
        pause = f"live speech must have no pause of {options.patience:g} s between its blocks"
        raise Ended(TOO_MUCH, "timeout", pause)
    finally:
        receiving.cancel()
        stopping.cancel()


def json_object(text: str) -> dict[str, Any]:
    """The object in a text message.

    Raises:
        RequestError: there is none.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RequestError(400, f"a text message must be a JSON object, not {text[:40]!r}")
    return value


def int16_samples(data: bytes) -> np.ndarray:
    """(N,) int16, of 16-bit little-endian samples.

    Raises:
        RequestError: the last one is not whole.
    """
    if len(data) % 2:
        raise RequestError(400, f"a block must hold 16-bit samples, an even number of bytes; got {len(data)}")
    return np.frombuffer(data, dtype="<i2").astype(np.int16, copy=False)


async def send(websocket: WebSocket, options: ServeOptions, answer: dict[str, Any]) -> None:
    """Send an object.

    Raises:
        TimeoutError: the client does not read.
        WebSocketDisconnect: it has gone.
    """
    text = json.dumps(answer, ensure_ascii=False).encode(errors="backslashreplace").decode()  # no half of a surrogate
    await _in_time(websocket.send_text(text), options)


async def close(websocket: WebSocket, options: ServeOptions, code: int, reason: str) -> None:
    """End the connection with a code and its reason. Raises: as `send`."""
    short = reason.encode(errors="backslashreplace")[:_REASON_BYTES].decode(errors="ignore")
    await _in_time(websocket.close(code, short), options)


async def _in_time(action: Awaitable[None], options: ServeOptions) -> None:
    """Do it before the patience ends. Raises: TimeoutError, WebSocketDisconnect."""
    try:
        async with asyncio.timeout(options.patience):
            await action
    except RuntimeError as error:  # the connection is closed already
        raise WebSocketDisconnect(1006) from error
