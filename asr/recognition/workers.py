"""Many recordings transcribed in several processes, of which one may be killed by a recording that is then named.

recordings ─▶ chunks of some minutes ─▶ workers, each with a recogniser ─▶ results, as they come
                                        one that dies leaves its chunk, whose recordings then come one by one
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias

from asr.audio.source import MAX_INPUT_BYTES
from asr.audio.waveform import Source
from asr.data.manifest import Utterance
from asr.errors import AsrError, DataError
from asr.processes import WorkerDied, Workers
from asr.recognition.recognizer import WINDOW_SECONDS, Recognizer
from asr.text.transcript import Transcript

Recorded: TypeAlias = Source | Utterance
Chunk: TypeAlias = list[tuple[int, Recorded]]  # with their numbers
Outcomes: TypeAlias = tuple[list[Transcript | AsrError], float]  # and the seconds of sound in them

BYTES_PER_SECOND = 32_000  # of 16 bits at 16 kHz; a compressed file has more seconds than it is taken to have
# What a worker is given at a time, at most.
CHUNK_BYTES = WINDOW_SECONDS * BYTES_PER_SECOND
CHUNK_RECORDINGS = 64


def transcribe_in_processes(
    make: Callable[[int], Recognizer],
    sources: Sequence[Recorded],
    *,
    processes: int,
    channel: int | None = None,
    track: int | None = None,
    max_input_bytes: int = MAX_INPUT_BYTES,
    progress: Callable[[float], None] | None = None,
) -> Iterator[tuple[int, Transcript | AsrError]]:
    """The number of each source in the sequence with its transcript, as they come, or what was wrong with it.

    A source whose process is killed over it twice, once with others and once alone, is an error like one that cannot
    be read.

    Args:
        make: called in each process with the process's number, from 0 on; importable by its name, or a `partial`.
        sources: as for `Recognizer.results`, but for what cannot be sent to another process, such as open files.
        processes: how many, at most; the script that calls needs its `if __name__ == "__main__"`.
        channel, track, max_input_bytes: as for `Recognizer.transcribe`.
        progress: called with the seconds of sound in the recordings that have come.
    Raises:
        AsrError, OSError: what `make` raised.
        WorkerDied: a process did not survive `make`.
    """
    waiting = deque(chunks(sources, processes=processes))
    alone: set[int] = set()
    heard = {"channel": channel, "track": track, "max_input_bytes": max_input_bytes}
    with Workers(partial(_ready, make, heard), processes=min(processes, len(waiting))) as workers:
        while waiting:  # a worker that dies leaves more of it
            for chunk, outcome in workers.results(_taken(waiting)):
                if not isinstance(outcome, WorkerDied):
                    results, seconds = outcome
                    yield from zip((number for number, _ in chunk), results, strict=True)
                    if progress:
                        progress(seconds)
                elif chunk[0][0] in alone:
                    ((number, source),) = chunk
                    yield number, DataError(f"the process that transcribed it {outcome.how}, twice", path=_name(source))
                else:
                    alone.update(number for number, _ in chunk)
                    waiting.extendleft([item] for item in reversed(chunk))


def chunks(sources: Sequence[Recorded], *, processes: int) -> list[Chunk]:
    """The sources with their numbers, in order, in parts that keep each process busy for a while, but not the last."""
    most = min(CHUNK_RECORDINGS, -(-len(sources) // (4 * processes)))
    parts: list[Chunk] = []
    held = 0.0
    for number, source in enumerate(sources):
        size = _size(source)
        if not parts or len(parts[-1]) >= most or held + size > CHUNK_BYTES:
            parts.append([])
            held = 0.0
        parts[-1].append((number, source))
        held += size
    return parts


def _taken(waiting: deque[Chunk]) -> Iterator[Chunk]:
    while waiting:
        yield waiting.popleft()


def _ready(make: Callable[[int], Recognizer], heard: dict[str, Any], number: int) -> Callable[[Chunk], Outcomes]:
    """The function of a chunk, in a process that has loaded a recogniser."""
    return partial(_transcribed, make(number), heard)


def _transcribed(recognizer: Recognizer, heard: dict[str, Any], chunk: Chunk) -> Outcomes:
    seconds: list[float] = []
    results = list(recognizer.results([source for _, source in chunk], **heard, progress=seconds.append))
    return results, sum(seconds)


def _size(source: Recorded) -> float:
    """Bytes of 16 bits at 16 kHz, or of a file; 0 where there is none, which will be said when it is read."""
    if isinstance(source, Utterance):
        return BYTES_PER_SECOND * source.duration_seconds
    if isinstance(source, tuple):
        return BYTES_PER_SECOND * len(source[0]) / source[1]  # type: ignore[arg-type]
    try:
        return os.path.getsize(source)  # type: ignore[arg-type]
    except OSError:
        return 0.0


def _name(source: Recorded) -> str:
    """What a person would call it."""
    if isinstance(source, Utterance):
        return source.id
    return os.fspath(source) if isinstance(source, str | os.PathLike) else "samples"
