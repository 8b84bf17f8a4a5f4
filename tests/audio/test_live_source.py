"""WAV and raw samples through pipes, against soundfile and against the file as a whole."""

from __future__ import annotations

import io
import os
import struct
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.audio.live_source import is_live_wav, is_pipe, raw_blocks, wav_blocks
from asr.audio.waveform import read_audio
from asr.errors import DataError

RATE = 16_000


def piped(content: bytes, sizes: list[int], *, pause: float = 0.0) -> io.BufferedReader:
    """A pipe into which a thread writes the content in parts of these sizes, again and again, after pauses (s)."""
    reader, writer = os.pipe()

    def write() -> None:
        with suppress(BrokenPipeError), open(writer, "wb", buffering=0) as file:
            at = number = 0
            while at < len(content):
                time.sleep(pause)
                part = content[at : at + sizes[number % len(sizes)]]
                file.write(part)
                at, number = at + len(part), number + 1

    threading.Thread(target=write, daemon=True).start()
    return open(reader, "rb")


def heard(pipe: io.BufferedReader, **options) -> np.ndarray:
    blocks = list(wav_blocks(pipe, **options))
    assert {rate for rate, _ in blocks} == {RATE}
    return np.concatenate([block for _, block in blocks])


@pytest.fixture
def samples(rng) -> np.ndarray:
    return rng.uniform(-1, 1, (5000, 2)).astype(np.float32)


def wav(path: Path, samples: np.ndarray, subtype: str = "PCM_16", form: str = "WAV") -> bytes:
    soundfile.write(path, samples, RATE, subtype=subtype, format=form)
    return path.read_bytes()


def test_a_head_may_come_in_parts(samples, tmp_path):
    content = wav(tmp_path / "a.wav", samples[:100])
    pipe = piped(content, [12, 8, 16, 8, 1000], pause=0.005)
    assert is_live_wav(pipe)
    np.testing.assert_array_equal(heard(pipe), read_audio(tmp_path / "a.wav"))


@pytest.mark.parametrize("form", ["WAV", "WAVEX"])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_each_kind_of_samples_is_read_as_by_soundfile(samples, tmp_path, subtype, form):
    content = wav(tmp_path / "a.wav", samples, subtype, form)
    expected, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    pipe = piped(content, [80, 1, 7, 4096])
    assert is_live_wav(pipe)
    np.testing.assert_allclose(heard(pipe), expected.mean(axis=1), atol=1e-6)
    np.testing.assert_array_equal(heard(piped(content, [1000]), channel=1), expected[:, 1])


@pytest.mark.parametrize("stated", [0, 0x7FFF_FFFF, 0xFFFF_FFFF])
def test_a_wav_of_unstated_length_is_read_to_its_end(samples, tmp_path, stated):
    content = wav(tmp_path / "a.wav", samples)
    at = content.index(b"data")
    content = content[: at + 4] + struct.pack("<I", stated) + content[at + 8 :]
    np.testing.assert_array_equal(heard(piped(content, [999])), read_audio(tmp_path / "a.wav"))


def test_chunks_around_the_samples_and_a_second_wav(samples, tmp_path):
    content = wav(tmp_path / "a.wav", samples)
    listed = content[:12] + b"LIST\x05\x00\x00\x00INFO!\x00" + content[12:] + b"junk\x02\x00\x00\x00ab"
    pipe = piped(listed + content, [100, 3000])
    assert is_live_wav(pipe)
    once = read_audio(tmp_path / "a.wav")
    np.testing.assert_array_equal(heard(pipe), np.concatenate([once, once]))
    with pytest.raises(DataError, match=r"<stdin>: a chunk of a WAV file must come after its samples; b'\\x00"):
        heard(piped(content + bytes(20), [5000]), name="<stdin>")


def test_what_cannot_be_read_live_is_left_in_the_pipe(samples, tmp_path):
    for name, subtype, form in [("a.flac", "PCM_16", "FLAC"), ("b.wav", "ULAW", "WAV"), ("c.wav", "IMA_ADPCM", "WAV")]:
        content = wav(tmp_path / name, samples[:, 0], subtype, form)
        pipe = piped(content, [512])
        assert not is_live_wav(pipe)
        assert pipe.read() == content
    for content in (b"", b"RIFF", b"RIFF\x00\x00\x00\x00WAVEfmt \x02\x00\x00\x00ab"):
        assert not is_live_wav(piped(content, [100]))


def test_raw_samples_in_odd_parts_are_16_bits(rng):
    samples = rng.integers(-(2**15), 2**15, 3001).astype("<i2")
    blocks = list(raw_blocks(piped(samples.tobytes() + b"x", [1, 999]), RATE))
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), samples / np.float32(2**15))


def test_samples_and_channels_are_checked(samples, tmp_path):
    samples[40, 0] = np.nan
    content = wav(tmp_path / "a.wav", samples, "FLOAT")
    with pytest.raises(DataError, match=r"<stdin>: samples must be finite, full scale 1; the one at 0.003 s is nan"):
        heard(piped(content, [100]), name="<stdin>")
    with pytest.raises(DataError, match="channel must be below the number of channels, 2; got 2"):
        heard(piped(content, [100]), channel=2, name="<stdin>")


def test_a_pipe_without_samples_is_refused(samples, tmp_path):
    content = wav(tmp_path / "a.wav", samples[:0])
    with pytest.raises(DataError, match="<stdin>: must hold sound; it holds no samples"):
        heard(piped(content, [100]), name="<stdin>")
    with pytest.raises(DataError, match="must hold sound; it holds no samples"):
        list(raw_blocks(piped(b"x", [1]), RATE))


def test_only_pipes_may_still_be_written(tmp_path):
    (tmp_path / "a").write_bytes(b"a")
    with open(tmp_path / "a", "rb") as file:
        assert not is_pipe(file)
    assert not is_pipe(io.BytesIO(b""))
    with piped(b"a", [1]) as pipe:
        assert is_pipe(pipe)


def test_stated_sizes_of_chunks_are_not_taken_as_memory(samples, tmp_path):
    class Largest(io.BufferedReader):
        size = 0

        def read(self, size=-1):
            self.size = max(self.size, size)
            return super().read(size)

    content = wav(tmp_path / "a.wav", samples)
    for mark in (b"LIST", b"fmt "):
        body = content[20:36] if mark == b"fmt " else b""
        chunk = mark + struct.pack("<I", 0xFFFF_FFF0) + body
        pipe = Largest(io.BytesIO(content[:12] + chunk + bytes(10**6)))
        with pytest.raises(DataError, match="holds no samples"):
            list(wav_blocks(pipe))
        assert 0 < pipe.size <= 2**16
