"""asr.audio.sound_parts: files with several sounds, or with one in several pieces, against the parts alone."""

from __future__ import annotations

import os
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.audio.sound_files import is_one_sound, sound_header
from asr.audio.waveform import duration_seconds, read_audio, stream_channels
from asr.errors import AsrWarning
from tests.audio.test_mp3_frames import ID3V2, encoded, needs_ffmpeg, without_xing

RATE = 16_000
MERCHANT = Path(__file__).parent / "merchant.flac"


@pytest.fixture
def sentence() -> np.ndarray:
    """(75264,) int16."""
    return soundfile.read(MERCHANT, dtype="int16")[0]


def written(path: Path, samples: np.ndarray, **options: str) -> bytes:
    soundfile.write(path, samples, RATE, **options)
    return path.read_bytes()


def joined(path: Path, *contents: bytes) -> Path:
    path.write_bytes(b"".join(contents))
    return path


# --- one after another


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        *(("WAV", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "FLOAT", "ULAW", "IMA_ADPCM")),
        *((container, "PCM_16") for container in ("WAVEX", "RF64", "FLAC", "AIFF", "AU", "W64", "CAF", "NIST")),
        *(("OGG", subtype) for subtype in ("VORBIS", "OPUS")),
    ],
)
def test_sounds_one_after_another_are_all_read(
    tmp_path: Path, sentence: np.ndarray, container: str, subtype: str
) -> None:
    first = written(tmp_path / "a", sentence, format=container, subtype=subtype)
    second = written(tmp_path / "b", sentence[:20_001], format=container, subtype=subtype)
    path = joined(tmp_path / "c", first, second, first)
    expected = [read_audio(tmp_path / name) for name in "aba"]
    np.testing.assert_array_equal(read_audio(path), np.concatenate(expected))
    assert duration_seconds(path) == pytest.approx(sum(map(len, expected)) / RATE)


@pytest.mark.filterwarnings("error")
def test_sounds_of_different_formats_one_after_another(tmp_path: Path, sentence: np.ndarray) -> None:
    names = ("WAV", "AIFF", "FLAC", "AU", "OGG", "NIST", "FLAC", "FLAC", "OGG", "RF64", "OGG", "CAF")
    for turn in range(len(names)):  # each is the first, and the last
        order = names[turn:] + names[:turn]
        path = joined(tmp_path / "a", *(written(tmp_path / name, sentence[:20_000], format=name) for name in order))
        assert len(read_audio(path)) == 20_000 * len(names)


def test_a_second_sound_that_cannot_be_read_is_told(tmp_path: Path, sentence: np.ndarray) -> None:
    first = written(tmp_path / "a.wav", sentence)
    path = joined(tmp_path / "b.wav", first, b"RIFF\0\0\0\0WAVE" + bytes(5_000))
    with pytest.warns(AsrWarning, match=rf"b\.wav: cannot be read after byte {len(first)} \(.+\)"):
        assert len(read_audio(path)) == len(sentence)


@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        *((container, "PCM_16") for container in ("WAV", "AIFF", "AU", "W64", "CAF", "NIST", "FLAC")),
        *(("OGG", subtype) for subtype in ("VORBIS", "OPUS")),
    ],
)
def test_bytes_behind_a_sound_are_counted(
    tmp_path: Path, rng: np.random.Generator, container: str, subtype: str
) -> None:
    content = written(tmp_path / "a", np.zeros(RATE), format=container, subtype=subtype)
    for count in (1, 2):
        path = joined(tmp_path / "b", content * count, b"\1" + rng.bytes(9_999))
        with pytest.warns(AsrWarning, match="b: 10000 bytes that belong to no sound, within the sound or after it"):
            assert len(read_audio(path)) == count * RATE
        assert not is_one_sound(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for mark in (bytes(100_000), ID3V2 * 20, b"made by a program"):
            assert len(read_audio(joined(path, content, mark))) == RATE


@needs_ffmpeg
def test_an_m4a_behind_another_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.m4a"
    subprocess.run(["ffmpeg", "-v", "error", "-i", MERCHANT, path], check=True)
    content = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = read_audio(path)
    with pytest.warns(AsrWarning, match=rf"b\.m4a: {len(content)} bytes that belong to no sound"):
        np.testing.assert_array_equal(read_audio(joined(tmp_path / "b.m4a", content, content)), expected)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["OGG", "MP3"])
def test_joined_streams_take_linear_time(tmp_path: Path, kind: str, bytes_read: list[int]) -> None:
    part = encoded(np.zeros(1_600), RATE) if kind == "MP3" else written(tmp_path / "a", np.zeros(1_600), format="OGG")
    for count in (100, 200):
        bytes_read.append(0)
        path = joined(tmp_path / "b", part * count)
        assert sum(len(block) for _, block in stream_channels(path)) == 1_600 * count
    assert bytes_read[2] < 2.2 * bytes_read[1]


# --- headers


@pytest.mark.parametrize("container", ["WAV", "FLAC", "OGG", "MP3"])
def test_a_header_tells_what_is_heard(tmp_path: Path, sentence: np.ndarray, container: str) -> None:
    path = joined(tmp_path / "a.raw", written(tmp_path / "a", sentence, format=container))
    header = sound_header(path)
    assert (header.format, header.sample_rate, header.num_channels) == (container, RATE, 1)
    assert header.num_samples == len(sentence) and header.seconds == len(sentence) / RATE
    assert is_one_sound(path) == (container != "MP3")
    assert not is_one_sound(joined(tmp_path / "b", path.read_bytes(), path.read_bytes()))


def test_the_header_of_an_mp3_without_one_is_its_frames(tmp_path: Path, rng: np.random.Generator) -> None:
    """libsndfile guesses from the bit rate of the first frame."""
    data = encoded(np.concatenate([np.zeros(RATE), rng.uniform(-0.5, 0.5, RATE)]), RATE, mode="VARIABLE")
    path = joined(tmp_path / "a.mp3", without_xing(data))
    assert sound_header(path).num_samples == len(read_audio(path)) != soundfile.info(path).frames


def test_headers_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(soundfile.LibsndfileError, match=r"missing\.wav': No such file or directory"):
        sound_header(tmp_path / "missing.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(soundfile.LibsndfileError, match=r"pipe\.wav': it must be a regular file, not a pipe"):
        sound_header(tmp_path / "pipe.wav")
    with pytest.raises(soundfile.LibsndfileError, match="Format not recognised"):
        sound_header(joined(tmp_path / "a.wav", b"This is no sound."))
