"""Live speech: the messages of Vosk's own client, and those that no client should send."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx
import numpy as np
import pytest
import soundfile
import websockets
from starlette.testclient import TestClient
from websockets.exceptions import ConnectionClosed, InvalidStatus

from asr.recognition.recognizer import Recognizer
from asr.recognition.streaming import Stream, StreamUpdate
from asr.server.application import Application
from asr.server.options import ServeOptions
from tests.server.conftest import MERCHANT, UPGRADE, seconds_of_a_flood, serving

Value = TypeVar("Value")


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """(N,) int16 at 16 kHz: the same sentence twice."""
    samples, rate = soundfile.read(MERCHANT, dtype="int16")
    assert rate == 16_000
    return np.concatenate([samples, samples])


def blocks_of(samples: np.ndarray, seconds: float = 0.2) -> list[np.ndarray]:
    size = int(16_000 * seconds)
    return [samples[start : start + size] for start in range(0, len(samples), size)]


def connected(url: str, talk: Callable[[Any], Awaitable[Value]], **options: Any) -> Value:
    """What the coroutine gives that talks over a connection."""

    async def run() -> Value:
        async with websockets.connect(url, **options) as websocket:
            return await talk(websocket)

    return asyncio.run(asyncio.wait_for(run(), 120))


async def vosk_client(websocket: Any, samples: np.ndarray, config: str = "") -> list[dict[str, Any]]:
    """The answers that vosk-server's websocket/test.py prints, by the same messages."""
    await websocket.send(config or '{ "config" : { "sample_rate" : 16000 } }')
    answers = []
    for block in blocks_of(samples):
        await websocket.send(block.astype("<i2").tobytes())
        answers.append(json.loads(await websocket.recv()))
    await websocket.send('{"eof" : 1}')
    answers.append(json.loads(await websocket.recv()))
    return answers


def expected_updates(recognizer: Recognizer, samples: np.ndarray) -> list[StreamUpdate]:
    stream = recognizer.stream()
    return [*(stream.accept(block, 16_000) for block in blocks_of(samples)), stream.finish()]


def test_answers_to_vosks_client_are_those_of_the_stream(server, recognizer, speech):
    answers = connected(server.live_url, lambda websocket: vosk_client(websocket, speech))
    updates = expected_updates(recognizer, speech)
    assert len(answers) == len(updates)
    for answer, update in zip(answers, updates, strict=True):
        if not update.segments:
            assert answer in ({"partial": update.text}, {"text": ""})
            continue
        words = [word for segment in update.segments for word in segment.words]
        assert answer == {
            "result": [
                {
                    "conf": round(word.confidence, 4),
                    "end": round(word.end, 3),
                    "start": round(word.start, 3),
                    "word": word.text,
                }
                for word in words
            ],
            "text": " ".join(segment.text for segment in update.segments),
        }
    assert sum("result" in answer for answer in answers) >= 2
    assert sum(bool(answer.get("partial")) for answer in answers) >= 4


def test_what_a_client_may_configure(server, speech):
    def answers(**config: Any) -> list[dict[str, Any]]:
        message = json.dumps({"config": {"sample_rate": 16000.0, **config}})
        return connected(server.live_url, lambda websocket: vosk_client(websocket, speech, message))

    plain = answers()
    assert [answer["text"] for answer in answers(words=False) if "text" in answer] == [
        answer["text"] for answer in plain if "text" in answer
    ]
    assert not any("result" in answer for answer in answers(words=False))
    finals = [answer for answer in answers(max_alternatives=3) if "alternatives" in answer]
    (best,) = finals[0]["alternatives"]
    assert {name: best[name] for name in ("result", "text")} == next(answer for answer in plain if "result" in answer)
    assert best["confidence"] == pytest.approx(np.mean([word["conf"] for word in best["result"]]), abs=1e-3)
    for answer in answers(stable=True):
        assert "text" in answer or answer["partial"].startswith(answer["stable"])
    hot = answers(phrase_list=["TENTERY:30", "[unk]"])
    assert [answer.get("text") for answer in hot] != [answer.get("text") for answer in plain]


