"""The bar of the sound: what it says while time passes."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
import soundfile

from asr.cli.progress import SoundBar, clock
from asr.recognition.recordings import Recording


@pytest.mark.parametrize(
    ("seconds", "shown", "short"),
    [
        (0.0, "00:00.000", "00:00"),
        (4.2, "00:04.200", "00:04"),
        (59.9996, "01:00.000", "01:00"),
        (3599.4, "59:59.400", "59:59"),
        (3661.25, "01:01:01.250", "01:01:01"),
    ],
)
def test_times_are_those_of_whisper(seconds, shown, short):
    assert clock(seconds) == shown
    assert clock(seconds, places=0) == short


@pytest.fixture
def recordings(tmp_path):
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(60 * 8000), 8000)
    return [Recording(str(tmp_path / f"{name}.wav"), name) for name in "ab"]


def shown_bar(recordings, monkeypatch) -> SoundBar:
    now = [100.0]
    monkeypatch.setattr("asr.cli.progress.time.monotonic", lambda: now[0])
    bar = SoundBar(argparse.Namespace(quiet=False, progress=True), recordings)
    bar.now = now
    return bar


def test_it_counts_sound_of_all_sound_with_speed_and_time_left(recordings, monkeypatch):
    with shown_bar(recordings, monkeypatch) as bar:
        assert bar.bar.desc == "00:00 of 02:00 of sound"
        bar.now[0] += 10
        bar.advance(30.0)
        assert bar.bar.desc == "00:30 of 02:00 of sound, 3.0x real time, 00:30 left"
        assert (bar.bar.n, bar.bar.total) == (30.0, 120.0)
        bar.advance(90.5)  # a header may state a little less
        assert bar.bar.desc.startswith("02:00 of 02:00 of sound, ") and bar.bar.n == 120.0
        assert bar.summary == ", 02:00 of 02:00 of sound"


def test_skipped_recordings_do_not_count(recordings, monkeypatch):
    with shown_bar(recordings, monkeypatch) as bar:
        bar.skip(recordings[0].path)
        bar.advance(0.0)
        assert bar.bar.desc == "00:00 of 01:00 of sound"


def test_without_all_durations_there_is_no_sum(recordings, monkeypatch):
    with shown_bar([*recordings, Recording("-", "stdin")], monkeypatch) as bar:
        bar.now[0] += 10
        bar.advance(30.0)
        assert bar.bar.desc == "00:30 of sound, 3.0x real time"


def test_off_a_terminal_no_header_is_read(recordings, monkeypatch):
    monkeypatch.setattr("asr.cli.progress._durations", lambda _: pytest.fail("headers were read"))
    with SoundBar(argparse.Namespace(quiet=True, progress=None), recordings) as bar:
        bar.advance(3.0)
        assert bar.summary == ", 00:03 of sound"
