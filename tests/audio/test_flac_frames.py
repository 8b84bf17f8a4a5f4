"""asr.audio.flac_frames: where a FLAC ends, against what was written, however it was written and whatever follows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.audio.excerpts import FileBytes
from asr.audio.flac_frames import flac_end, flac_frame


def written(path: Path, samples: np.ndarray, rate: int = 16_000, subtype: str = "PCM_16") -> bytes:
    soundfile.write(path, samples, rate, format="FLAC", subtype=subtype)
    return path.read_bytes()


def end_of(path: Path, content: bytes, limit: int | None = None) -> int | None:
    path.write_bytes(content)
    with path.open("rb") as file:
        return flac_end(FileBytes(file, len(content)), 0, len(content) if limit is None else limit)


@pytest.mark.parametrize("num_samples", [1, 15, 192, 4_095, 4_096, 4_097, 30_000, 100_000])
@pytest.mark.parametrize(("shape", "subtype"), [((), "PCM_16"), ((2,), "PCM_16"), ((1,), "PCM_S8"), ((3,), "PCM_24")])
def test_the_end_is_exact(tmp_path: Path, rng, num_samples: int, shape: tuple[int, ...], subtype: str) -> None:
    for samples in (rng.uniform(-0.9, 0.9, (num_samples, *shape)), np.zeros((num_samples, *shape))):
        content = written(tmp_path / "a", samples, 44_100, subtype)
        unknown = content[:15] + bytes(3) + content[18:]  # of the largest frame
        for flac in (content, unknown):
            for tail in (b"", b"\0", b"TAG" + bytes(125), bytes(30_000), rng.bytes(30_000), rng.bytes(200_000)):
                assert end_of(tmp_path / "b", flac + tail) == len(flac)


def test_a_checksum_that_is_right_by_chance_is_no_end(tmp_path: Path, rng) -> None:
    """In 100 ends of noise of 8 KB, twelve are expected to be right within the frame."""
    for _ in range(100):
        content = written(tmp_path / "a", rng.uniform(-1, 1, (2_000, 2)))
        assert end_of(tmp_path / "b", content + rng.bytes(3_000)) == len(content)


def test_what_does_not_tell_its_end(tmp_path: Path, rng) -> None:
    content = bytearray(written(tmp_path / "a", rng.uniform(-1, 1, 10_000)))
    assert end_of(tmp_path / "b", content) == len(content)
    assert end_of(tmp_path / "b", content, len(content) - 1) is None
    for place, value in ((26 - 5, content[21] ^ 1), (10, 0), (len(content) - 99, content[-99] ^ 1), (4, 3)):
        damaged = content.copy()
        damaged[place] = value
        if place == 10:
            damaged[11] = 0  # no largest block
        assert end_of(tmp_path / "b", damaged + rng.bytes(5_000)) is None
    open_ended = content[:21] + bytes([content[21] & 0xF0, 0, 0, 0, 0]) + content[26:]
    assert end_of(tmp_path / "b", open_ended) is None
    for length in (0, 4, 41, 42, 60):
        assert end_of(tmp_path / "b", content[:length]) is None


def test_a_variable_block_size(tmp_path: Path) -> None:
    """A frame of 16 zeros, of which sample 4096 is the first."""
    information = (16).to_bytes(2, "big") + (4_096).to_bytes(2, "big") + bytes(6)
    information += (16_000 << 44 | 15 << 36 | 4_112).to_bytes(8, "big") + bytes(16)
    frame = b"\xff\xf9\x65\x08\xe1\x80\x80\x0f"
    frame += bytes([checksum(frame, 0x07, 8)]) + bytes(3)
    frame += checksum(frame, 0x8005, 16).to_bytes(2, "big")
    assert flac_frame(frame) == (False, 4_096, 16)
    content = b"fLaC\x80\0\0\x22" + information + frame
    for tail in (b"", b"\1", bytes(5_000)):
        assert end_of(tmp_path / "a", content + tail) == len(content)


def checksum(content: bytes, polynomial: int, bits: int) -> int:
    """By long division."""
    rest = int.from_bytes(content, "big") << bits
    divisor = 1 << bits | polynomial
    while rest.bit_length() > bits:
        rest ^= divisor << rest.bit_length() - bits - 1
    return rest


@pytest.mark.parametrize(("code", "block_size"), [(1, 192), (2, 576), (5, 4_608), (8, 256), (15, 32_768)])
def test_block_sizes(code: int, block_size: int) -> None:
    header = bytes([0xFF, 0xF8, code << 4 | 12, 0x08, 5, 44])
    header += bytes([checksum(header, 0x07, 8)])
    assert flac_frame(header) == (True, 5, block_size)
    assert flac_frame(header[:-1]) is None and flac_frame(header[:-1] + b"\0") is None


def test_little_is_read_and_hostile_frames_take_linear_time(tmp_path: Path, rng, bytes_read: list[int]) -> None:
    content = written(tmp_path / "a", rng.uniform(-1, 1, 500_000))
    assert end_of(tmp_path / "b", content) == len(content)
    assert bytes_read.pop() < 2**16 + 2**15 < len(content)  # the first block, and the last frame
    bytes_read.append(0)
    hostile = content[:42] + b"\xff\xf8\x10\x00" * 500_000
    assert end_of(tmp_path / "b", hostile) is None
    assert bytes_read.pop() < len(hostile) + 2**16
