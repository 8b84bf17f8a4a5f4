"""The sound of an utterance is its stretch of its channel, at the rate that is asked for."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.audio import source as sound_source
from asr.data.manifest import Utterance
from asr.data.waveforms import read_waveform
from asr.errors import AsrWarning, DataError

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


@pytest.mark.parametrize(
    ("kind", "subtype"), [("wav", "PCM_16"), ("wav", "FLOAT"), ("flac", "PCM_24"), ("aiff", "PCM_16")]
)
@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100])
@pytest.mark.parametrize(("start", "duration"), [(2.5, 1.0), (7.123, 0.3), (9.0, 1.0), (9.99, 0.02)])
def test_a_stretch_far_into_a_recording_is_the_same(tmp_path, rng, kind, subtype, rate, start, duration) -> None:
    samples = rng.uniform(-0.5, 0.5, (10 * rate, 2))
    soundfile.write(tmp_path / f"long.{kind}", samples, rate, subtype=subtype)
    utterance = Utterance(
        id="u", audio=tmp_path / f"long.{kind}", start_seconds=start, duration_seconds=duration, text="", channel=1
    )
    whole = read_waveform(replace(utterance, start_seconds=0.0, duration_seconds=start + duration), 16_000)
    first = round(start * 16_000)
    found = read_waveform(utterance, 16_000)
    tolerance = 0.0 if rate == 16_000 else 1e-4
    np.testing.assert_allclose(found, whole[first : first + round(duration * 16_000)], rtol=0, atol=tolerance)


@pytest.mark.parametrize("start", [1.0, 2.5])
def test_only_what_is_needed_is_decoded(tmp_path, rng, monkeypatch, start) -> None:
    soundfile.write(tmp_path / "long.wav", rng.uniform(-0.5, 0.5, 40 * RATE), RATE)
    heard: list[int] = []
    read = soundfile.SoundFile.read

    def spied(self, *args, **options):
        block = read(self, *args, **options)
        heard.append(len(block))
        return block

    monkeypatch.setattr(soundfile.SoundFile, "read", spied)
    read_waveform(
        Utterance(id="u", audio=tmp_path / "long.wav", start_seconds=start, duration_seconds=1.0, text=""), RATE
    )
    assert sum(heard) == round(1.2 * RATE) if start > 2 else sum(heard) > 2 * RATE


@pytest.mark.parametrize("kind", ["wav", "aiff", "w64", "flac"])
def test_a_recording_that_is_cut_short_is_said_to_be(tmp_path, rng, kind) -> None:
    path = tmp_path / f"long.{kind}"
    soundfile.write(path, rng.uniform(-0.5, 0.5, 10 * RATE), RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 54 // 100])
    utterance = Utterance(id="u", audio=path, start_seconds=5.0, duration_seconds=1.0, text="")
    with pytest.warns(AsrWarning, match="truncated or damaged"):
        assert 0 < len(read_waveform(utterance, RATE)) < RATE


@pytest.mark.parametrize("copies", ["files", "chunks"])
def test_several_sounds_in_a_file_are_found_where_they_are(tmp_path, rng, copies) -> None:
    path = tmp_path / "long.wav"
    samples = rng.uniform(-0.5, 0.5, 6 * RATE)
    soundfile.write(path, samples, RATE, subtype="PCM_16")
    content = path.read_bytes()
    path.write_bytes(2 * content if copies == "files" else content + content[36:])
    whole = np.tile(read_waveform(Utterance(id="u", audio=path, duration_seconds=6.0, text=""), RATE), 2)
    for start in (3.0, 5.5, 9.0):
        utterance = Utterance(id="u", audio=path, start_seconds=start, duration_seconds=1.0, text="")
        first = round(start * RATE)
        np.testing.assert_array_equal(read_waveform(utterance, RATE), whole[first : first + RATE])


def test_a_pipe_is_not_waited_for_without_an_end(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sound_source, "PATIENCE", 0.1)
    os.mkfifo(tmp_path / "pipe")
    utterance = Utterance(id="u", audio=tmp_path / "pipe", start_seconds=5.0, duration_seconds=1.0, text="")
    with pytest.raises(DataError, match=r"pipe: must be written to while it is read"):
        read_waveform(utterance, RATE)


@pytest.mark.parametrize("damage", ["no sound", "no such channel", "not finite", "compressed"])
def test_what_cannot_be_sought_is_read_from_its_start(tmp_path, rng, damage) -> None:
    kind = "ogg" if damage == "compressed" else "flac"
    path = tmp_path / f"long.{kind}"
    soundfile.write(path, rng.uniform(-0.5, 0.5, 10 * RATE), RATE)
    utterance = Utterance(id="u", audio=path, start_seconds=5.0, duration_seconds=1.0, text="")
    if damage == "no sound":
        path.write_bytes(b"fLaC" + bytes(1000))
        with pytest.raises(DataError, match=r"long\.flac: "):
            read_waveform(utterance, RATE)
    elif damage == "not finite":
        samples = np.zeros(10 * RATE)
        samples[int(5.5 * RATE)] = np.nan
        soundfile.write(path.with_suffix(".wav"), samples, RATE, subtype="FLOAT")
        with pytest.raises(
            DataError, match=r"long\.wav: samples must be finite, full scale 1; the one at 5\.500 s is nan"
        ):
            read_waveform(replace(utterance, audio=path.with_suffix(".wav")), RATE)
    elif damage == "no such channel":
        with pytest.raises(DataError, match="channel must be below the number of channels, 1; got 1"):
            read_waveform(replace(utterance, channel=1), RATE)
    else:
        whole = read_waveform(replace(utterance, start_seconds=0.0, duration_seconds=6.0), RATE)
        assert np.array_equal(read_waveform(utterance, RATE), whole[5 * RATE :])
