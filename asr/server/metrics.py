"""Figures of the server in the text format of Prometheus.

Source: Prometheus, "Exposition formats", version 0.0.4.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


class _Histogram:
    """Counts of values up to each border."""

    def __init__(self, borders: Sequence[float]):
        self.borders, self.counts, self.sum = borders, [0] * (len(borders) + 1), 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.borders, value)] += 1
        self.sum += value

    def lines(self, name: str) -> Iterator[str]:
        total = 0
        for border, count in zip((*self.borders, "+Inf"), self.counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{border}"}} {total}'
        yield f"{name}_sum {self.sum:.6f}"
        yield f"{name}_count {total}"


class Metrics:
    """Counters of the server; threads may share them.

    Args:
        gauges: values at the moment of the question, by name: what each means, and the function that gives it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: dict[tuple[str, int], int] = {}
        self._sound_seconds = {"file": 0.0, "live": 0.0}
        self._request_seconds = _Histogram(_SECONDS)
        self._batch_seconds = _Histogram(_SECONDS)
        self._batch_sizes = _Histogram(_SIZES)
        self.gauges: dict[str, tuple[str, Callable[[], float]]] = {}

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count an answer; `path` is one of the server's own, so that clients cannot fill the memory.

        The status is 499 for a client that left before its answer, 0 where the answer failed.
        """
        with self._lock:
            self._requests[path, status] = self._requests.get((path, status), 0) + 1
            if path.startswith("/v1/audio") and status == 200:
                self._request_seconds.add(seconds)

    def sound(self, kind: str, seconds: float) -> None:
        """Count sound that was recognised, of a "file" or "live"."""
        with self._lock:
            self._sound_seconds[kind] += seconds

    def batch(self, size: int, seconds: float) -> None:
        """Count a batch of recordings."""
        with self._lock:
            self._batch_sizes.add(size)
            self._batch_seconds.add(seconds)

    def text(self) -> str:
        """All figures, a line each."""
        with self._lock:
            return "\n".join([*self._lines(), ""])

    def _lines(self) -> Iterator[str]:
        yield from _head("asr_requests_total", "counter", "Answers by path and status; 499: the client left before.")
        for (path, status), count in sorted(self._requests.items()):
            yield f'asr_requests_total{{path="{path}",status="{status}"}} {count}'
        yield from _head("asr_sound_seconds_total", "counter", "Seconds of sound that were recognised.")
        for kind, seconds in self._sound_seconds.items():
            yield f'asr_sound_seconds_total{{kind="{kind}"}} {seconds:.3f}'
        for name, (about, value) in self.gauges.items():
            yield from _head(name, "gauge", about)
            yield f"{name} {value():g}"
        for name, about, histogram in (
            ("asr_transcription_seconds", "Seconds from a request to its whole answer.", self._request_seconds),
            ("asr_batch_seconds", "Seconds of recognition of a batch.", self._batch_seconds),
            ("asr_batch_recordings", "Recordings in a batch.", self._batch_sizes),
        ):
            yield from _head(name, "histogram", about)
            yield from histogram.lines(name)


def _head(name: str, kind: str, about: str) -> Iterator[str]:
    yield f"# HELP {name} {about}"
    yield f"# TYPE {name} {kind}"
