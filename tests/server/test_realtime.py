"""OpenAI's realtime transcription, spoken by OpenAI's client as it comes; and what no client should send."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import soundfile
import soxr
import websockets
from starlette.testclient import TestClient
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

import asr
from asr.recognition.recognizer import Recognizer
from asr.recognition.streaming import Stream, StreamOptions, StreamUpdate
from asr.server.application import Application
from asr.server.options import ServeOptions
from asr.text.segments import TextSegment
from asr.text.transcript import Timeline, Word, join_texts
from tests.server.conftest import MERCHANT, UPGRADE, Server, seconds_of_a_flood, serving

RATE = 24_000
DELTA = "conversation.item.input_audio_transcription.delta"
COMPLETED = "conversation.item.input_audio_transcription.completed"
TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """(N,) int16 at 24 kHz: the same sentence twice, each with a second of silence after it."""
    samples, rate = soundfile.read(MERCHANT, dtype="int16")
    once = np.concatenate([soxr.resample(samples, rate, RATE), np.zeros(RATE, np.int16)])
    return np.concatenate([once, once])


@pytest.fixture(scope="module")
def english() -> Iterator[Server]:
    with serving("--model", "english") as running:
        yield running
        assert not any("Traceback" in line for line in running.log), "".join(running.log)


def client_of(server: Server) -> openai.OpenAI:
    """OpenAI's client; without `websocket_base_url` its older releases want TLS."""
    url = {"base_url": f"{server.url}/v1", "websocket_base_url": f"{server.live_url}/v1"}
    return openai.OpenAI(**url, api_key=TOKEN, max_retries=0)


@contextmanager
def session(server: Server, audio_input: dict[str, Any] | None = None, **more: Any) -> Iterator[Any]:
    """A connection of OpenAI's client, after its session.update."""
    with client_of(server).realtime.connect(model="whisper-1", extra_query={"intent": "transcription"}) as connection:
        assert connection.recv().type == "session.created"
        if audio_input is not None or more:
            audio = {"audio": {"input": audio_input}} if audio_input is not None else {}
            connection.session.update(session={"type": "transcription", **audio, **more})
            assert connection.recv().type == "session.updated"
        yield connection


