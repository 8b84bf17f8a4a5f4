"""OpenAI's transcriptions, asked by OpenAI's client as it comes; and each field that can be wrong."""

from __future__ import annotations

import io
import json
import math
import re
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
from starlette.datastructures import FormData, UploadFile

from asr.output.formats import to_json, to_srt, to_txt, to_vtt
from asr.recognition.recognizer import Recognizer
from asr.server.errors import RequestError
from asr.server.transcriptions import hotwords_of, read_request
from tests.server.conftest import MERCHANT, Server, excerpts, texts


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)


@pytest.fixture(scope="module")
def transcript(recognizer: Recognizer):
    return recognizer.transcribe(MERCHANT)


def test_the_text_is_that_of_asr_transcribe(client, transcript):
    with MERCHANT.open("rb") as file:
        answer = client.audio.transcriptions.create(file=file, model="an4")
    assert answer.text == transcript.text != ""
    assert answer.usage.type == "duration" and answer.usage.seconds == math.ceil(transcript.duration_seconds)


@pytest.mark.parametrize("name, write", [("text", to_txt), ("srt", to_srt), ("vtt", to_vtt)])
def test_texts_are_those_of_the_formats(client, transcript, name, write):
    assert client.audio.transcriptions.create(file=MERCHANT, model="whisper-1", response_format=name) == write(
        transcript
    )


def test_verbose_json_has_segments_and_words_as_our_json(client, transcript):
    ours = json.loads(to_json(transcript))
    answer = client.audio.transcriptions.create(
        file=MERCHANT,
        model="an4",
        language="en",
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert (answer.text, answer.duration, answer.language) == (ours["text"], ours["duration"], "en")
    assert [(word.word, word.start, word.end) for word in answer.words] == [
        (word["text"], word["start"], word["end"]) for word in ours["words"]
    ]
    for segment, own in zip(answer.segments, ours["segments"], strict=True):
        assert (segment.id, segment.start, segment.end, segment.text) == (
            own["id"],
            own["start"],
            own["end"],
            own["text"],
        )
        mean = sum(math.log(word["confidence"]) for word in own["words"]) / len(own["words"])
        assert segment.avg_logprob == pytest.approx(mean, abs=1e-3)
        data = own["text"].encode()
        assert segment.compression_ratio == pytest.approx(len(data) / len(zlib.compress(data)), abs=1e-4)


def test_only_the_granularities_that_were_asked_for(client):
    asked = {"file": MERCHANT, "model": "an4", "response_format": "verbose_json"}
    plain = client.audio.transcriptions.create(**asked)
    assert plain.segments and plain.words is None
    words = client.audio.transcriptions.create(**asked, timestamp_granularities=["word"])
    assert words.words and words.segments is None


def test_a_stream_has_deltas_that_join_to_the_text(client, recognizer):
    samples = MERCHANT.read_bytes()
    long = io.BytesIO(samples + samples)  # two sentences with a pause between them
    expected = recognizer.transcribe(io.BytesIO(samples + samples)).text
    stream = client.audio.transcriptions.create(
        file=("a.flac", long), model="an4", stream=True, response_format="json", include=["logprobs"]
    )
    *deltas, done = list(stream)
    assert len(deltas) > 1 and {event.type for event in deltas} == {"transcript.text.delta"}
    assert "".join(event.delta for event in deltas) == done.text == expected
    assert done.type == "transcript.text.done"
    tokens = [entry.token for event in deltas for entry in event.logprobs]
    assert tokens == expected.split() == [entry.token for entry in done.logprobs]


def test_a_prompt_is_hotwords(client, recognizer):
    expected = recognizer.with_decoding({"hotwords": ("TENTERY:30", "MERY")}).transcribe(MERCHANT).text
    prompt = "tentery:30, mery"
    answer = client.audio.transcriptions.create(file=MERCHANT, model="an4", prompt=prompt)
    assert answer.text == expected != recognizer.transcribe(MERCHANT).text
    keywords = client.audio.transcriptions.create(file=MERCHANT, model="an4", keywords=prompt.split(", "))
    assert keywords.text == expected


@pytest.mark.parametrize(
    "prompt, hotwords",
    [
        ("", ()),
        ("This is about ZyntriQix, Digique Plus.", ("This is about ZyntriQix", "Digique Plus")),
        ('a\nb; c. d? "e"', ("a", "b", "c", "d", "e")),
        ("U.S. 3.14", ("U.S", "3.14")),
        ("Meet at 12:30, at 7:05:8, Pier 39:12", ("Meet at 12 30", "at 7 05:8", "Pier 39:12")),
        ("KUBERNETES:8, Topic: cars, a:b:2.5, :7, x:nan", ("KUBERNETES:8", "Topic cars", "a b:2.5", "x nan")),
        ("@/etc/passwd, @@x, a@b", ("/etc/passwd", "x", "a@b")),
        ("b, a, b", ("b", "a")),
    ],
)
def test_phrases_of_a_prompt(prompt, hotwords):
    assert hotwords_of(prompt) == hotwords


@pytest.mark.parametrize("prompt", ["." * 60_000 + "x", "?!" * 30_000 + "x", " " * 60_000 + ":", "1" * 60_000])
def test_the_time_for_a_prompt_is_linear(prompt):
    begin = time.process_time()
    with pytest.raises(RequestError, match="prompt must have at most 8192 characters and 500 phrases; it has 600"):
        hotwords_of(prompt)
    hotwords_of(prompt[-8_000:])
    assert time.process_time() - begin < 0.2


def test_no_file_that_a_prompt_names_is_read(client, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("merchant:100\n")
    answer = client.audio.transcriptions.create(
        file=MERCHANT, model="an4", prompt=f"@{secret}, understood", response_format="verbose_json"
    )
    (warning,) = answer.warnings
    assert "left out" in warning and str(secret) in warning
    assert hotwords_of(f"@{secret}") == (str(secret),)


def test_requests_that_arrive_together_are_neither_lost_nor_crossed(client, server, recognizer):
    sounds = excerpts(24, seconds=2.0)
    expected = texts(recognizer, sounds)
    assert len(set(expected)) > 12

    def ask(number: int) -> str:
        return client.audio.transcriptions.create(file=("a.wav", sounds[number]), model="an4").text

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, range(24))) == expected
    figures = httpx.get(f"{server.url}/metrics").text
    counts = re.findall(r'asr_batch_recordings_bucket{le="([\d.]+)"} (\d+)', figures)
    batches = {float(size): int(count) for size, count in counts}
    assert batches[1.0] < batches[16.0]  # some were recognised together


