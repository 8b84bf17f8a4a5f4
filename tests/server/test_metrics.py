"""Figures in the format of Prometheus, read by its own parser."""

from __future__ import annotations

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from asr.server.metrics import Metrics
from tests.server.conftest import Server, excerpts


def values(text: str) -> dict[tuple[str, frozenset], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: str, name: str, **labels: str) -> float:
    return values(text)[name, frozenset(labels.items())]


def test_counts_and_histograms():
    metrics = Metrics()
    for seconds in (0.05, 0.06, 7.0, 1e6):
        metrics.request("/v1/audio/transcriptions", 200, seconds)
    metrics.request("/v1/audio/transcriptions", 429, 0.001)
    metrics.batch(3, 0.2)
    metrics.sound("live", 1.5)
    metrics.gauges = {"asr_requests": ("Requests.", lambda: 7)}
    text = metrics.text()
    assert value(text, "asr_requests_total", path="/v1/audio/transcriptions", status="200") == 4
    assert value(text, "asr_requests_total", path="/v1/audio/transcriptions", status="429") == 1
    for border, count in {"0.05": 1, "0.1": 2, "5.0": 2, "10.0": 3, "+Inf": 4}.items():
        assert value(text, "asr_transcription_seconds_bucket", le=border) == count
    assert value(text, "asr_transcription_seconds_sum") == pytest.approx(1e6 + 7.11)
    assert value(text, "asr_batch_recordings_bucket", le="2.0") == 0
    assert value(text, "asr_batch_recordings_bucket", le="4.0") == 1
    assert value(text, "asr_sound_seconds_total", kind="live") == 1.5
    assert value(text, "asr_requests") == 7


def test_a_server_counts_its_answers(server: Server):
    def figures() -> str:
        answer = httpx.get(f"{server.url}/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        return answer.text

    before = figures()
    asked = {"files": {"file": ("a.wav", excerpts(1)[0])}, "timeout": 60}
    assert httpx.post(f"{server.url}/v1/audio/transcriptions", **asked).status_code == 200
    httpx.get(f"{server.url}/some/path")
    httpx.get(f"{server.url}/other/path")
    after = figures()

    def growth(name: str, **labels: str) -> float:
        key = name, frozenset(labels.items())
        return values(after)[key] - values(before).get(key, 0)

    assert growth("asr_requests_total", path="/v1/audio/transcriptions", status="200") == 1
    assert growth("asr_requests_total", path="other", status="404") == 2
    assert growth("asr_sound_seconds_total", kind="file") == pytest.approx(3.0)
    assert value(after, "asr_requests") == 0