def test_after_a_reset_times_go_on(server, speech):
    half = speech[: len(speech) // 2]

    async def talk(websocket: Any) -> list[dict[str, Any]]:
        finals = []
        await websocket.send('{"config": {"sample_rate": 16000}}')
        for order in ('{"reset": 1}', '{"eof": 1}'):
            await websocket.send(half.astype("<i2").tobytes())
            await websocket.recv()
            await websocket.send(order)
            finals.append(json.loads(await websocket.recv()))
        return finals

    first, second = connected(server.live_url, talk)
    assert first["text"] == second["text"] != ""
    assert [word["start"] + len(half) / 16_000 for word in first["result"]] == pytest.approx(
        [word["start"] for word in second["result"]], abs=2e-3
    )


def test_a_readable_text_ends_with_a_sentence():
    samples, rate = soundfile.read(MERCHANT, dtype="int16")

    async def talk(websocket: Any) -> str:
        await websocket.send(json.dumps({"config": {"sample_rate": rate}}))
        await websocket.send(samples.tobytes())
        await websocket.recv()
        await websocket.send('{"eof": 1}')
        return json.loads(await websocket.recv())["text"]

    with serving("--model", "english") as running:
        assert connected(running.live_url, talk) == "But the merchant understood what the boy had said."


def test_nothing_was_said(server):
    async def talk(websocket: Any) -> str:
        await websocket.send('{"eof": 1}')
        return await websocket.recv()

    assert json.loads(connected(server.live_url, talk)) == {"text": ""}


@pytest.mark.parametrize(
    "message, reason",
    [
        (b"\0\0\0", "a block must hold 16-bit samples, an even number of bytes; got 3"),
        ("hello", "a text message must be a JSON object, not 'hello'"),
        ("[1]", "a text message must be a JSON object"),
        ("[" * 100_000, "a text message must be a JSON object"),
        ('{"fine": 1}', 'a text message must be {"config": {...}}, {"eof": 1} or {"reset": 1}'),
        ('{"config": 3}', "config must be an object"),
        ('{"config": {"sample_rate": 100}}', "sample_rate must be a whole number of Hz, 4000 to 192000, not 100"),
        ('{"config": {"sample_rate": 16000.5}}', "sample_rate must be a whole number"),
        ('{"config": {"sample_rate": "8000"}}', "sample_rate must be a whole number of Hz, 4000 to 192000, not '8000'"),
        ('{"config": {"sample_rate": NaN}}', "sample_rate must be a whole number"),
        ('{"config": {"phrase_list": "a"}}', "phrase_list must be a list of texts"),
        ('{"config": {"phrase_list": ["/"]}}', "hotwords must be spelled in the model's alphabet"),
    ],
)
def test_wrong_messages(server, message, reason):
    async def talk(websocket: Any) -> tuple[int, str]:
        await websocket.send(message)
        with pytest.raises(ConnectionClosed) as caught:
            await websocket.recv()
        return caught.value.rcvd.code, caught.value.rcvd.reason

    code, said = connected(server.live_url, talk)
    assert code == 1007 and said.startswith(reason)


def test_a_configuration_after_the_sound(server):
    async def talk(websocket: Any) -> str:
        await websocket.send(b"\0\0")
        await websocket.recv()
        await websocket.send('{"config": {"sample_rate": 16000}}')
        with pytest.raises(ConnectionClosed) as caught:
            await websocket.recv()
        return caught.value.rcvd.reason

    assert connected(server.live_url, talk) == "config must come before the sound"


def test_limits_of_live_speech(speech):
    token = "a-token-of-some-length"
    flags = ("--live", "1", "--patience", "1", "--max-live-seconds", "6")
    with serving(*flags, ASR_SERVE_TOKEN=token) as server:
        with pytest.raises(InvalidStatus, match="401"):
            connected(server.live_url, lambda websocket: websocket.recv())
        protocol = "asr.token." + urlsafe_b64encode(token.encode()).decode().rstrip("=")
        for options in ({"additional_headers": {"Authorization": f"Bearer {token}"}}, {"subprotocols": [protocol]}):

            async def pause(websocket: Any) -> tuple[str, int, str]:
                with pytest.raises(InvalidStatus, match="429"):  # a second speaker
                    await websockets.connect(server.live_url, **options)  # noqa: B023
                await websocket.send('{"config": {"sample_rate": 16000}}')
                await websocket.send(speech[: 16_000 * 4].tobytes())
                await websocket.recv()
                final = json.loads(await websocket.recv())
                with pytest.raises(ConnectionClosed) as caught:
                    await websocket.recv()
                return final["text"], caught.value.rcvd.code, caught.value.rcvd.reason

            text, code, reason = connected(server.live_url, pause, **options)
            assert text and (code, reason) == (1008, "live speech must have no pause of 1 s between its blocks")

        async def go_on(websocket: Any) -> str:
            with pytest.raises(ConnectionClosed) as caught:
                await vosk_client(websocket, speech)
            return caught.value.rcvd.reason

        assert connected(server.live_url, go_on, **options) == "live speech must end within 6 s"
        headers = {"Authorization": f"Bearer {token}"}
        deadline = time.monotonic() + 5
        while "asr_live_speakers 0" not in httpx.get(f"{server.url}/metrics", headers=headers).text:
            assert time.monotonic() < deadline
        for origin in ("https://evil.example", "null"):
            with pytest.raises(InvalidStatus, match="403"):
                connected(server.live_url, lambda websocket: websocket.recv(), origin=origin, **options)


def test_a_speaker_gets_the_last_words_of_a_server_that_stops(speech):
    with serving() as server:

        async def talk(websocket: Any) -> tuple[str, int]:
            await websocket.send('{"config": {"sample_rate": 16000}}')
            await websocket.send(speech[: 16_000 * 4].tobytes())
            await websocket.recv()
            server.process.terminate()
            final = json.loads(await websocket.recv())
            with pytest.raises(ConnectionClosed) as caught:
                await websocket.recv()
            return final["text"], caught.value.rcvd.code

        text, code = connected(server.live_url, talk)
        assert text and code == 1012
        assert server.process.wait(30) == 0


def test_an_error_of_the_recogniser_is_not_taken_for_a_client_that_has_gone(recognizer, monkeypatch):
    def fail(stream: Stream, samples: Any, rate: int | None = None) -> StreamUpdate:
        raise RuntimeError("no room on the GPU")

    monkeypatch.setattr(Stream, "accept", fail)
    application = Application(recognizer, ServeOptions())
    connection = TestClient(application).websocket_connect("ws://127.0.0.1/")
    with pytest.raises(RuntimeError, match="no room on the GPU"), connection as websocket:  # the server logs it
        websocket.send_bytes(bytes(1600))
    application.close()


def test_a_trickle_of_sound_does_not_keep_its_place():
    async def trickle(websocket: Any) -> ConnectionClosed:
        with pytest.raises(ConnectionClosed) as caught:
            for _ in range(100):
                await websocket.send(b"")
                await websocket.recv()
                await asyncio.sleep(0.1)
        return caught.value

    with serving("--max-live-seconds", "1") as server:
        end = connected(server.live_url, trickle)
    assert end.rcvd.code == 1008
    assert end.rcvd.reason == "live speech must end within 1 s"


def test_a_text_that_is_no_utf_8_leaves_the_log_alone():
    with serving() as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=8) as connection:
            connection.sendall(UPGRADE)
            assert connection.recv(2**12).startswith(b"HTTP/1.1 101")
            connection.sendall(b"\x81\x82\0\0\0\0\xff\xfe")
            while block := connection.recv(2**12):
                assert block[:4] == b"\x88\x02\x03\xef"  # closed with 1007
        server.stop()
    assert len(server.log) == 1