def blocks_of(data: bytes, size: int = RATE // 5 * 2) -> list[str]:
    """Base64 of a fifth of a second each."""
    return [base64.b64encode(data[start : start + size]).decode() for start in range(0, len(data), size)]


def say(connection: Any, data: bytes) -> None:
    for block in blocks_of(data):
        connection.input_audio_buffer.append(audio=block)


def events_until(connection: Any, kind: str, count: int = 1) -> list[Any]:
    """The events up to the last of `count` of a kind."""
    events: list[Any] = []
    while sum(event.type == kind for event in events) < count:
        events.append(connection.recv())
        assert events[-1].type != "error", events[-1]
    return events


def utterances(
    recognizer: Recognizer, samples: np.ndarray, rate: int = RATE, **options: float
) -> list[tuple[TextSegment, ...]]:
    """What the stream gives, as one tuple for each pause."""
    stream, parts = recognizer.stream(StreamOptions(**options)), []
    for start in range(0, len(samples), rate // 5):
        updates = [stream.accept(samples[start : start + rate // 5], rate)]
        if start + rate // 5 >= len(samples):
            updates.append(stream.finish())
        for update in updates:
            first = 0
            for end in update.utterance_ends:
                parts.append(update.segments[first:end])
                first = end
    return parts


def text_of(segments: Sequence[TextSegment]) -> str:
    return join_texts(segment.text for segment in segments)


def whole_text(recognizer: Recognizer, samples: np.ndarray, rate: int = RATE) -> str:
    return text_of([segment for part in utterances(recognizer, samples, rate) for segment in part])


def item_of(event: Any) -> str | None:
    """The id of the item that an event is about."""
    return getattr(event, "item_id", None) or event.item.id


def check_turn(events: Sequence[Any], expected: Sequence[TextSegment]) -> None:
    """One item from its first word to its transcript."""
    started, stopped, committed, added, done = (
        next(event for event in events if event.type == kind)
        for kind in (
            *("input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped", "input_audio_buffer.committed"),
            *("conversation.item.added", "conversation.item.done"),
        )
    )
    completed = events[-1]
    assert completed.type == COMPLETED and completed.transcript == text_of(expected) != ""
    deltas = [event.delta for event in events if event.type == DELTA]
    assert "".join(deltas) == completed.transcript
    assert {event.item_id for event in events if hasattr(event, "item_id")} == {completed.item_id}
    assert added.item.id == done.item.id == completed.item_id
    assert (added.item.role, added.item.content[0].type) == ("user", "input_audio")
    assert 0 <= started.audio_start_ms <= round(expected[0].start * 1000)
    assert started.audio_start_ms >= round(expected[0].start * 1000) - 2000
    assert stopped.audio_end_ms == round(expected[-1].end * 1000)
    length = (stopped.audio_end_ms - started.audio_start_ms) / 1000
    assert completed.usage.type == "duration" and completed.usage.seconds == pytest.approx(length, abs=2e-3)
    kinds = [event.type for event in events if event.type != DELTA]
    assert kinds == [event.type for event in (started, stopped, committed, added, done, completed)]


@pytest.mark.parametrize("silence", [None, 1500])
def test_items_are_what_the_stream_hears_between_pauses(server, recognizer, speech, silence):
    sound = np.concatenate([speech, np.zeros(2 * RATE, np.int16)])
    expected = utterances(recognizer, sound, **({"endpoint_silence": silence / 1000} if silence else {}))
    assert len(expected) >= 2
    turns = {"turn_detection": {"type": "server_vad", "silence_duration_ms": silence}} if silence else None
    with session(server, turns) as connection:
        say(connection, sound.tobytes())
        events = events_until(connection, COMPLETED, len(expected))
    committed = [event for event in events if event.type == "input_audio_buffer.committed"]
    ids = [event.item_id for event in committed]
    assert [event.previous_item_id for event in committed] == [None, *ids[:-1]]
    for item_id, segments in zip(ids, expected, strict=True):
        check_turn([event for event in events if item_of(event) == item_id], segments)
    if silence:  # long items: words come as soon as they are certain
        assert DELTA in [event.type for event in events[: events.index(committed[0])]]
    assert len({event.event_id for event in events}) == len(events)


def test_readable_text_comes_at_the_end_of_an_item(english, speech):
    expected = utterances(asr.load("english", device="cpu"), speech)
    with session(english, {"turn_detection": {"type": "server_vad", "silence_duration_ms": 500}}) as connection:
        say(connection, speech.tobytes())
        events = events_until(connection, COMPLETED, len(expected))
    completed = [event.transcript for event in events if event.type == COMPLETED]
    assert completed == [text_of(segments) for segments in expected]
    assert completed == ["But the merchant understood what the boy had said."] * 2
    assert [event.delta for event in events if event.type == DELTA] == completed


def test_without_turn_detection_a_commit_makes_one_item(server, recognizer, speech):
    sounds = [speech[: len(speech) // 2], speech]
    with session(server, {"turn_detection": None}, include=["item.input_audio_transcription.logprobs"]) as connection:
        for sound in sounds:
            say(connection, sound.tobytes())
            connection.input_audio_buffer.commit()
        events = events_until(connection, COMPLETED, 2)
    completed = [event for event in events if event.type == COMPLETED]
    assert [event.transcript for event in completed] == [whole_text(recognizer, sound) for sound in sounds]
    for event in completed:
        deltas = [other.delta for other in events if other.type == DELTA and other.item_id == event.item_id]
        assert "".join(deltas) == event.transcript and len(deltas) >= 2
        assert [entry.token for entry in event.logprobs] == event.transcript.split()
        assert all(entry.logprob <= 0 and bytes(entry.bytes).decode() == entry.token for entry in event.logprobs)
    assert [event.usage.seconds for event in completed] == pytest.approx([len(speech) / 2 / RATE, len(speech) / RATE])
    assert not [event for event in events if "speech" in event.type]


def test_a_longer_pause_ends_an_item_if_the_client_wants_so(english, speech):
    sound = np.concatenate([speech, np.zeros(5 * RATE, np.int16)])
    (expected,) = utterances(asr.load("english", device="cpu"), sound, endpoint_silence=3.0)
    with session(english, {"turn_detection": {"type": "server_vad", "silence_duration_ms": 3000}}) as connection:
        say(connection, sound.tobytes())
        check_turn(events_until(connection, COMPLETED), expected)


@pytest.mark.parametrize("name, law", [("audio/pcmu", "ULAW"), ("audio/pcma", "ALAW")])
def test_the_sound_of_telephones(server, recognizer, name, law):
    samples, rate = soundfile.read(MERCHANT, dtype="int16")
    file = io.BytesIO()
    raw = {"format": "RAW", "subtype": law}
    soundfile.write(file, soxr.resample(samples, rate, 8000), 8000, **raw)
    decoded, _ = soundfile.read(io.BytesIO(file.getvalue()), samplerate=8000, channels=1, dtype="int16", **raw)
    with session(server, {"format": {"type": name}, "turn_detection": None}) as connection:
        say(connection, file.getvalue())
        connection.input_audio_buffer.commit()
        transcript = events_until(connection, COMPLETED)[-1].transcript
    assert transcript == whole_text(recognizer, decoded, 8000) != ""


def test_two_clients_at_once(server, recognizer, speech):
    sounds = [speech[: len(speech) // 2], speech]
    with session(server, {"turn_detection": None}) as first, session(server, {"turn_detection": None}) as second:
        blocks = [blocks_of(sound.tobytes()) for sound in sounds]
        for number in range(max(map(len, blocks))):
            for connection, own in zip((first, second), blocks, strict=True):
                if number < len(own):
                    connection.input_audio_buffer.append(audio=own[number])
        for connection, sound in zip((first, second), sounds, strict=True):
            connection.input_audio_buffer.commit()
            assert events_until(connection, COMPLETED)[-1].transcript == whole_text(recognizer, sound)


def test_a_cleared_buffer_is_not_transcribed(server, speech):
    half = speech[: len(speech) // 2]
    with session(server, {"turn_detection": None}) as connection:
        for _ in range(2):
            say(connection, half.tobytes())
            connection.input_audio_buffer.clear()
        events_until(connection, "input_audio_buffer.cleared", 2)
        connection.input_audio_buffer.commit()
        error = connection.recv()
        assert (error.type, error.error.code) == ("error", "input_audio_buffer_commit_empty")
        say(connection, half.tobytes())
        connection.input_audio_buffer.commit()
        completed = events_until(connection, COMPLETED)[-1]
    assert completed.usage.seconds == pytest.approx(len(half) / RATE)


def test_a_commit_may_come_before_the_pause(server, speech):
    with session(server) as connection:
        say(connection, speech[: 3 * RATE].tobytes())
        connection.input_audio_buffer.commit()
        events = events_until(connection, COMPLETED)
        assert events[-1].transcript and "input_audio_buffer.speech_stopped" not in [event.type for event in events]
        say(connection, np.zeros(RATE, np.int16).tobytes())
        connection.input_audio_buffer.commit()
        silent = events_until(connection, COMPLETED)
    assert silent[-1].transcript == "" and DELTA not in [event.type for event in silent]


def test_a_changed_configuration_ends_what_was_said_before(server, speech):
    with session(server, {"turn_detection": None}) as connection:
        say(connection, speech[: 3 * RATE].tobytes())
        connection.session.update(
            session={"type": "transcription", "audio": {"input": {"format": {"type": "audio/pcmu"}}}}
        )
        events = events_until(connection, "session.updated")
        assert events[-2].type == COMPLETED and events[-2].transcript
        assert events[-1].session.audio.input.format.type == "audio/pcmu"


def test_hotwords_change_what_is_heard(server, speech):
    def heard(**transcription: Any) -> tuple[str, Any]:
        with session(server) as connection:
            audio = {"input": {"transcription": {"model": "an4", **transcription}, "turn_detection": None}}
            connection.session.update(session={"type": "transcription", "audio": audio})
            updated = connection.recv()
            say(connection, speech[: len(speech) // 2].tobytes())
            connection.input_audio_buffer.commit()
            return events_until(connection, COMPLETED)[-1].transcript, updated

    plain, _ = heard(language="en-US")
    for fields in ({"prompt": "TENTERY:30"}, {"keywords": ["TENTERY:30"]}):
        assert heard(**fields)[0] != plain
    _, updated = heard(prompt="TENTERY, 大")
    assert "大" in updated.model_extra["warnings"][0]


def test_the_session_as_it_is_described(server):
    with client_of(server).realtime.connect(model="whisper-1") as connection:
        created = connection.recv().session
        assert created.type == "transcription" and created.audio.input.format.rate == RATE
        assert created.audio.input.turn_detection.silence_duration_ms == 500
        assert created.audio.input.transcription.model == "whisper-1"
        connection.session.update(
            session={
                "type": "transcription",
                "audio": {
                    "input": {
                        "noise_reduction": {"type": "near_field"},
                        "turn_detection": {"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 700},
                    }
                },
            }
        )
        updated = connection.recv().session
        assert updated.audio.input.turn_detection.silence_duration_ms == 700
        assert updated.audio.input.noise_reduction is None  # it has no effect
        assert updated.audio.input.transcription.model == "whisper-1"


def test_the_form_of_the_beta(server, speech):
    query = {"intent": "transcription"}
    with client_of(server).beta.realtime.connect(model="whisper-1", extra_query=query) as connection:
        assert connection.recv().type == "transcription_session.created"
        connection.transcription_session.update(
            session={
                "input_audio_format": "pcm16",
                "input_audio_transcription": {"model": "whisper-1", "language": "en"},
                "turn_detection": {"type": "server_vad", "silence_duration_ms": 600},
                "modalities": ["text"],
            }
        )
        updated = connection.recv()
        assert updated.type == "transcription_session.updated"
        assert updated.session.turn_detection.silence_duration_ms == 600
        assert updated.session.input_audio_format == "pcm16"
        say(connection, speech[: len(speech) // 2].tobytes())
        events = events_until(connection, COMPLETED)
        kinds = [event.type for event in events]
        assert "conversation.item.created" in kinds and "conversation.item.added" not in kinds
        assert events[-1].transcript
        connection.send({"type": "transcription_session.update", "session": {"input_audio_format": "mp3"}})
        error = next(event for event in connection if event.type == "error").error
        assert error.message.startswith("session.input_audio_format must be pcm16 or g711_ulaw or g711_alaw, not")


def test_the_beta_as_browsers_ask_for_it(server):
    with connect(f"{server.live_url}/v1/realtime", subprotocols=["realtime", "openai-beta.realtime-v1"]) as websocket:
        assert websocket.subprotocol == "realtime"
        assert json.loads(websocket.recv())["type"] == "transcription_session.created"


def update(**audio_input: Any) -> str:
    session = {"type": "transcription", "audio": {"input": audio_input}}
    return json.dumps({"type": "session.update", "session": session})


WRONG_MESSAGES = [
    (b"\0\0", "a message must be a text with a JSON object, not bytes"),
    ("hello", "a text message must be a JSON object, not 'hello'"),
    ("[" * 100_000, "a text message must be a JSON object"),
    ('{"type": "response.create"}', "type must be one of session.update, "),
    ('{"type": ["session.update"]}', "type must be one of session.update, "),
    ("{}", "type must be one of session.update, "),
    ('{"type": "input_audio_buffer.append"}', "audio must be a text in Base64"),
    ('{"type": "input_audio_buffer.append", "audio": "AA=A"}', "audio must be a text in Base64"),
    ('{"type": "input_audio_buffer.append", "audio": "Ä"}', "audio must be a text in Base64"),
    ('{"type": "input_audio_buffer.append", "audio": "AAAA"}', "a block must hold 16-bit samples"),
    ('{"type": "input_audio_buffer.commit"}', "the buffer must hold sound to be committed; it is empty"),
    ('{"type": "session.update"}', "session must be an object, not 'None'"),
    ('{"type": "session.update", "session": {"type": "realtime"}}', 'session.type must be "transcription"'),
    ('{"type": "session.update", "session": {"type": "transcription", "voice": 1}}', "unknown parameter"),
    (
        '{"type": "session.update", "session": {"type": "transcription", "include": ["a"]}}',
        'session.include must be a list that holds "item.input_audio_transcription.logprobs" only',
    ),
    ('{"type": "transcription_session.update", "session": {"voice": 1}}', "unknown parameter 'session.voice'"),
    ('{"type": "transcription_session.update", "session": 1}', "session must be an object"),
    (update(format={"type": "audio/mp3"}), "session.audio.input.format.type must be audio/pcm or"),
    (update(format={"type": ["audio/pcm"]}), "session.audio.input.format.type must be audio/pcm or"),
    (update(format={"type": "audio/pcm", "rate": 16000}), "session.audio.input.format.rate must be 24000"),
    (update(noise_reduction=3), "session.audio.input.noise_reduction must be an object"),
    (update(turn_detection={"type": "semantic_vad"}), "session.audio.input.turn_detection.type must be"),
    (
        update(turn_detection={"silence_duration_ms": 5}),
        "session.audio.input.turn_detection.silence_duration_ms must be a whole number of milliseconds, 100 to 10000",
    ),
    (update(turn_detection={"silence_duration_ms": float("nan")}), "session.audio.input.turn_detection.silence"),
    (update(turn_detection={"silence_duration_ms": True}), "session.audio.input.turn_detection.silence"),
    (update(transcription=None), "session.audio.input.transcription must be an object"),
    (update(transcription={"model": "gpt"}), "model must be an4 or whisper-1, not 'gpt'; asr-serve --aliases"),
    (update(transcription={"model": {}}), "model must be an4 or whisper-1"),
    (update(transcription={"language": "de"}), "language must be en, the language of this model, not 'de'"),
    (update(transcription={"language": 3}), "session.audio.input.transcription.language must be a text"),
    (update(transcription={"prompt": 0}), "session.audio.input.transcription.prompt must be a text"),
    (update(transcription={"prompt": 3}), "session.audio.input.transcription.prompt must be a text"),
    (update(transcription={"prompt": "a" * 9000}), "prompt must have at most 8192 characters"),
    (update(transcription={"prompt": "/"}), "hotwords must be spelled in the model's alphabet"),
    (update(transcription={"prompt": "\ud800"}), "hotwords must be spelled in the model's alphabet"),
    (update(transcription={"keywords": "a"}), "session.audio.input.transcription.keywords must be a list of texts"),
]


def test_a_wrong_message_does_not_end_the_connection(server, speech):
    with connect(f"{server.live_url}/v1/realtime", max_size=None) as websocket:
        websocket.recv()
        for message, reason in WRONG_MESSAGES:
            named = message
            if isinstance(message, str) and message.startswith("{") and len(message) > 2:
                named = f'{{"event_id": "mine", {message[1:]}'
            websocket.send(named)
            event = json.loads(websocket.recv())
            assert event["type"] == "error" and event["error"]["message"].startswith(reason), message
            assert event["error"]["event_id"] == ("mine" if named != message else None)
            assert event["error"]["type"] == "invalid_request_error"
        for cause in (3, "a" * 513, None):
            websocket.send(json.dumps({"type": "no", "event_id": cause}))
            assert json.loads(websocket.recv())["error"]["event_id"] is None
        websocket.send('{"type": "no", "event_id": "\\ud800"}')
        assert json.loads(websocket.recv())["error"]["event_id"] == "\ud800"
        for block in blocks_of(speech[: 3 * RATE].tobytes()):
            websocket.send(json.dumps({"type": "input_audio_buffer.append", "audio": block}))
        websocket.send('{"type": "input_audio_buffer.commit"}')
        while (event := json.loads(websocket.recv()))["type"] != COMPLETED:
            assert event["type"] != "error"
        assert event["transcript"]


def test_what_the_address_may_ask_for(server):
    with connect(f"{server.live_url}/v1/realtime?model=gpt-5&intent=talk") as websocket:
        assert json.loads(websocket.recv())["session"]["audio"]["input"]["transcription"]["model"] == "an4"
        errors = [json.loads(websocket.recv())["error"] for _ in range(2)]
    assert [error["param"] for error in errors] == ["model", "intent"]
    reason = "model must be an4 or whisper-1, not 'gpt-5'; asr-serve --aliases accepts other names"
    assert (errors[0]["message"], errors[0]["code"]) == (reason, "model_not_found")
    assert errors[1]["message"] == "intent must be transcription, not 'talk'"


def test_a_message_that_is_too_large_ends_the_connection(server):
    with connect(f"{server.live_url}/v1/realtime") as websocket:
        websocket.recv()
        with pytest.raises(ConnectionClosed) as caught:
            websocket.send(json.dumps({"type": "input_audio_buffer.append", "audio": "A" * 2**20}))
            websocket.recv()
        assert caught.value.rcvd.code == 1009


def test_the_token_and_the_limits(speech):
    flags = ("--live", "1", "--patience", "2", "--max-live-seconds", "12", "--max-seconds", "4")
    with serving(*flags, ASR_SERVE_TOKEN=TOKEN) as server:
        url = f"{server.live_url}/v1/realtime"
        with pytest.raises(InvalidStatus, match="401"):
            connect(url)
        with pytest.raises(InvalidStatus, match="401"):
            connect(url, subprotocols=["realtime", "openai-insecure-api-key.wrong"])
        for origin in ("https://evil.example", "null"):
            with pytest.raises(InvalidStatus, match="403"):
                connect(url, origin=origin, additional_headers={"Authorization": f"Bearer {TOKEN}"})
        with connect(url, subprotocols=["realtime", f"openai-insecure-api-key.{TOKEN}"]) as websocket:
            assert websocket.subprotocol == "realtime"
            with pytest.raises(InvalidStatus, match="429"):  # a second speaker
                connect(url, additional_headers={"Authorization": f"Bearer {TOKEN}"})
        wait_until_free(server)

        with session(server, {"turn_detection": None}) as connection:
            say(connection, speech[: 5 * RATE].tobytes())
            error = next(event for event in connection if event.type == "error").error
            assert error.code == "input_audio_buffer_full"
            assert error.message == "the buffer must be committed or cleared within 4 s of sound"
            events = list(events_to_the_end(connection, 1008))  # of the patience
        assert [event for event in events if event.type == COMPLETED][-1].transcript
        assert events[-1].error.message == "live speech must have no pause of 2 s between its blocks"
        wait_until_free(server)
        with session(server) as connection:
            for _ in range(2):
                say(connection, speech.tobytes())
            events = list(events_to_the_end(connection, 1008))
        assert events[-1].error.code == "session_expired"
        assert events[-1].error.message == "live speech must end within 12 s"
        assert [event for event in events if event.type == COMPLETED][-1].transcript


def wait_until_free(server: Server) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    deadline = time.monotonic() + 5
    while "asr_live_speakers 0" not in httpx.get(f"{server.url}/metrics", headers=headers).text:
        assert time.monotonic() < deadline


def events_to_the_end(connection: Any, code: int) -> Iterator[Any]:
    """The rest of the events, until the server closes with this code."""
    try:
        while True:
            yield connection.recv()
    except ConnectionClosed as closed:
        assert closed.rcvd is not None and closed.rcvd.code == code


@pytest.mark.parametrize("turns", [{}, {"turn_detection": None}])
def test_a_server_that_stops_completes_what_was_said(speech, turns):
    with serving() as server:
        with session(server, turns) as connection:
            say(connection, speech[: 5 * RATE].tobytes())
            first = connection.recv()
            server.process.terminate()
            events = [first, *events_to_the_end(connection, 1012)]
        transcripts = [event.transcript for event in events if event.type == COMPLETED]
        deltas = [event for event in events if event.type == DELTA]
        assert transcripts and all(transcripts)
        for transcript, item_id in zip(transcripts, dict.fromkeys(event.item_id for event in deltas), strict=True):
            assert "".join(event.delta for event in deltas if event.item_id == item_id) == transcript
        assert (events[-1].error.code, events[-1].error.message) == ("server_stopping", "the server stops")
        assert server.process.wait(30) == 0


def test_a_server_that_stops_does_not_hear_all_that_a_fast_client_sends(speech):
    def send(connection: Any) -> None:
        with pytest.raises(ConnectionClosed):
            for _ in range(1_000):
                say(connection, speech.tobytes())

    with serving() as server:
        with session(server, {"turn_detection": None}) as connection:
            sender = threading.Thread(target=send, args=(connection,))
            sender.start()
            first = events_until(connection, DELTA)
            server.process.terminate()
            events = [*first, *events_to_the_end(connection, 1012)]
            sender.join()
        (transcript,) = [event.transcript for event in events if event.type == COMPLETED]
        assert transcript == "".join(event.delta for event in events if event.type == DELTA)
        assert events[-1].error.code == "server_stopping"
        assert server.process.wait(30) == 0


def test_a_client_that_goes_leaves_its_place(server, speech):
    async def go() -> None:
        for _ in range(12):  # more than may be heard at a time
            async with websockets.connect(f"{server.live_url}/v1/realtime") as websocket:
                await websocket.recv()
                for block in blocks_of(speech[:RATE].tobytes()):
                    await websocket.send(json.dumps({"type": "input_audio_buffer.append", "audio": block}))
            wait_until_free(server)

    asyncio.run(go())


@contextmanager
def in_process(recognizer: Recognizer) -> Iterator[Any]:
    """A connection to an application of this process, after session.created."""
    application = Application(recognizer, ServeOptions())
    with TestClient(application).websocket_connect("ws://127.0.0.1/v1/realtime") as websocket:
        assert websocket.receive_json()["type"] == "session.created"
        yield websocket
    application.close()


def test_an_error_of_the_recogniser_is_told(recognizer, speech, monkeypatch, caplog):
    accept, blocks = Stream.accept, []

    def fail_once(stream: Stream, samples: Any, rate: int | None = None) -> Any:
        blocks.append(samples)
        if len(blocks) == 15:
            raise MemoryError("no room")
        return accept(stream, samples, rate)

    monkeypatch.setattr(Stream, "accept", fail_once)
    events: list[Any] = []
    with in_process(recognizer) as websocket:
        for block in blocks_of(speech.tobytes()):
            websocket.send_text(json.dumps({"type": "input_audio_buffer.append", "audio": block}))
        while not events or events[-1]["type"] != COMPLETED:
            events.append(websocket.receive_json())
    (failed,) = [event for event in events if event["type"].endswith("transcription.failed")]
    assert failed["error"]["message"] == "the recogniser failed; the log of the server has the reason"
    assert failed["error"]["type"] == "server_error"
    assert failed["item_id"] in [event["item_id"] for event in events if event["type"].endswith("speech_started")]
    assert "live speech cannot be recognised" in caplog.text


def test_noise_that_was_taken_for_speech_is_an_item_without_text(recognizer, monkeypatch):
    line = Timeline(frame_seconds=0.02, duration_seconds=9)
    word = Word(text="A", start_frame=25, end_frame=50, confidence=1.0, timeline=line)
    nothing, late = StreamUpdate(), TextSegment(text="A", words=(word,))
    noise = [StreamUpdate(unstable="A"), nothing, StreamUpdate(unstable="A"), *[nothing] * 8]
    updates = iter([*noise, StreamUpdate(segments=(late,), utterance_ends=(1,))])
    monkeypatch.setattr(Stream, "accept", lambda stream, samples, rate=None: next(updates))
    events: list[Any] = []
    with in_process(recognizer) as websocket:
        for block in blocks_of(bytes(12 * RATE // 5 * 2)):
            websocket.send_text(json.dumps({"type": "input_audio_buffer.append", "audio": block}))
        while sum(event["type"] == COMPLETED for event in events) < 2:
            events.append(websocket.receive_json())
    kinds = [event["type"].rpartition(".")[2] for event in events if event["type"] != DELTA]
    assert kinds == ["speech_started", "speech_stopped", "committed", "added", "done", "completed"] * 2
    times = [event[name] for event in events for name in ("audio_start_ms", "audio_end_ms") if name in event]
    assert times == [0, 2200, 2200, 2200]  # half a second of silence and one of look-ahead after 0.6 s
    assert [event["transcript"] for event in events if event["type"] == COMPLETED] == ["", "A"]


def test_errors_that_nobody_reads():
    wrong = b"\x81\x82\0\0\0\0{}" * 10_000
    upgrade = UPGRADE.replace(b"GET / ", b"GET /v1/realtime ")
    assert seconds_of_a_flood(upgrade, wrong) < 20
