"""OpenAI's realtime transcription over a WebSocket: events of JSON; each item is what was said between two pauses.

client   session.update, input_audio_buffer.append (sound in Base64), .commit, .clear
server   session.created, .updated, input_audio_buffer.speech_started, .speech_stopped, .committed, .cleared,
         conversation.item.added, .done, conversation.item.input_audio_transcription.delta, .completed, .failed, error

An item ends in a pause, after 30 s without one, or where the client commits. Its deltas never change: their sum is the
transcript.

Source: OpenAI, "API Reference", Realtime: Client events, Server events.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from base64 import b64decode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from asr.errors import AsrError
from asr.recognition.streaming import StreamUpdate
from asr.server.connection import Ended, Hearing, accept, close, json_object, next_message, send
from asr.server.errors import RequestError, unknown_model
from asr.server.options import ServeOptions
from asr.server.realtime_session import FORMATS, RealtimeConfig, from_beta
from asr.server.transcriptions import logprobs
from asr.text.segments import TextSegment
from asr.text.transcript import join_texts

PROTOCOL = "realtime"  # of a WebSocket, which clients in JavaScript offer
_BETA_HEADER, _BETA_PROTOCOL = "realtime=v1", "openai-beta.realtime-v1"  # the second of clients in browsers
_EVENTS = (
    "session.update",
    "transcription_session.update",
    "input_audio_buffer.append",
    "input_audio_buffer.commit",
    "input_audio_buffer.clear",
)
_EVENT_ID_CHARACTERS = 512
Event = dict[str, Any]


@dataclass(kw_only=True)
class _Item:
    """What is said until the next pause or commit.

    Args:
        start: where it begins, in seconds of all sound.
        heard: where the last words were heard that are not final yet.
        segments: that are final.
        text: of the segments.
        sent: the sum of its deltas.
    """

    start: float
    heard: float
    id: str = field(default_factory=lambda: f"item_{secrets.token_hex(10)}")
    segments: list[TextSegment] = field(default_factory=list)
    text: str = ""
    sent: str = ""

    def add(self, segments: Sequence[TextSegment]) -> None:
        self.segments += segments
        self.text = join_texts((self.text, *(segment.text for segment in segments)))


class _Conversation:
    """One connection: its configuration, and the item that is open."""

    def __init__(self, hearing: Hearing, options: ServeOptions, *, models: Sequence[str], language: str):
        self._hearing, self._options, self._models, self._language = hearing, options, models, language
        self._config = RealtimeConfig(model=models[0], silence=round(options.stream.endpoint_silence * 1000))
        self._identity = {
            "id": f"sess_{secrets.token_hex(10)}",
            "expires_at": int(time.time() + options.max_live_seconds),
        }
        self._buffered = 0.0  # where the sound begins that is not committed, in seconds of all sound
        self._item: _Item | None = None
        self._last_id: str | None = None
        self.is_beta = False

    def created(self, query: dict[str, str]) -> Iterator[Event]:
        """The first event, and errors in the query of the address."""
        model = query.get("model")
        if model in self._models:
            self._config = RealtimeConfig(model=str(model), silence=self._config.silence)
        yield self._described("created")
        if model is not None and model not in self._models:
            yield error_event(unknown_model(model, self._models))
        if query.get("intent", "transcription") != "transcription":
            message = f"intent must be transcription, not {query['intent'][:80]!r}"
            yield error_event(RequestError(400, message, param="intent", code="invalid_value"))

    async def answer(self, event: Event) -> list[Event]:
        """The events that follow from one of the client.

        Raises:
            RequestError, AsrError: it is wrong, and nothing has changed.
        """
        kind = event.get("type")
        if kind == "input_audio_buffer.append":
            return await self._append(event.get("audio"))
        if kind == "input_audio_buffer.commit":
            return await self._commit()
        if kind == "input_audio_buffer.clear":
            self._hearing.stream, self._item, self._buffered = None, None, self._hearing.seconds
            return [{"type": "input_audio_buffer.cleared"}]
        if kind == "session.update":
            return await self._update(event.get("session"))
        if kind == "transcription_session.update":
            session = from_beta(event.get("session"))
            self.is_beta = True
            return await self._update(session)
        message = f"type must be one of {', '.join(_EVENTS)}, not {str(kind)[:80]!r}"
        raise RequestError(400, message, param="type", code="unknown_event")

    async def finish(self) -> list[Event]:
        """The events of the speech that is not answered yet, as if the client had committed it."""
        events = self._heard(await self._hearing.finish())
        if self._item:
            events += [*self._stopped(self._hearing.seconds), *self._completed(self._hearing.seconds)]
        return events

    def failed(self) -> list[Event]:
        """The events after an error of the recogniser; the next sound begins anew."""
        item, self._hearing.stream, self._item = self._item, None, None
        self._buffered = self._hearing.seconds
        error = RequestError(500, "the recogniser failed; the log of the server has the reason")
        if item is None:
            return [error_event(error)]
        failed = "conversation.item.input_audio_transcription.failed"
        return [*self._added(item), {"type": failed, **_part(item), **error.document}]

    async def _append(self, audio: Any) -> list[Event]:
        try:
            if not isinstance(audio, str):
                raise ValueError
            data = b64decode(audio, validate=True)
        except ValueError:
            message = "audio must be a text in Base64"
            raise RequestError(400, message, param="audio", code="invalid_value") from None
        form = FORMATS[self._config.format]
        samples = form.decode(data)
        seconds = self._hearing.seconds - self._buffered + len(samples) / form.rate
        if self._config.silence is None and seconds > self._options.max_seconds:
            message = f"the buffer must be committed or cleared within {self._options.max_seconds:g} s of sound"
            raise RequestError(400, message, param="audio", code="input_audio_buffer_full")
        return self._heard(await self._hearing.accept(samples, form.rate))

    async def _commit(self) -> list[Event]:
        """One item of all that is in the buffer."""
        if self._hearing.seconds <= self._buffered:
            message = "the buffer must hold sound to be committed; it is empty"
            raise RequestError(400, message, code="input_audio_buffer_commit_empty")
        item = self._item = self._item or self._new_item(self._buffered)
        item.add((await self._hearing.finish()).segments)
        return self._completed(self._hearing.seconds)

    async def _update(self, session: Any) -> list[Event]:
        config = self._config.changed(session, models=self._models, language=self._language)
        notes = await self._hearing.expect(config.hotwords)
        old, events = self._config, list[Event]()
        if (config.format, config.hotwords, config.silence) != (old.format, old.hotwords, old.silence):
            events = await self.finish()  # under the configuration under which it was said
        self._config = config
        silence = self._options.stream.endpoint_silence if config.silence is None else config.silence / 1000
        self._hearing.stream_options = replace(self._options.stream, endpoint_silence=silence)
        return [*events, self._described("updated") | ({"warnings": list(notes)} if notes else {})]

    def _heard(self, update: StreamUpdate) -> list[Event]:
        """The events that follow from what the stream knows."""
        if self._config.silence is None:
            return self._heard_without_turns(update)
        events: list[Event] = []
        begin, first = self._hearing.begin, 0
        for end in update.utterance_ends:
            segments, first = update.segments[first:end], end
            if self._item is None:
                events += self._started(begin + segments[0].start)
            assert self._item is not None
            self._item.add(segments)
            stop = max(begin + segments[-1].end, self._item.start)  # it may begin late, after noise that was an item
            events += [*self._stopped(stop), *self._completed(stop)]
        now = self._hearing.seconds
        certain = self._config.silence / 1000 + self._hearing.stream_options.look_ahead  # labels may come back before
        if update.text:
            if self._item is None:
                assert self._hearing.stream is not None
                events += self._started(begin + self._hearing.stream.open_since)
            assert self._item is not None
            self._item.heard = now
            events += self._deltas(self._item, update.stable)
        elif self._item and now - self._item.heard >= certain:  # it was no speech after all
            events += [*self._stopped(now), *self._completed(now)]
        return events

    def _heard_without_turns(self, update: StreamUpdate) -> list[Event]:
        if self._item is None and (update.segments or update.text):
            self._item = self._new_item(self._buffered)
        if self._item is None:
            return []
        self._item.add(update.segments)
        return self._deltas(self._item, update.stable)

    def _new_item(self, start: float) -> _Item:
        return _Item(start=start, heard=self._hearing.seconds)

    def _started(self, start: float) -> list[Event]:
        start = max(start, self._buffered)
        self._item = self._new_item(start)
        started = {"audio_start_ms": round(start * 1000), "item_id": self._item.id}
        return [{"type": "input_audio_buffer.speech_started", **started}]

    def _stopped(self, end: float) -> list[Event]:
        if self._config.silence is None or self._item is None:
            return []
        stopped = {"audio_end_ms": round(end * 1000), "item_id": self._item.id}
        return [{"type": "input_audio_buffer.speech_stopped", **stopped}]

    def _deltas(self, item: _Item, stable: str) -> list[Event]:
        """The text of an item that has become certain."""
        stream = self._hearing.stream
        is_certain = stream is not None and not stream.is_readable  # else marks and figures will change the words
        text = join_texts((item.text, stable)) if is_certain else item.text
        if len(text) <= len(item.sent) or not text.startswith(item.sent):
            return []
        delta, item.sent = text[len(item.sent) :], text
        return [{"type": "conversation.item.input_audio_transcription.delta", **_part(item), "delta": delta}]

    def _completed(self, end: float) -> list[Event]:
        """The events that commit the open item and give its text; `end` is where its sound ends."""
        item, self._item = self._item, None
        assert item is not None
        self._buffered = end
        words = [word for segment in item.segments for word in segment.words]
        completed = {
            "type": "conversation.item.input_audio_transcription.completed",
            **_part(item),
            "transcript": item.text,
            "logprobs": logprobs(words) if self._config.logprobs else None,
            "usage": {"type": "duration", "seconds": round(end - item.start, 3)},
        }
        return [*self._added(item), *self._deltas(item, ""), completed]

    def _added(self, item: _Item) -> list[Event]:
        """The events that make the buffer an item."""
        order, self._last_id = {"previous_item_id": self._last_id}, item.id
        message = {
            "id": item.id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        kinds = ("created",) if self.is_beta else ("added", "done")
        return [
            {"type": "input_audio_buffer.committed", **order, "item_id": item.id},
            *({"type": f"conversation.item.{kind}", **order, "item": message} for kind in kinds),
        ]

    def _described(self, what: str) -> Event:
        """The event that tells the configuration."""
        if self.is_beta:
            return {"type": f"transcription_session.{what}", "session": self._config.beta_document(self._identity)}
        return {"type": f"session.{what}", "session": self._config.document(self._identity)}


def _part(item: _Item) -> Event:
    """Which part of which item an event is about."""
    return {"item_id": item.id, "content_index": 0}


def error_event(error: Exception, cause: Any = None) -> Event:
    """The event that tells an error; `cause` is the id of the event of the client."""
    known = error if isinstance(error, RequestError) else RequestError(400, str(error))
    is_id = isinstance(cause, str) and len(cause) <= _EVENT_ID_CHARACTERS
    return {"type": "error", "error": {**known.document["error"], "event_id": cause if is_id else None}}


async def hear_realtime(
    websocket: WebSocket,
    hearing: Hearing,
    options: ServeOptions,
    closing: asyncio.Event,
    *,
    models: Sequence[str],
    language: str,
) -> None:
    """Answer one live speaker, to the end of the connection, or of the server.

    Args:
        models: names of the model that clients may give.
        language: of the model; empty if unknown.
    """
    await accept(websocket, PROTOCOL)
    conversation = _Conversation(hearing, options, models=models, language=language)
    is_offered = _BETA_PROTOCOL in websocket.scope.get("subprotocols", [])
    conversation.is_beta = is_offered or websocket.headers.get("openai-beta") == _BETA_HEADER
    try:
        await _tell(websocket, options, conversation.created(dict(websocket.query_params)))
        try:
            while True:
                hearing.check()
                message = await next_message(websocket, options, closing)
                await _tell(websocket, options, await _answer(conversation, message))
        except Ended as end:
            await _tell(websocket, options, await conversation.finish())
            await _tell(websocket, options, [error_event(RequestError(400, str(end), code=end.name))])
            await close(websocket, options, end.code, str(end))
    except (WebSocketDisconnect, TimeoutError):
        return


async def _answer(conversation: _Conversation, message: dict[str, Any]) -> list[Event]:
    """The events that follow from a message; a wrong one does not end the connection."""
    event: Event = {}
    try:
        if message.get("text") is None:
            raise RequestError(400, "a message must be a text with a JSON object, not bytes")
        event = json_object(message["text"])
        return await conversation.answer(event)
    except (RequestError, AsrError) as error:
        return [error_event(error, event.get("event_id"))]
    except Exception:  # a bug, or no memory: the client can go on
        logging.getLogger("uvicorn.error").exception("live speech cannot be recognised")
        return conversation.failed()


async def _tell(websocket: WebSocket, options: ServeOptions, events: Iterator[Event] | list[Event]) -> None:
    for event in events:
        await send(websocket, options, {"event_id": f"event_{secrets.token_hex(10)}", **event})
