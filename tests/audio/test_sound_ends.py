"""asr.audio.sound_ends over containers laid by hand."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from asr.audio.excerpts import FileBytes
from asr.audio.sound_ends import mp4_end, sound_span, unread_bytes


def box(kind: bytes, size: int = 0, *, large: bool = False) -> bytes:
    if large:
        return struct.pack(">I4sQ", 1, kind, 16 + size) + bytes(size)
    return struct.pack(">I4s", 8 + size, kind) + bytes(size)


WHOLE = box(b"ftyp", 16) + box(b"moov", 400) + box(b"moof", 30) + box(b"mdat", 5_000) + box(b"free")


@pytest.mark.parametrize(
    ("content", "end"),
    [
        (WHOLE, len(WHOLE)),
        (WHOLE + WHOLE, len(WHOLE)),
        (WHOLE + b"\xff\xfb\x90\x64" * 1_000, len(WHOLE)),
        (box(b"ftyp", 16) + box(b"mdat", 99, large=True) + box(b"moov", 9) + box(b"ftyp", 16) + WHOLE, 24 + 115 + 17),
        (box(b"ftyp", 16) + box(b"ftyp", 16) + box(b"moov", 9), 65),
        (box(b"ftyp", 16) + struct.pack(">I4s", 0, b"mdat") + WHOLE, 32 + len(WHOLE)),
        (WHOLE[:-3], len(WHOLE) - 8),
        (box(b"ftyp", 16) + struct.pack(">I4s", 2**31, b"mdat"), 32),
        (b"", None),
        (b"RIFF" + WHOLE, None),
    ],
)
def test_where_an_mp4_ends(tmp_path: Path, content: bytes, end: int | None) -> None:
    (tmp_path / "a").write_bytes(content)
    with (tmp_path / "a").open("rb") as file:
        assert mp4_end(FileBytes(file, len(content))) == end


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"RIFF",
        b"FORM\xff\xff\xff\xffAIFF",
        b".snd\0\0\0\x18\xff\xff\xff\xff" + bytes(50),
        b"NIST_1A\n   1024\nsample_count -i 5\n" + bytes(1_000),
        b"caff\0\1\0\0data" + b"\xff" * 8 + bytes(9),
        b"caff" + bytes(4),
        b"fLaC\0\0\0\x22" + bytes(99),
        b"ID3\4" + bytes(99),
        b"OggS" + bytes(22),
    ],
)
def test_what_does_not_tell_where_it_ends(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with (tmp_path / "a").open("rb") as file:
        data = FileBytes(file, len(content))
        assert sound_span(data, 0) == (None, None) and unread_bytes(data, None) == 0


def page(flags: int, size: int = 200) -> bytes:
    return b"OggS\0" + bytes([flags]) + bytes(20) + b"\1" + bytes([size]) + bytes(size)


@pytest.mark.parametrize(
    ("content", "span"),
    [
        (page(2) + page(4), (456, None)),
        (page(2) + page(2) + page(0) + page(4) + b"x" * 999, (912, None)),
        (page(2) + page(0) + b"x" * 999, (456, None)),  # without a mark of its end
        (page(2) + page(0) + b"x" * 999 + page(4), (None, None)),  # with a gap
        (page(2) + page(4) + b"x" * 999 + page(4), (456, None)),
        (page(2) + page(4) + page(2) + page(4), (456, 456)),
        (page(2) + page(4) + b"caff", (456, 456)),
        (page(2) + page(4)[:-1], (455, None)),
        (page(2) + b"OggS\0\0", (None, None)),
    ],
)
def test_where_an_ogg_ends(tmp_path: Path, content: bytes, span: tuple[int | None, int | None]) -> None:
    (tmp_path / "a").write_bytes(content)
    with (tmp_path / "a").open("rb") as file:
        assert sound_span(FileBytes(file, len(content)), 0) == span
