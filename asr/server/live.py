"""Live speech over a WebSocket, in Vosk's protocol: each block of samples has one answer.

client   {"config": {"sample_rate": 16000}}   then blocks of 16-bit little-endian mono samples   then {"eof": 1}
server   {"partial": "a text that may"}   or, when words are final, {"result": [{word, start, end, conf}], "text": …}

Source: alphacep/vosk-server, websocket/asr_server.py and websocket/test.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from asr.errors import AsrError
from asr.output.subtitles import milliseconds
from asr.server.connection import (
    DONE,
    WRONG,
    Ended,
    Hearing,
    accept,
    close,
    int16_samples,
    json_object,
    next_message,
    send,
)
from asr.server.errors import RequestError
from asr.server.options import ServeOptions
from asr.server.transcriptions import hotwords_of
from asr.text.segments import TextSegment
from asr.text.transcript import join_texts

SAMPLE_RATE = 8000  # Hz, without a configuration; Vosk's server has the same
_RATES = (4000, 192_000)


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
                limits = f"{_RATES[0]} to {_RATES[1]}"
                raise RequestError(400, f"sample_rate must be a whole number of Hz, {limits}, not {repr(rate)[:40]}")
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
    """One connection: its configuration, and its sound."""

    def __init__(self, hearing: Hearing):
        self.hearing, self._config, self._has_sound = hearing, LiveConfig(), False

    async def configure(self, values: Any) -> None:
        """Take a configuration; it comes before the sound."""
        if self._has_sound:
            raise RequestError(400, "config must come before the sound")
        self._config = self._config.changed(values)
        await self.hearing.expect(self._config.hotwords)

    async def hear(self, data: bytes) -> dict[str, Any]:
        """The answer to a block of samples."""
        samples = int16_samples(data)
        self._has_sound = self._has_sound or len(samples) > 0
        update = await self.hearing.accept(samples, self._config.sample_rate)
        if update.segments:
            return self._result(update.segments)
        return {"partial": update.text, **({"stable": update.stable} if self._config.stable else {})}

    async def finish(self) -> dict[str, Any]:
        """The rest of the text; the next block begins a new stream."""
        return self._result((await self.hearing.finish()).segments)

    def _result(self, segments: Sequence[TextSegment]) -> dict[str, Any]:
        words: list[dict[str, Any]] = [
            {
                "conf": round(word.confidence, 4),
                "end": milliseconds(self.hearing.begin + word.end) / 1000,
                "start": milliseconds(self.hearing.begin + word.start) / 1000,
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


async def hear_live(websocket: WebSocket, hearing: Hearing, options: ServeOptions, closing: asyncio.Event) -> None:
    """Answer one live speaker, to the end of the speech, of the connection, or of the server."""
    await accept(websocket)
    speaker = _Speaker(hearing)
    try:
        try:
            await _converse(websocket, speaker, options, closing)
        except (RequestError, AsrError) as error:
            await close(websocket, options, WRONG, str(error))
        except Ended as end:
            await send(websocket, options, await speaker.finish())
            await close(websocket, options, end.code, str(end))
    except (WebSocketDisconnect, TimeoutError):
        return


async def _converse(websocket: WebSocket, speaker: _Speaker, options: ServeOptions, closing: asyncio.Event) -> None:
    """Answer each message, until the speech has ended.

    Raises:
        RequestError, AsrError: a message is wrong.
        Ended: there is too much speech, or too little, or the server stops.
        WebSocketDisconnect: the client has gone.
    """
    while True:
        speaker.hearing.check()
        message = await next_message(websocket, options, closing)
        text = message.get("text")
        if text is None:
            await send(websocket, options, await speaker.hear(message["bytes"]))
            continue
        order = json_object(text)
        if "config" in order:
            await speaker.configure(order["config"])
        elif order.get("eof") == 1:
            await send(websocket, options, await speaker.finish())
            await close(websocket, options, DONE, "")
            return
        elif order.get("reset") == 1:
            await send(websocket, options, await speaker.finish())
        else:
            raise RequestError(400, 'a text message must be {"config": {...}}, {"eof": 1} or {"reset": 1}')
