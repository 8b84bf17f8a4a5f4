"""asr.sound_parts: files with several sounds, or with one that is stored in several pieces, against the parts alone."""

from __future__ import annotations

import os
import struct
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.audio import duration_seconds, read_audio, stream_channels
from asr.errors import AsrWarning
from asr.excerpts import FileBytes
from asr.wav_chunks import wav_chunks
from tests.test_mp3_frames import encoded, needs_ffmpeg

RATE = 16_000
MERCHANT = Path(__file__).parent / "audio" / "merchant.flac"


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


def wav(*chunks: tuple[bytes, bytes], form: bytes = b"RIFF") -> bytes:
    """A WAV file with these chunks."""
    order = ">" if form == b"RIFX" else "<"
    content = b"".join(
        struct.pack(order + "4sI", name, len(data)) + data + bytes(len(data) % 2) for name, data in chunks
    )
    return form + struct.pack(order + "I", len(content) + 4) + b"WAVE" + content


FORMAT = (b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16))


# --- one after another


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        *(("WAV", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "FLOAT", "ULAW", "IMA_ADPCM")),
        *((container, "PCM_16") for container in ("WAVEX", "RF64", "FLAC", "AIFF", "AU", "W64")),
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
    names = ("WAV", "AIFF", "AU", "RF64", "FLAC")
    path = joined(tmp_path / "a", *(written(tmp_path / name, sentence[:20_000], format=name) for name in names))
    assert len(read_audio(path)) == 20_000 * len(names)


def test_a_second_sound_that_cannot_be_read_is_told(tmp_path: Path, sentence: np.ndarray) -> None:
    first = written(tmp_path / "a.wav", sentence)
    path = joined(tmp_path / "b.wav", first, wav((b"fmt ", bytes(16)), (b"data", bytes(5_000))))
    with pytest.warns(AsrWarning, match=rf"b\.wav: nothing after byte {len(first)} can be read \(.+\)"):
        assert len(read_audio(path)) == len(sentence)


@pytest.mark.parametrize("container", ["WAV", "AIFF", "AU", "W64"])
def test_bytes_behind_a_sound_are_counted(tmp_path: Path, rng: np.random.Generator, container: str) -> None:
    content = written(tmp_path / "a", np.zeros(RATE), format=container, subtype="PCM_16")
    path = joined(tmp_path / "b", content, b"\1" + rng.bytes(9_999))
    with pytest.warns(AsrWarning, match="b: 10000 bytes that belong to no sound, among the rest or behind it, are not"):
        assert len(read_audio(path)) == RATE
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for mark in (bytes(100_000), b"made by a program that leaves its mark") if container != "W64" else ():
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
def test_joined_streams_take_linear_time(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    part = encoded(np.zeros(1_600), RATE) if kind == "MP3" else written(tmp_path / "a", np.zeros(1_600), format="OGG")
    read = [0]
    pread = os.pread

    def counted(*arguments: int) -> bytes:
        data = pread(*arguments)
        read[-1] += len(data)
        return data

    monkeypatch.setattr(os, "pread", counted)
    for count in (100, 200):
        read.append(0)
        path = joined(tmp_path / "b", part * count)
        assert sum(len(block) for _, block in stream_channels(path)) == 1_600 * count
    assert read[2] < 2.2 * read[1]


# --- chunks of WAV


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", [b"RIFF", b"RIFX"])
def test_several_data_chunks_are_one_sound(tmp_path: Path, sentence: np.ndarray, form: bytes) -> None:
    order = ">" if form == b"RIFX" else "<"
    samples = sentence.astype(order + "i2")
    name, fields = FORMAT[0], struct.pack(order + "HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
    pieces = [(b"data", samples[:30_000].tobytes()), (b"LIST", b"INFO1"), (b"data", samples[30_000:].tobytes())]
    path = joined(tmp_path / "a.wav", wav((name, fields), *pieces, form=form))
    np.testing.assert_array_equal(read_audio(path), sentence.astype(np.float32) / 2**15)
    assert duration_seconds(path) == len(sentence) / RATE


def test_a_second_data_chunk_that_breaks_off_is_truncated(tmp_path: Path, sentence: np.ndarray) -> None:
    pieces = [(b"data", sentence[:RATE].tobytes()), (b"data", sentence[: 2 * RATE].tobytes())]
    path = joined(tmp_path / "a.wav", wav(FORMAT, *pieces)[: -2 * RATE])
    with pytest.warns(AsrWarning, match=r"a\.wav: truncated or damaged: 1\.000 s of 3\.000 s are missing"):
        assert len(read_audio(path)) == 2 * RATE


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("behind", [b"", b"LIST\4\0\0\0INFO"])
def test_a_size_that_wrapped_at_4_gib(tmp_path: Path, sentence: np.ndarray, behind: bytes) -> None:
    size = 3 * 2**32 + 40 * RATE
    path = joined(tmp_path / "a.wav", wav(FORMAT), struct.pack("<4sI", b"data", size % 2**32), sentence.tobytes())
    with path.open("r+b") as file:  # sparse: zeros behind the sentence
        file.seek(len(wav(FORMAT)) + 8 + size)
        file.write(behind)
        file.truncate()
    assert duration_seconds(path) == size / 2 / RATE
    blocks = stream_channels(path)
    _, first = next(blocks)
    blocks.close()
    np.testing.assert_array_equal(first[: len(sentence), 0], sentence.astype(np.float32) / 2**15)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", [0, 1, 12_345, 2**40])
def test_a_wrong_sample_count_in_rf64_is_no_truncation(tmp_path: Path, sentence: np.ndarray, count: int) -> None:
    data = bytearray(written(tmp_path / "a.wav", sentence, format="RF64", subtype="PCM_16"))
    place = data.index(b"ds64") + 24
    assert data[place : place + 8] == len(sentence).to_bytes(8, "little")
    data[place : place + 8] = count.to_bytes(8, "little")
    path = joined(tmp_path / "b.wav", bytes(data))
    np.testing.assert_array_equal(read_audio(path), sentence.astype(np.float32) / 2**15)
    assert duration_seconds(path) == len(sentence) / RATE


def test_chunks_that_are_none_end_the_search(tmp_path: Path) -> None:
    for content in (
        b"RIFF",
        b"RIFF\0\0\0\0WAVE",
        wav((b"d\xff\0a", b"1")),
        wav((b"data", b"")),
        wav(*[(b"junk", b"")] * 9),
    ):
        path = joined(tmp_path / "a.wav", content)
        with path.open("rb") as file:
            chunks = wav_chunks(FileBytes(file, len(content)), 0)
        assert chunks is None or (chunks.data == [] and chunks.end <= len(content))
