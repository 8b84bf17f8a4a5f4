"""Live speech over a WebSocket, in Vosk's protocol: each block of samples has one answer.

client   {"config": {"sample_rate": 16000}}   then blocks of 16-bit little-endian mono samples   then {"eof": 1}
server   {"partial": "a text that may"}   or, when words are final, {"result": [{word, start, end, conf}], "text": …}

Source: alphacep/vosk-server, websocket/asr_server.py and websocket/test.py.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from asr.errors import AsrError
from asr.output.subtitles import milliseconds
from asr.recognition.streaming import Stream, StreamUpdate
from asr.server.access import TOKEN_PROTOCOL
from asr.server.errors import RequestError
from asr.server.metrics import Metrics
from asr.server.options import ServeOptions
from asr.server.transcriptions import hotwords_of
from asr.server.workers import Vocabularies
from asr.text.segments import TextSegment
from asr.text.transcript import join_texts

SAMPLE_RATE = 8000  # Hz, without a configuration; Vosk's server has the same
LARGEST_MESSAGE = 2**20  # bytes: half a minute at 16 kHz
_RATES = (4000, 192_000)
_WRONG, _TOO_MUCH, _GOING_AWAY = 1007, 1008, 1012  # codes of RFC 6455 and its registry
_REASON_BYTES = 120  # of a WebSocket's closing frame
Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class LiveConfig:
    """What a client may set before its first sound.

    Args:
        words: give times and confidences of final words.
        alternatives: give results in Vosk's form for several alternatives; there is always one.
        stable: give the part of a partial text that will not change, too.
        hotwords: to expect.
    """

    sample_rate: int = SAMPLE_RATE
    words: bool = True
    alternatives: bool = False
    stable: bool = False
    hotwords: tuple[str, ...] = ()

    def changed(self, values: Any) -> LiveConfig:
        """These values with those of a message.

        Raises:
            RequestError: one is wrong.
        """
        if not isinstance(values, dict):
            raise RequestError(400, "config must be an object")
        changes: dict[str, Any] = {}
        if "sample_rate" in values:
            rate = values["sample_rate"]
            if not isinstance(rate, int | float) or not _RATES[0] <= rate <= _RATES[1] or rate != int(rate):
                raise RequestError(400, f"sample_rate must be a whole number of Hz, {_RATES[0]} to {_RATES[1]}")
            changes["sample_rate"] = int(rate)
        for name, value in (("words", "words"), ("stable", "stable"), ("alternatives", "max_alternatives")):
            if value in values:
                changes[name] = bool(values[value])
        if "phrase_list" in values:
            phrases = values["phrase_list"]
            if not isinstance(phrases, list) or not all(isinstance(phrase, str) for phrase in phrases):
                raise RequestError(400, "phrase_list must be a list of texts")
            changes["hotwords"] = hotwords_of("", [phrase for phrase in phrases if phrase != "[unk]"])
        return replace(self, **changes)


class _Speaker:
    """One connection: its configuration, its stream, and the sound so far."""

    def __init__(self, options: ServeOptions, vocabularies: Vocabularies, executor: Executor, metrics: Metrics):
        self._options, self._vocabularies, self._executor, self._metrics = options, vocabularies, executor, metrics
        self._config = LiveConfig()
        self._stream: Stream | None = None
        self._num_samples = 0
        self._begin = 0.0  # seconds of sound before the stream
        self._came = time.monotonic()

    @property
    def seconds(self) -> float:
        return self._num_samples / self._config.sample_rate

    @property
    def is_over(self) -> bool:
        """Whether the sound, or the time that it took to come, has reached its limit."""
        return max(self.seconds, time.monotonic() - self._came) > self._options.max_live_seconds

    async def configure(self, values: Any) -> None:
        """Take a configuration; it comes before the sound."""
        if self._num_samples:
            raise RequestError(400, "config must come before the sound")
        self._config = self._config.changed(values)
        if self._config.hotwords:
            await self._work(lambda: self._vocabularies.expecting(self._config.hotwords))

    async def hear(self, data: bytes) -> dict[str, Any]:
        """The answer to a block of samples."""
        if len(data) % 2:
            raise RequestError(400, f"a block must hold 16-bit samples, an even number of bytes; got {len(data)}")
        samples = np.frombuffer(data, dtype="<i2").astype(np.int16, copy=False)
        stream = await self._open()
        self._num_samples += len(samples)
        self._metrics.sound("live", len(samples) / self._config.sample_rate)
        update = await self._work(lambda: stream.accept(samples, self._config.sample_rate))
        if update.segments:
            return self._result(update.segments)
        return {"partial": update.text, **({"stable": update.stable} if self._config.stable else {})}

    async def finish(self) -> dict[str, Any]:
        """The rest of the text; the next block begins a new stream."""
        stream, self._stream = self._stream, None
        update = await self._work(stream.finish) if stream else StreamUpdate()
        answer = self._result(update.segments)
        self._begin = self.seconds
        return answer

    async def _open(self) -> Stream:
        if self._stream is None:
            recognizer, _ = await self._work(lambda: self._vocabularies.expecting(self._config.hotwords))
            self._stream = recognizer.stream(self._options.stream)
        return self._stream

    async def _work(self, work: Callable[[], Value]) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def _result(self, segments: Sequence[TextSegment]) -> dict[str, Any]:
        words: list[dict[str, Any]] = [
            {
                "conf": round(word.confidence, 4),
                "end": milliseconds(self._begin + word.end) / 1000,
                "start": milliseconds(self._begin + word.start) / 1000,
                "word": word.text,
            }
            for segment in segments
            for word in segment.words
        ]
        text = join_texts(segment.text for segment in segments)
        result: dict[str, Any] = {"result": words, "text": text} if words and self._config.words else {"text": text}
        if self._config.alternatives:
            mean = sum(word["conf"] for word in words) / max(len(words), 1)
            return {"alternatives": [{"confidence": round(mean, 4), **result}]}
        return result


async def hear_live(
    websocket: WebSocket,
    options: ServeOptions,
    vocabularies: Vocabularies,
    executor: Executor,
    metrics: Metrics,
    closing: asyncio.Event,
) -> None:
    """Answer one live speaker, to the end of the speech, of the connection, or of the server."""
    offered = websocket.scope.get("subprotocols", [])
    await websocket.accept(subprotocol=next((name for name in offered if name.startswith(TOKEN_PROTOCOL)), None))
    speaker = _Speaker(options, vocabularies, executor, metrics)
    try:
        try:
            await _converse(websocket, speaker, options, closing)
        except (RequestError, AsrError) as error:
            await _close(websocket, options, _WRONG, str(error))
        except _Ended as end:
            await _send(websocket, options, await speaker.finish())
            await _close(websocket, options, end.code, str(end))
    except (WebSocketDisconnect, TimeoutError, RuntimeError):  # RuntimeError: the connection is closed already
        return


class _Ended(Exception):
    """The server ends the speech."""

    def __init__(self, code: int, reason: str):
        super().__init__(reason)
        self.code = code


async def _converse(websocket: WebSocket, speaker: _Speaker, options: ServeOptions, closing: asyncio.Event) -> None:
    """Answer each message, until the speech has ended.

    Raises:
        RequestError, AsrError: a message is wrong.
        _Ended: there is too much speech, or too little, or the server stops.
        WebSocketDisconnect: the client has gone.
    """
    while True:
        if speaker.is_over:
            raise _Ended(_TOO_MUCH, f"live speech must end within {options.max_live_seconds:g} s")
        message = await _next_message(websocket, options, closing)
        text = message.get("text")
        if text is None:
            await _send(websocket, options, await speaker.hear(message["bytes"]))
            continue
        order = _order(text)
        if "config" in order:
            await speaker.configure(order["config"])
        elif order.get("eof") == 1:
            await _send(websocket, options, await speaker.finish())
            await websocket.close()
            return
        elif order.get("reset") == 1:
            await _send(websocket, options, await speaker.finish())
        else:
            raise RequestError(400, 'a text message must be {"config": {...}}, {"eof": 1} or {"reset": 1}')


async def _next_message(websocket: WebSocket, options: ServeOptions, closing: asyncio.Event) -> dict[str, Any]:
    """The next message with text or bytes."""
    receiving = asyncio.ensure_future(websocket.receive())
    stopping = asyncio.ensure_future(closing.wait())
    try:
        await asyncio.wait((receiving, stopping), timeout=options.patience, return_when=asyncio.FIRST_COMPLETED)
        if receiving.done():
            message = receiving.result()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1006))
            return dict(message)
        if stopping.done():
            raise _Ended(_GOING_AWAY, "the server stops")
        raise _Ended(_TOO_MUCH, f"live speech must have no pause of {options.patience:g} s between its blocks")
    finally:
        receiving.cancel()
        stopping.cancel()


def _order(text: str) -> dict[str, Any]:
    """The object in a text message.

    Raises:
        RequestError: there is none.
    """
    try:
        order = json.loads(text)
    except (ValueError, RecursionError):
        order = None
    if not isinstance(order, dict):
        raise RequestError(400, f"a text message must be a JSON object, not {text[:40]!r}")
    return order


async def _send(websocket: WebSocket, options: ServeOptions, answer: dict[str, Any]) -> None:
    await _in_time(websocket.send_text(json.dumps(answer, ensure_ascii=False)), options)


async def _close(websocket: WebSocket, options: ServeOptions, code: int, reason: str) -> None:
    short = reason.encode()[:_REASON_BYTES].decode(errors="ignore")
    await _in_time(websocket.close(code, short), options)


async def _in_time(action: Awaitable[None], options: ServeOptions) -> None:
    async with asyncio.timeout(options.patience):
        await action
