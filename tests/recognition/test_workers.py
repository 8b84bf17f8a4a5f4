"""Recordings in several processes, with a stand-in for the recogniser that some of them kill."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from asr.data.manifest import Utterance
from asr.errors import AsrError, DataError, InputError
from asr.recognition.workers import CHUNK_BYTES, CHUNK_RECORDINGS, chunks, transcribe_in_processes


class Reader:
    """Gives back what it is asked to hear, with its number."""

    def __init__(self, number: int, deaths: Path):
        self.number = number
        self.deaths = deaths

    def results(self, sources, *, channel, track, max_input_bytes, progress):
        for source in sources:
            if "killer" in source or ("once" in source and not (self.deaths / source).exists()):
                (self.deaths / source).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            progress(0.5)
            yield (
                DataError("is no sound", path=source)
                if "bad" in source
                else (source, (channel, track, max_input_bytes), self.number)
            )


def make(deaths: Path, number: int) -> Reader:
    return Reader(number, deaths)


def refuse(number: int) -> Reader:
    raise InputError("no such model")


def test_a_recording_that_kills_is_named_and_skipped_and_all_others_are_heard(tmp_path):
    sources = [f"s{number}" for number in range(40)]
    sources[7], sources[20], sources[39], sources[30] = "killer-7", "bad", "killer-39", "once"
    seconds = []
    make_reader = partial(make, tmp_path)
    heard = {"channel": 3, "track": 1, "max_input_bytes": 5}
    results = transcribe_in_processes(make_reader, sources, processes=2, **heard, progress=seconds.append)
    found = dict(results)
    assert sorted(found) == list(range(40))
    for number, source in enumerate(sources):
        if source in ("bad", "killer-7", "killer-39"):
            assert isinstance(found[number], AsrError)
        else:
            assert found[number][:2] == (source, (3, 1, 5))
    assert str(found[20]) == "bad: is no sound"
    how = "was killed by SIGKILL (by the system, if memory ran out), twice"
    assert str(found[7]) == f"killer-7: the process that read it {how}"
    assert {found[number][2] for number in (0, 1, 2, 12, 25)} <= {0, 1}
    assert sum(seconds) == 0.5 * 38


def test_what_keeps_processes_from_beginning_is_raised():
    with pytest.raises(InputError, match="no such model"):
        list(transcribe_in_processes(refuse, ["a", "b"], processes=2))


def test_no_recordings_need_no_processes():
    assert list(transcribe_in_processes(refuse, [], processes=2)) == []


@pytest.mark.parametrize(("count", "processes", "largest"), [(1, 8, 1), (40, 2, 5), (10_000, 4, CHUNK_RECORDINGS)])
def test_chunks_are_small_enough_for_all_processes_to_end_together(count, processes, largest):
    parts = chunks(["no such file"] * count, processes=processes)
    assert [number for part in parts for number, _ in part] == list(range(count))
    assert max(map(len, parts)) == largest


def test_long_recordings_come_alone(tmp_path):
    for name, size in (("long", 2 * CHUNK_BYTES), ("half", 0.6 * CHUNK_BYTES), ("short", 1000)):
        with open(tmp_path / name, "wb") as file:
            file.truncate(int(size))
    minutes = Utterance(id="u", audio=Path("a"), duration_seconds=540.0, text="")
    waveform = (np.zeros(16_000 * 500, dtype=np.float32), 16_000)
    names = ["short", "long", "short", "half", "half", "short"]
    sources = [*(str(tmp_path / name) for name in names), minutes, waveform, *["no such file"] * 100]
    parts = [[number for number, _ in part] for part in chunks(sources, processes=2)]
    assert parts[:6] == [[0], [1], [2, 3], [4, 5], [6], [7, *range(8, 21)]]
