"""Check that compressed sound is complete, by FLAC's frame headers and Ogg's pages and checksums."""

from __future__ import annotations

import os
import re
import zlib

from asr.audio.excerpts import FileBytes
from asr.audio.flac_frames import LONGEST_HEADER, flac_frame
from asr.audio.sound_ends import begins_sound, no_ogg_follows

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_HIGHEST = 2**32 - 1


def ogg_damage(path: str | os.PathLike[str]) -> tuple[str, str]:
    """The damage of an Ogg file, "truncated" or "corrupt", and the reason; both empty if it is complete.

    Source: RFC 3533, section 6. libogg skips a page with a wrong checksum without a message.
    """
    last = False
    position, length = 0, os.path.getsize(path)
    with open(path, "rb") as file:
        while position < length:
            header = file.read(27)
            if not b"OggS".startswith(header[:4]):
                if last and (begins_sound(header) or no_ogg_follows(FileBytes(file, length), position)):
                    break  # reading the file reports the rest
                return "corrupt", f"no page of Ogg begins at byte {position}"
            lacing = file.read(header[26]) if len(header) == 27 else b""
            body = file.read(sum(lacing))
            if len(header) < 27 or len(lacing) < header[26] or len(body) < sum(lacing):
                return "truncated", f"the page at byte {position} is truncated"
            stated = int.from_bytes(header[22:26], "little")
            if _ogg_checksum(header[:22] + bytes(4) + header[26:] + lacing + body) != stated:
                return "corrupt", f"the page at byte {position} has a wrong checksum"
            last = bool(header[5] & 4)
            position += 27 + len(lacing) + len(body)
    return ("", "") if last else ("truncated", "no page is marked as the last one")


def _ogg_checksum(page: bytes) -> int:
    """CRC-32 from the highest bit down, without inversions: zlib's, with bits reversed and inversions undone."""
    reversed_bits = zlib.crc32(page.translate(_REVERSED), _HIGHEST) ^ _HIGHEST
    return int(f"{reversed_bits:032b}"[::-1], 2)


def flac_ends_early(path: str | os.PathLike[str]) -> bool:
    """Whether a FLAC file ends before the last frame of its sound.

    libFLAC reports the same error for a truncated file and for a damaged frame in the middle.

    Source: RFC 9639, sections 8.2 (stream information) and 9.1 (frame headers).
    """
    with open(path, "rb") as file:
        head = file.read(42)
        largest = int.from_bytes(head[15:18], "big") or 2**17
        file.seek(max(42, os.path.getsize(path) - 2 * largest))
        tail = file.read()
    block_size = int.from_bytes(head[8:10], "big")
    total = int.from_bytes(head[21:26], "big") & (2**36 - 1)
    ends = [0]
    for match in re.finditer(rb"\xff[\xf8\xf9]", tail):
        if frame := flac_frame(tail[match.start() : match.start() + LONGEST_HEADER]):
            ends.append((frame.number + 1) * block_size if frame.fixed else frame.number + 1)
    return max(ends) < total - (0 if block_size else 2**16)
