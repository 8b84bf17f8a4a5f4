"""The sound of an utterance is its stretch of its channel, at the rate that is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.data.manifest import Utterance
from asr.data.waveforms import read_waveform
from asr.errors import DataError

RATE = 8000


@pytest.fixture
def recording(tmp_path: Path, rng: np.random.Generator) -> tuple[Path, np.ndarray]:
    """A file of two seconds and two channels, and its samples (N, 2)."""
    samples = rng.uniform(-0.5, 0.5, (2 * RATE, 2)).astype(np.float32)
    soundfile.write(tmp_path / "two.wav", samples, RATE, subtype="FLOAT")
    return tmp_path / "two.wav", samples


@pytest.mark.parametrize("channel", [0, 1])
@pytest.mark.parametrize(
    ("start", "duration"), [(0.0, 2.0), (0.5, 0.25), (1.9999, 0.0001), (0.0001, 0.5), (0.25, 1.75)]
)
def test_a_stretch_of_a_channel(
    recording: tuple[Path, np.ndarray], channel: int, start: float, duration: float
) -> None:
    path, samples = recording
    utterance = Utterance(id="u", audio=path, start_seconds=start, duration_seconds=duration, channel=channel, text="A")
    waveform = read_waveform(utterance, RATE)
    first = round(start * RATE)
    assert waveform.dtype == np.float32
    np.testing.assert_array_equal(waveform, samples[first : first + round(duration * RATE), channel])


def test_another_rate_keeps_the_times(recording: tuple[Path, np.ndarray]) -> None:
    path, _ = recording
    utterance = Utterance(id="u", audio=path, start_seconds=0.5, duration_seconds=0.75, text="A")
    whole = read_waveform(Utterance(id="all", audio=path, duration_seconds=2.0, text="A"), 16000)
    waveform = read_waveform(utterance, 16000)
    assert len(whole) == 32000
    np.testing.assert_array_equal(waveform, whole[8000:20000])


def test_a_recording_that_ends_too_early_gives_what_there_is(recording: tuple[Path, np.ndarray]) -> None:
    path, samples = recording
    utterance = Utterance(id="u", audio=path, start_seconds=1.5, duration_seconds=1.0, text="A")
    np.testing.assert_array_equal(read_waveform(utterance, RATE), samples[12000:, 0])


def test_a_recording_that_ends_before_the_utterance_is_refused(recording: tuple[Path, np.ndarray]) -> None:
    path, _ = recording
    utterance = Utterance(id="late", audio=path, start_seconds=2.0, duration_seconds=1.0, text="A")
    with pytest.raises(DataError, match=r"two.wav: the recording must reach the start of 'late', 2 s, but ends at 2 s"):
        read_waveform(utterance, RATE)


def test_a_recording_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone.wav: "):
        read_waveform(Utterance(id="u", audio=tmp_path / "gone.wav", duration_seconds=1.0, text="A"), RATE)
