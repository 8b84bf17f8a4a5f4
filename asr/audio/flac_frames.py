"""The frames of FLAC: their headers, and the end of the last one, which no header of the file states.

Source: RFC 9639, sections 8.2 (stream information) and 9 (frames).
"""

from __future__ import annotations

import io
import re
from bisect import bisect_left
from itertools import islice
from typing import NamedTuple

import soundfile

from asr.audio.excerpts import FileBytes, Range

FLAC = re.compile(rb"fLaC[\0\x80]\0\0\x22")  # with the header of the first block
LONGEST_HEADER = 16  # bytes of a frame's header
_STREAM_INFORMATION = 42  # bytes up to its end
_SYNC = re.compile(rb"\xff[\xf8\xf9](?=[\x10-\xff][\x00-\xae])")
_MOST_TRIALS = 100_000  # of positions at which a frame might begin


class FlacFrame(NamedTuple):
    """The header of a frame."""

    fixed: bool  # whether all blocks of the stream but the last have the same size
    number: int  # of the frame if `fixed`, else of its first sample
    block_size: int  # samples per channel


def flac_frame(header: bytes) -> FlacFrame | None:
    """The header in the first `LONGEST_HEADER` bytes of a frame; None if its checksum is wrong."""
    if len(header) < 6 or header[0] != 0xFF or header[1] & 0xFE != 0xF8:
        return None
    ones = 8 - (header[4] ^ 0xFF).bit_length()  # the number of leading ones gives the number of bytes, as in UTF-8
    if ones in (1, 8):
        return None
    number = header[4] & (0x7F >> ones)
    sized = 4 + max(ones, 1)
    for byte in header[5:sized]:
        number = number << 6 | byte & 0x3F
    size_code = header[2] >> 4
    rated = sized + {6: 1, 7: 2}.get(size_code, 0)
    end = rated + {12: 1, 13: 2, 14: 2}.get(header[2] & 15, 0)
    if end >= len(header) or size_code == 0 or _header_checksum(header[:end]) != header[end]:
        return None
    if size_code in (6, 7):
        block_size = int.from_bytes(header[sized:rated], "big") + 1
    elif size_code < 6:
        block_size = 192 if size_code == 1 else 144 << size_code
    else:
        block_size = 1 << size_code
    return FlacFrame(header[1] == 0xF8, number, block_size)


def flac_end(data: FileBytes, begin: int, end: int) -> int | None:
    """The end of the last frame of the FLAC file in bytes [begin, end).

    None if the file states no length, or the last frame is damaged. The search goes backwards, so it reads little if
    nothing follows the frame.
    """
    head = data.at(begin, _STREAM_INFORMATION)
    if len(head) < _STREAM_INFORMATION or not FLAC.match(head):
        return None
    largest = int.from_bytes(head[10:12], "big")
    total = int.from_bytes(head[21:26], "big") & (2**36 - 1)
    if not largest or not total:
        return None
    matches = data.backwards(_SYNC, (begin + _STREAM_INFORMATION, end), LONGEST_HEADER)
    for position, header in islice(matches, _MOST_TRIALS):
        frame = flac_frame(header)
        if frame and frame.number * (largest if frame.fixed else 1) + frame.block_size == total:
            return _frame_end(data, (position, end), head, frame.block_size)
    return None


def _frame_end(data: FileBytes, reach: Range, head: bytes, block_size: int) -> int | None:
    """The end of the frame at the start of a range; None if no end in the range has a right checksum.

    The checksum is right by chance at one byte in 65,536, so each candidate is cut off there and decoded.
    """
    begin, limit = reach
    num_channels = (head[20] >> 1 & 7) + 1
    bits = ((head[20] & 1) << 4 | head[21] >> 4) + 1
    longest = LONGEST_HEADER + num_channels * (8 + block_size * (bits + 1) // 8) + 2
    stated = int.from_bytes(head[15:18], "big")
    frame = data.at(begin, min(stated or longest, longest, limit - begin))
    ends, checksum = [], 0
    for end, byte in enumerate(frame, 1):
        checksum = (checksum << 8 & 0xFFFF) ^ _CRC_16[checksum >> 8 ^ byte]
        if checksum == 0:
            ends.append(end)
    if ends == [limit - begin]:  # the usual case
        return limit
    index = bisect_left(ends, True, key=lambda end: _is_whole(head, frame[:end], block_size))
    return begin + ends[index] if index < len(ends) else None


def _is_whole(head: bytes, frame: bytes, block_size: int) -> bool:
    """Whether a frame decodes to all samples of its block."""
    total = (int.from_bytes(head[18:26], "big") >> 36 << 36 | block_size).to_bytes(8, "big")
    file = b"fLaC\x80" + head[5:12] + bytes(6) + total + bytes(16) + frame
    try:
        with soundfile.SoundFile(io.BytesIO(file)) as sound:
            return len(sound.read(block_size, dtype="int32")) == block_size
    except soundfile.LibsndfileError:
        return False


def _header_checksum(header: bytes) -> int:
    checksum = 0
    for byte in header:
        checksum = _CRC_8[checksum ^ byte]
    return checksum


def _checksums(polynomial: int, bits: int) -> list[int]:
    """The checksum of each byte, from the highest bit down."""
    table = list(range(256))
    for byte in range(256):
        checksum = byte << bits - 8
        for _ in range(8):
            checksum = checksum << 1 ^ (polynomial if checksum >> bits - 1 else 0)
            checksum &= (1 << bits) - 1
        table[byte] = checksum
    return table


_CRC_8 = _checksums(0x07, 8)
_CRC_16 = _checksums(0x8005, 16)
