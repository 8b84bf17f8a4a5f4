"""The threads that recognise: nothing lost or crossed, whatever waits together, fails or is cancelled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError

import numpy as np
import pytest
import soundfile

from asr.errors import InputError
from asr.recognition.recognizer import Recognizer
from asr.server.metrics import Metrics
from asr.server.notes import collecting
from asr.server.sound import Sound
from asr.server.workers import LONG_SECONDS, Job, Lane, Vocabularies, Workers
from asr.text.segments import TextSegment
from tests.server.conftest import MERCHANT


def sounds(count: int, seconds: float = 2.0) -> list[Sound]:
    samples, rate = soundfile.read(MERCHANT, dtype="float32")
    starts = np.linspace(0, len(samples) - int(seconds * rate), count).astype(int)
    return [Sound(samples=samples[start : start + int(seconds * rate)], sample_rate=rate) for start in starts]


@pytest.fixture
def start(recognizer: Recognizer) -> Iterator[Callable[..., Lane]]:
    """Starts lanes, which are closed after the test."""
    lanes = []

    def lane(other: Recognizer | None = None, *, batch_size: int = 4) -> Lane:
        lanes.append(Lane("test", Vocabularies(other or recognizer), Metrics(), batch_size=batch_size))
        return lanes[-1]

    yield lane
    for lane_ in lanes:
        lane_.close()


class Gate:
    """A recogniser that waits before its first batch, and notes the sizes of all."""

    def __init__(self, recognizer: Recognizer):
        self.recognizer, self.open, self.sizes = recognizer, threading.Event(), []
        self.decoder = recognizer.decoder
        self.failing: set[int] = set()  # lengths of sounds

    def results(self, sources, **options):
        sources = list(sources)
        self.open.wait(30)
        self.sizes.append(len(sources))
        if any(len(samples) in self.failing for samples, _ in sources):
            raise MemoryError
        yield from self.recognizer.results(sources, **options)


def test_each_job_gets_its_own_result(recognizer, start):
    gate = Gate(recognizer)
    lane, parts = start(gate), sounds(10)
    jobs = [Job(sound=sound) for sound in parts]
    for job in jobs:
        lane.submit(job)
    assert lane.waiting >= 9 and lane.seconds_owed > 0
    gate.open.set()
    texts = [recognizer.transcribe(sound.samples, sound.sample_rate).text for sound in parts]
    assert [job.result.result(60).text for job in jobs] == texts
    assert sum(gate.sizes) == 10 and max(gate.sizes) == 4
    assert len(set(texts)) > 5


def test_jobs_with_other_hotwords_are_not_mixed(recognizer, start):
    lane, (sound,) = start(), sounds(1, seconds=4.0)
    lists = [(), ("TENTERY:30",), (), ("TENTERY:30",), ("MERY:30",)]
    jobs = [Job(sound=sound, hotwords=hotwords) for hotwords in lists]
    for job in jobs:
        lane.submit(job)
    results = [job.result.result(60).text for job in jobs]
    for hotwords, text in zip(lists, results, strict=True):
        other = recognizer.with_decoding({"hotwords": hotwords}) if hotwords else recognizer
        assert text == other.transcribe(sound.samples, sound.sample_rate).text
    assert len(set(results)) == 3


def test_a_batch_that_fails_is_tried_one_by_one(recognizer, start):
    gate = Gate(recognizer)
    lane, parts = start(gate), sounds(4)
    bad = Sound(samples=parts[0].samples[:12_345], sample_rate=16_000)
    gate.failing = {12_345}
    jobs = [Job(sound=sound) for sound in (parts[0], bad, *parts[1:])]
    for job in jobs:
        lane.submit(job)
    gate.open.set()
    with pytest.raises(MemoryError):
        jobs[1].result.result(60)
    good = [job for job in jobs if job.sound is not bad]
    assert [job.result.result(60).text for job in good] == [
        recognizer.transcribe(sound.samples, sound.sample_rate).text for sound in parts
    ]
    later = Job(sound=parts[2])  # the thread lives
    lane.submit(later)
    assert later.result.result(60).text == good[2].result.result().text


def test_a_cancelled_job_is_dropped(recognizer, start):
    gate = Gate(recognizer)
    lane, (sound,) = start(gate), sounds(1)
    jobs = [Job(sound=sound) for _ in range(3)]
    lane.submit(jobs[0])
    while lane.waiting:
        pass
    lane.submit(jobs[1])
    lane.submit(jobs[2])
    assert jobs[1].result.cancel()
    gate.open.set()
    assert jobs[2].result.result(60)
    with pytest.raises(CancelledError):
        jobs[1].result.result()
    assert sum(gate.sizes) == 2


def test_an_error_of_one_source_is_its_own(recognizer, start):
    lane, (sound,) = start(), sounds(1)
    bad = Sound(samples=np.full(16_000, np.nan, np.float32), sample_rate=16_000)
    jobs = [Job(sound=one) for one in (bad, sound)]
    for job in jobs:
        lane.submit(job)
    with pytest.raises(InputError, match="samples must be finite"):
        jobs[0].result.result(60)
    assert jobs[1].result.result(60).text


def test_segments_come_to_their_job(recognizer, start):
    lane, parts = start(), sounds(3, seconds=4.0)
    heard: list[list[TextSegment]] = [[], [], []]
    jobs = [Job(sound=sound, on_segment=heard[number].append) for number, sound in enumerate(parts)]
    for job in jobs:
        lane.submit(job)
    for job, segments in zip(jobs, heard, strict=True):
        text = job.result.result(60).text
        assert " ".join(segment.text for segment in segments) == text != ""


def test_closing_finishes_what_waits(recognizer):
    workers = Workers(recognizer, Metrics(), batch_size=2)
    jobs = [Job(sound=sound) for sound in sounds(6)]
    long = Job(sound=Sound(samples=np.zeros(int(16_000 * (LONG_SECONDS + 1)), np.float32), sample_rate=16_000))
    for job in (long, *jobs):
        workers.submit(job)
    workers.close()
    assert all(job.result.done() and job.result.result().text for job in jobs)
    assert long.result.result().text == ""


def test_hotwords_that_cannot_be_spelled(recognizer):
    vocabularies = Vocabularies(recognizer)
    with collecting():
        _, notes = vocabularies.expecting(("MERY", "日本"))
        again = vocabularies.expecting(("MERY", "日本"))[1]
    assert notes == again and "left out" in notes[0]
    with pytest.raises(InputError, match="must be spelled"):
        vocabularies.expecting(("日本",))
    assert vocabularies.expecting(()) == (recognizer, ())
    for number in range(20):
        vocabularies.expecting((f"MERY:{number + 1}",))
    assert len(vocabularies._kept) == 8