def test_the_models(client):
    assert [model.id for model in client.models.list()] == ["an4", "whisper-1"]
    assert client.models.retrieve("an4").owned_by == "asr"
    with pytest.raises(
        openai.NotFoundError, match=r"model must be an4 or whisper-1, not 'gpt-4o'; asr-serve --aliases"
    ):
        client.models.retrieve("gpt-4o")


@pytest.mark.parametrize(
    "sound, message",
    [
        (b"not sound", "file must be sound; libsndfile cannot read it"),
        (b"", "file must hold sound; it is empty"),
        (b"#EXTM3U\nfile:///etc/passwd\n", "file must be"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "file must be"),
    ],
)
def test_what_is_not_sound(client, sound, message):
    with pytest.raises(openai.BadRequestError) as caught:
        client.audio.transcriptions.create(file=("../../etc/passwd", sound), model="an4")
    error = caught.value
    assert error.body["message"].startswith(message) and "passwd" not in error.body["message"]
    assert (error.param, error.code, error.type) == ("file", "invalid_file", "invalid_request_error")


def test_damage_is_told(client):
    answer = client.audio.transcriptions.create(
        file=("a.flac", MERCHANT.read_bytes()[:40_000]), model="an4", response_format="verbose_json"
    )
    assert answer.text and "truncated" in answer.warnings[0]


@pytest.mark.parametrize(
    "fields, status, message",
    [
        ({"file": "/etc/passwd"}, 400, "file must be an uploaded sound file; got text"),
        ({"file": None}, 400, "file must be an uploaded sound file; got nothing"),
        ({"model": "tiny"}, 404, "model must be an4 or whisper-1, not 'tiny'; asr-serve --aliases accepts other names"),
        ({"language": "de"}, 400, "language must be en, the language of this model, not 'de'"),
        ({"languages[]": "fr"}, 400, "language must be en"),
        (
            {"response_format": "diarized_json"},
            400,
            "response_format must be one of json, text, srt, vtt",
        ),
        ({"timestamp_granularities[]": "word"}, 400, "needs response_format verbose_json, not json"),
        (
            {"timestamp_granularities[]": "phone", "response_format": "verbose_json"},
            400,
            "timestamp_granularities[] must be word or segment, not 'phone'",
        ),
        ({"stream": "yes"}, 400, "stream must be one of true, false"),
        ({"stream": "true", "response_format": "srt"}, 400, "stream needs response_format json or text, not srt"),
        ({"include[]": "words"}, 400, "include[] must be logprobs, not 'words'"),
        ({"include[]": "logprobs", "response_format": "srt"}, 400, "include[] needs response_format json, not srt"),
        ({"diarize": "true"}, 400, "unknown field 'diarize'"),
        ({"prompt": "a" * 9000}, 400, "prompt must have at most 8192 characters and 500 phrases; it has 9000 and 1"),
        ({"prompt": "a," * 600}, 400, "500 phrases; it has 600 and 601"),
    ],
)
def test_wrong_fields(fields, status, message):
    upload = UploadFile(io.BytesIO(b""), filename="a.wav")
    form = {name: value for name, value in {"file": upload, "model": "an4", **fields}.items() if value is not None}
    with pytest.raises(RequestError) as caught:
        read_request(FormData(list(form.items())), models=("an4", "whisper-1"), language="en")
    assert caught.value.status == status and message in caught.value.message


def test_a_field_that_comes_twice():
    upload = UploadFile(io.BytesIO(b""), filename="a.wav")
    form = FormData([("file", upload), ("model", "an4"), ("model", "an4")])
    with pytest.raises(RequestError, match="model must be one text"):
        read_request(form, models=("an4",), language="")


def test_languages_of_the_model_in_other_forms():
    upload = UploadFile(io.BytesIO(b""), filename="a.wav")
    for known, given in (("en", "en-GB"), ("en-US", "EN"), ("", "de"), ("en", "en_US")):
        form = FormData([("file", upload), ("language", given)])
        assert read_request(form, models=("an4",), language=known).file is upload
