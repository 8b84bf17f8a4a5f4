"""Sound from a pipe while it is written: WAV, or samples without a header.

A WAV from a program that cannot know its length states none, or a wrong one; several WAVs may follow each other. Other
formats, and WAVs with other samples than below, are not read live: `stream_audio` copies them first.
"""

from __future__ import annotations

import io
import os
import select
import stat
import struct
import time
from collections.abc import Iterator
from typing import IO

import numpy as np

from asr.audio.libsndfile import RatedBlocks, Waveform
from asr.audio.wav_chunks import is_chunk
from asr.audio.waveform import mono_blocks
from asr.errors import DataError

_BYTES = 1 << 16  # that a block has at most: what a pipe holds
_HEAD_SECONDS = 0.05  # from the first byte of a WAV to its samples
_FORMAT_BYTES = 40  # of a `fmt ` chunk that matter
_EXTENSIBLE = 0xFFFE  # the tag is then the beginning of a longer one
_KINDS = {
    (1, 8): "u1",
    (1, 16): "<i2",
    (1, 24): "i3",
    (1, 32): "<i4",
    (3, 32): "<f4",
    (3, 64): "<f8",
}  # by tag and bits
_OPEN = 0x7FFF_F000  # bytes; larger sizes come from writers that could not return to the header
_FORMS = (b"RIFF", b"RF64")


def is_pipe(file: IO[bytes]) -> bool:
    """Whether sound may still be coming from a file object of the operating system."""
    try:
        mode = os.fstat(file.fileno()).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def is_live_wav(pipe: io.BufferedReader) -> bool:
    """Whether a pipe begins with a WAV that `wav_blocks` can read; waits for its first bytes, and leaves them there."""
    if os.name == "posix":  # arecord writes the head in four parts, of which a read may get the first alone
        select.select([pipe], [], [])
        time.sleep(_HEAD_SECONDS)
    head = pipe.peek(12)
    if head[:4] not in _FORMS or head[8:12] != b"WAVE":
        return False
    at = 12
    while at + 8 <= len(head):
        size = int.from_bytes(head[at + 4 : at + 8], "little")
        if head[at : at + 4] == b"fmt ":
            return _format(head[at + 8 : at + 8 + size]) is not None
        at += 8 + size + size % 2
    return False


def wav_blocks(pipe: io.BufferedReader, *, channel: int | None = None, name: str | None = None) -> RatedBlocks:
    """(rate in Hz, samples (n,) float32) of a pipe for which `is_live_wav`, as they come, mixed to one channel.

    Args:
        channel: as for `read_audio`.
        name: of the pipe in errors.
    Raises:
        DataError: as `read_audio`.
    """
    return _with_sound(mono_blocks(_stored_wav(pipe, name), channel, name), name)


def raw_blocks(pipe: io.BufferedIOBase, rate: int, *, name: str | None = None) -> RatedBlocks:
    """As `wav_blocks`, of samples without a header: 16 bits, signed, little-endian, one channel."""
    blocks = ((rate, block) for block in _samples(pipe, None, kind="<i2", channels=1))
    return _with_sound(mono_blocks(blocks, None, name), name)  # type: ignore[arg-type]


def _with_sound(blocks: RatedBlocks, name: str | None) -> RatedBlocks:
    is_empty = True
    for rate, block in blocks:
        yield rate, block
        is_empty = False
    if is_empty:
        raise DataError("must hold sound; it holds no samples", path=name)


def _stored_wav(pipe: io.BufferedReader, name: str | None) -> RatedBlocks:
    """The samples (n, channels) of all data chunks."""
    rate, channels, kind = 0, 0, ""
    while len(head := pipe.read(8)) == 8:
        mark, size = struct.unpack("<4sI", head)
        if mark in _FORMS:
            pipe.read(4)  # WAVE
        elif mark == b"fmt " and (stored := _format(pipe.read(min(size, _FORMAT_BYTES)))):
            rate, channels, kind = stored
            _skip(pipe, size + size % 2 - min(size, _FORMAT_BYTES))
        elif mark == b"data" and kind:
            length = None if size == 0 or size >= _OPEN else size
            for block in _samples(pipe, length, kind=kind, channels=channels):
                yield rate, block
            pipe.read(size % 2)
        elif is_chunk(mark):
            _skip(pipe, size + size % 2)
        else:
            raise DataError(f"a chunk of a WAV file must come after its samples; {mark!r} is none", path=name)


def _skip(pipe: io.BufferedReader, size: int) -> None:
    """Read past so many bytes; a stated size may be gigabytes, so never at once."""
    while size > 0 and (data := pipe.read(min(size, _BYTES))):
        size -= len(data)


def _format(chunk: bytes) -> tuple[int, int, str] | None:
    """Rate, channels and kind of the samples of a `fmt ` chunk; None if they cannot be read live."""
    if len(chunk) < 16:
        return None
    tag, channels, rate, _, align, bits = struct.unpack("<HHIIHH", chunk[:16])
    if tag == _EXTENSIBLE and len(chunk) >= 26:
        tag = int.from_bytes(chunk[24:26], "little")
    kind = _KINDS.get((tag, bits))
    return (rate, channels, kind) if kind and channels and align == channels * bits // 8 else None


def _samples(pipe: io.BufferedIOBase, length: int | None, *, kind: str, channels: int) -> Iterator[Waveform]:
    """(n, channels) float32 of so many bytes, or of all, as they come; whole frames only."""
    width, rest = int(kind[-1]) * channels, b""
    while length is None or length > 0:
        data = pipe.read1(_BYTES if length is None else min(length, _BYTES))
        if not data:
            break
        if length is not None:
            length -= len(data)
        data = rest + data
        whole = len(data) // width * width
        rest = data[whole:]
        if whole:
            yield _scaled(data[:whole], kind).reshape(-1, channels)


def _scaled(data: bytes, kind: str) -> Waveform:
    """Samples with full scale 1."""
    if kind == "i3":  # as the upper bytes of 32 bits
        padded = np.zeros((len(data) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        data, kind = padded.tobytes(), "<i4"
    stored = np.frombuffer(data, kind)
    samples: Waveform = stored.astype(np.float32)
    if kind == "u1":
        samples -= 128
        return samples / np.float32(128)
    return samples / np.float32(2.0 ** (8 * stored.itemsize - 1)) if stored.dtype.kind == "i" else samples
