"""asr.audio.wav_chunks over files laid by hand."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from asr.audio.excerpts import FileBytes
from asr.audio.wav_chunks import wav_chunks
from asr.audio.waveform import duration_seconds, read_audio, stream_channels
from asr.errors import AsrWarning
from tests.audio.test_sound_parts import RATE, joined, sentence, written

__all__ = ["sentence"]


def wav(*chunks: tuple[bytes, bytes], form: bytes = b"RIFF") -> bytes:
    """A WAV file with these chunks."""
    order = ">" if form == b"RIFX" else "<"
    content = b"".join(
        struct.pack(order + "4sI", name, len(data)) + data + bytes(len(data) % 2) for name, data in chunks
    )
    return form + struct.pack(order + "I", len(content) + 4) + b"WAVE" + content


FORMAT = (b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16))


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
def test_four_gib_of_another_file_are_no_size_that_wrapped(tmp_path: Path, sentence: np.ndarray) -> None:
    first = wav(FORMAT, (b"data", sentence.tobytes()), (b"LIST", b"INFO"))
    second = wav(FORMAT) + struct.pack("<4sI", b"data", 2**31 - 2**16)
    path = joined(tmp_path / "a.wav", first, second)
    with path.open("r+b") as file:
        file.truncate(len(first) + len(second) + 5 * 2**30)
    with path.open("rb") as file:
        chunks = wav_chunks(FileBytes(file, path.stat().st_size), 0)
    assert chunks is not None and not chunks.wrapped and chunks.end == len(first)
    assert chunks.data == [(44, 44 + 2 * len(sentence))]


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
