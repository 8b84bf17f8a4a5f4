"""The chunks of a WAV file: its end, and its samples in one or more `data` chunks.

libsndfile reads the last `data` chunk only, and trusts a 32-bit size that has wrapped beyond 4 GB.

Source: Microsoft and IBM, Multimedia Programming Interface 1.0, RIFF; EBU Tech 3306, RF64.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from asr.audio.excerpts import FileBytes, Range

# The first bytes of sound files; no chunk has these names.
_FILE_MARKS = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"fLaC", b"OggS", b".snd", b"caff", b"NIST", b"riff")
_MPEG_LAYER_3 = 0x55
_UNSET = 0xFFFF_FFFF  # the size is in the `ds64` chunk
_OPEN = 0x7FFF_F000  # bytes; larger sizes come from writers that could not return to the header
_LONGEST_FORMAT = 2**12
_MOST_CHUNKS = 10_000
_WRAPPED = 2**32


@dataclass(kw_only=True, slots=True)
class WavChunks:
    """The chunks of a WAV file.

    Args:
        form: "RIFF", "RIFX" (big-endian numbers) or "RF64".
        format: content of the `fmt ` chunk.
        data: [start, end) of each non-empty `data` chunk, as stated: the last may end beyond the file.
        end: end of the last chunk, at most the end of the file.
        wrapped: whether `data` is corrected for a size that was too large for its field.
    """

    form: bytes
    format: bytes = b""
    data: list[Range] = field(default_factory=list)
    end: int = 0
    wrapped: bool = False

    @property
    def holds_mp3(self) -> bool:
        """Whether the samples are MP3 frames."""
        return int.from_bytes(self.format[:2], "big" if self.form == b"RIFX" else "little") == _MPEG_LAYER_3

    def header(self) -> bytes:
        """The header of a file with all samples in one `data` chunk."""
        size = sum(end - start for start, end in self.data)
        order = ">" if self.form == b"RIFX" else "<"
        form = struct.pack(order + "4sI", b"fmt ", len(self.format)) + self.format + bytes(len(self.format) % 2)
        if size < _WRAPPED - 2**16:
            whole = struct.pack(order + "4sI4s", self.form.replace(b"RF64", b"RIFF"), 12 + len(form) + size, b"WAVE")
            return whole + form + struct.pack(order + "4sI", b"data", size)
        whole = struct.pack("<4sI4s4sI3QI", b"RF64", _UNSET, b"WAVE", b"ds64", 28, 48 + len(form) + size, size, 0, 0)
        return whole + form + struct.pack("<4sI", b"data", _UNSET)


def wav_chunks(data: FileBytes, begin: int) -> WavChunks | None:
    """The chunks of the WAV file at a byte; None if it is not a WAV."""
    head = data.at(begin, 12)
    if head[:4] not in (b"RIFF", b"RIFX", b"RF64") or head[8:] != b"WAVE":
        return None
    order = ">" if head.startswith(b"RIFX") else "<"
    chunks = WavChunks(form=head[:4])
    large_size = None
    position = begin + 12
    for _ in range(_MOST_CHUNKS):
        mark = data.at(position, 8)
        if len(mark) < 8 or not is_chunk(mark[:4]):
            break
        (size,) = struct.unpack(order + "I", mark[4:])
        start = position + 8
        if mark[:4] == b"ds64":
            large_size = int.from_bytes(data.at(start + 8, 8), "little")
        elif mark[:4] == b"fmt ":
            chunks.format = data.at(start, min(size, _LONGEST_FORMAT))
        elif mark[:4] == b"data":
            if size == _UNSET and large_size is not None:
                size = large_size
            elif size >= _OPEN:
                size = max(0, data.end - start)
            elif (
                order == "<"
                and (beyond := data.end - start - size) >= _WRAPPED
                and not _goes_on(data, start + size + size % 2)
            ):
                size += beyond // _WRAPPED * _WRAPPED
                chunks.wrapped = True
            if size:
                chunks.data.append((start, start + size))
        elif start + size > data.end:
            break
        position = start + size + size % 2
    chunks.end = min(position, data.end)
    return chunks


def _goes_on(data: FileBytes, position: int) -> bool:
    """Whether a byte is the start of a file, the end of the data, or a chunk followed by one of these or a chunk."""
    for _ in range(2):
        head = data.at(position, 8)
        if head[:4] in _FILE_MARKS or not head:
            return True
        if not is_chunk(head[:4]):
            return False
        size = int.from_bytes(head[4:], "little")
        position += 8 + size + size % 2
    return True


def is_chunk(name: bytes) -> bool:
    """Whether four bytes can be the name of a chunk, and are not the start of another file."""
    return len(name) == 4 and name.isascii() and name.decode("ascii").isprintable() and name not in _FILE_MARKS
