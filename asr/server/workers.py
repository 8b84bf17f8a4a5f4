"""Threads that recognise: what waits is recognised together, in one batch of the model.

A recording of over a minute waits in a lane of its own, so that no sentence waits behind a lecture.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from asr.recognition.recognizer import Recognizer
from asr.server.metrics import Metrics
from asr.server.notes import collected
from asr.server.sound import Sound
from asr.text.segments import TextSegment
from asr.text.transcript import Transcript

LONG_SECONDS = 60.0  # of a recording for the slow lane
BATCH_SECONDS = 600.0  # most sound in a batch
_CACHED_VOCABULARIES = 8  # recognisers with hotwords; each has its own search


@dataclass(kw_only=True, eq=False)
class Job:
    """A recording to recognise.

    Args:
        hotwords: to expect, each a word or phrase, perhaps with a weight.
        on_segment: called in the worker's thread with each segment as soon as it is final.
        result: the transcript; cancel it, and a job that waits is dropped.
    """

    sound: Sound
    hotwords: tuple[str, ...] = ()
    on_segment: Callable[[TextSegment], None] | None = None
    result: Future[Transcript] = field(default_factory=Future)
    begun: bool = False  # a segment was given

    def segment(self, segment: TextSegment) -> None:
        self.begun = True
        if self.on_segment:
            self.on_segment(segment)


class Vocabularies:
    """The recogniser with each list of hotwords; the last ones are kept. Threads may share it."""

    def __init__(self, recognizer: Recognizer):
        self.recognizer = recognizer
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, ...], tuple[Recognizer, tuple[str, ...]]] = OrderedDict()

    def expecting(self, hotwords: tuple[str, ...]) -> tuple[Recognizer, tuple[str, ...]]:
        """The recogniser that expects these words beside its own, and notes about words that it cannot spell.

        Raises:
            AsrError: none of the words can be spelled, or a weight is wrong.
        """
        if not hotwords:
            return self.recognizer, ()
        with self._lock:
            if hotwords not in self._kept:
                own = self.recognizer.decoder.options.language.hotwords
                with collected() as notes:
                    other = self.recognizer.with_decoding({"hotwords": (*own, *hotwords)})
                self._kept[hotwords] = other, tuple(notes)
            self._kept.move_to_end(hotwords)
            if len(self._kept) > _CACHED_VOCABULARIES:
                self._kept.popitem(last=False)
            return self._kept[hotwords]


class Lane:
    """One thread that recognises jobs in batches, in the order of their arrival."""

    def __init__(self, name: str, vocabularies: Vocabularies, metrics: Metrics, *, batch_size: int):
        self._vocabularies, self._metrics, self._batch_size = vocabularies, metrics, batch_size
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._speed = 0.1  # seconds of work for a second of sound, a running mean
        self._owed = 0.0  # seconds of sound that wait or are in work
        self._thread = threading.Thread(target=self._run, name=f"asr-{name}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def seconds_owed(self) -> float:
        """The time that all jobs here will take, by the speed of the last ones."""
        return self._owed * self._speed

    def submit(self, job: Job) -> None:
        with self._changed:
            assert not self._closed
            self._waiting.append(job)
            self._owed += job.sound.seconds
            self._changed.notify()

    def close(self) -> None:
        """End the thread after its last job."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next_batch():
            begin = time.perf_counter()
            seconds = sum(job.sound.seconds for job in batch)
            running = [job for job in batch if job.result.set_running_or_notify_cancel()]
            if running:
                self._recognize(running)
                taken = time.perf_counter() - begin
                self._speed += 0.2 * (taken / max(sum(job.sound.seconds for job in running), 0.1) - self._speed)
                self._metrics.batch(len(running), taken)
            with self._changed:
                self._owed = max(0.0, self._owed - seconds)

    def _next_batch(self) -> list[Job]:
        """Jobs that wait for the same search, at least one; none after the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return []
            hotwords, seconds = self._waiting[0].hotwords, 0.0
            batch: list[Job] = []
            rest: list[Job] = []
            for job in self._waiting:
                fits = not batch or (len(batch) < self._batch_size and seconds + job.sound.seconds <= BATCH_SECONDS)
                if job.hotwords == hotwords and fits:
                    batch.append(job)
                    seconds += job.sound.seconds
                else:
                    rest.append(job)
            self._waiting = deque(rest)
            return batch

    def _recognize(self, jobs: Sequence[Job]) -> None:
        """Give each job its result or its error; if the batch fails as a whole, each is tried by itself."""
        left = deque(jobs)
        try:
            recognizer, _ = self._vocabularies.expecting(jobs[0].hotwords)
            sources = ((job.sound.samples, job.sound.sample_rate) for job in jobs)
            for result in recognizer.results(sources, on_segment=lambda number, part: jobs[number].segment(part)):
                _give(left.popleft(), result)
        except BaseException as error:  # a bug, or no memory: the thread must live, and every job needs an answer
            if len(jobs) == 1:
                _give(left.popleft(), error)
            while left:
                job = left.popleft()
                if job.begun:
                    _give(job, error)
                else:
                    self._recognize([job])


def _give(job: Job, result: Transcript | BaseException) -> None:
    if isinstance(result, BaseException):
        job.result.set_exception(result)
    else:
        job.result.set_result(result)


class Workers:
    """The lanes for short and long recordings."""

    def __init__(self, recognizer: Recognizer, metrics: Metrics, *, batch_size: int):
        self.vocabularies = Vocabularies(recognizer)
        self.lanes = {name: Lane(name, self.vocabularies, metrics, batch_size=batch_size) for name in ("short", "long")}

    def submit(self, job: Job) -> None:
        self._lane(job).submit(job)

    def seconds_owed(self) -> float:
        """The time after which a sentence that comes now would be recognised."""
        return self.lanes["short"].seconds_owed

    def close(self) -> None:
        """Finish all jobs, and end the threads."""
        for lane in self.lanes.values():
            lane.close()

    def _lane(self, job: Job) -> Lane:
        return self.lanes["long" if job.sound.seconds > LONG_SECONDS else "short"]