@pytest.mark.parametrize(
    "header, status",
    [
        (b"X-Long: " + b"a" * 9_000, b"431"),
        (b"\r\n".join(b"X-%d: a" % number for number in range(200)), b"431"),
        (b"Content-Length: 2", b"400"),
        (b"Origin: https://evil.example", b"403"),
    ],
    ids=["long", "many", "body", "origin"],
)
def test_a_refused_head_has_an_answer_and_leaves_the_log_alone(header, status):
    with serving() as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=8) as connection:
            connection.sendall(UPGRADE[:-2] + header + b"\r\n\r\n")
            answer = b""
            while block := connection.recv(2**12):
                answer += block
            assert answer.startswith(b"HTTP/1.1 " + status)
        server.stop()
    assert len(server.log) == 1


@pytest.mark.slow
def test_a_client_whose_pongs_wait_behind_its_sound_stays(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=8) as connection:
        connection.sendall(UPGRADE)
        assert connection.recv(2**12).startswith(b"HTTP/1.1 101")
        for _ in range(9):
            connection.sendall(b"\x82\x80\0\0\0\0")  # a block without samples
            time.sleep(5)
        connection.sendall(b'\x81\x8a\0\0\0\0{"eof": 1}')
        answers = b""
        while b'{"text": ""}' not in answers and (block := connection.recv(2**12)):
            answers += block
        assert answers.count(b'{"partial": ""}') == 9


def test_pings_whose_answers_nobody_reads():
    pings = (b"\x89\xfd\0\0\0\0" + b"a" * 125) * 1_000
    assert seconds_of_a_flood(UPGRADE, pings) < 15
