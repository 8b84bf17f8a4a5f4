"""Transcribe or align many recordings in worker processes; a recording on which a worker is killed twice is an error.

recordings ─▶ chunks of some minutes ─▶ workers, each with a recogniser ─▶ results, when ready
                                        recordings of a worker that dies are tried again, one by one
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias

from asr.data.manifest import Utterance
from asr.errors import DataError
from asr.processes import WorkerDied, Workers
from asr.recognition.pieces import WINDOW_SECONDS, Channel, SourceOrUtterance
from asr.recognition.recordings import Spoken

Work: TypeAlias = SourceOrUtterance | Spoken
Chunk: TypeAlias = list[tuple[int, Work]]  # with their numbers
Outcomes: TypeAlias = tuple[list[Any], float]  # results or errors, and the seconds of sound in them


class Worker(Protocol):
    """What a process does with sources: `Recognizer` transcribes them, `Aligner` aligns their texts."""

    def results(self, sources: Any, *, progress: Callable[[float], None] | None = None, **sound: Any) -> Iterator[Any]:
        """A result or an AsrError for each source, in order."""


BYTES_PER_SECOND = 32_000  # of 16 bits at 16 kHz; a compressed file lasts longer than this estimate
# Limits of a chunk.
CHUNK_BYTES = WINDOW_SECONDS * BYTES_PER_SECOND
CHUNK_RECORDINGS = 64


def transcribe_in_processes(
    make: Callable[[int], Worker],
    sources: Sequence[Work],
    *,
    processes: int,
    progress: Callable[[float], None] | None = None,
    **sound: Any,
) -> Iterator[tuple[int, Any]]:
    """The number of each source with its result or error, as soon as it is ready.

    A source on which a process is killed twice, once with others and once alone, gives an error, like an unreadable
    source.

    Args:
        make: called in each process with the number of the process, from 0; importable by its name, or a `partial`.
        sources: as for the `results` of the worker, without open files, which cannot be sent to another process.
        processes: how many, at most; the calling script needs its `if __name__ == "__main__"`.
        progress: called with the seconds of sound of each finished chunk.
        sound: channel, track, max_input_bytes and style as for `Recognizer.transcribe`.
    Raises:
        AsrError, OSError: raised by `make`.
        WorkerDied: a process did not survive `make`.
    """
    waiting = deque(chunks(sources, processes=processes))
    alone: set[int] = set()
    with Workers(partial(_ready, make, sound), processes=min(processes, len(waiting))) as workers:
        while waiting:  # the chunk of a dead worker is queued again
            for chunk, outcome in workers.results(_pop_all(waiting)):
                if not isinstance(outcome, WorkerDied):
                    results, seconds = outcome
                    yield from zip((number for number, _ in chunk), results, strict=True)
                    if progress:
                        progress(seconds)
                elif chunk[0][0] in alone:
                    ((number, source),) = chunk
                    yield number, DataError(f"the process that read it {outcome.how}, twice", path=_name(source))
                else:
                    alone.update(number for number, _ in chunk)
                    waiting.extendleft([item] for item in reversed(chunk))


def chunks(sources: Sequence[Work], *, processes: int) -> list[Chunk]:
    """The sources with their numbers, in order, in chunks large enough to keep processes busy, and small at the end."""
    most = min(CHUNK_RECORDINGS, -(-len(sources) // (4 * processes)))
    parts: list[Chunk] = []
    chunk_size = 0.0
    for number, source in enumerate(sources):
        size = _size(source)
        if not parts or len(parts[-1]) >= most or chunk_size + size > CHUNK_BYTES:
            parts.append([])
            chunk_size = 0.0
        parts[-1].append((number, source))
        chunk_size += size
    return parts


def _pop_all(waiting: deque[Chunk]) -> Iterator[Chunk]:
    while waiting:
        yield waiting.popleft()


def _ready(make: Callable[[int], Worker], sound: dict[str, Any], number: int) -> Callable[[Chunk], Outcomes]:
    """The function of a chunk, in a process that has made its worker."""
    return partial(_work, make(number), sound)


def _work(worker: Worker, sound: dict[str, Any], chunk: Chunk) -> Outcomes:
    seconds: list[float] = []
    results = list(worker.results([source for _, source in chunk], **sound, progress=seconds.append))
    return results, sum(seconds)


def _size(source: Work) -> float:
    """Bytes of 16 bits at 16 kHz, or of a file; 0 for a missing file, whose error is reported later."""
    if isinstance(source, Spoken):
        return _size(source.sound)
    if isinstance(source, Utterance):
        return BYTES_PER_SECOND * source.duration_seconds
    if isinstance(source, tuple):
        return BYTES_PER_SECOND * len(source[0]) / source[1]  # type: ignore[arg-type]
    try:
        source = source.path if isinstance(source, Channel) else source
        return os.path.getsize(source)  # type: ignore[arg-type]
    except OSError:
        return 0.0


def _name(source: Work) -> str:
    """The source in an error message."""
    if isinstance(source, Spoken):
        return _name(source.sound)
    if isinstance(source, Utterance):
        return source.id
    if isinstance(source, Channel):
        return source.path
    return os.fspath(source) if isinstance(source, str | os.PathLike) else "samples"
