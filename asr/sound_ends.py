"""Where in a file one sound ends, and whether another follows it: files that were written one after another."""

from __future__ import annotations

import re

from asr.excerpts import NOT_ZERO, FileBytes
from asr.wav_chunks import wav_chunks

MOST_TRAILING = 2_048  # bytes behind a sound that may be some program's mark, and are no lost sound
_FLAC = re.compile(rb"fLaC[\0\x80]\0\0\x22")  # with the header of the block that comes first
_W64 = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0"
_MOST_BOXES = 1_000_000


def next_sound(data: FileBytes, begin: int) -> int | None:
    """Where the sound begins that follows the one at a byte; None if none does, or its format does not tell."""
    head = data.at(begin, 24)
    if head.startswith(b"OggS"):
        return ogg_end(data, begin)[1]
    if head.startswith((b"fLaC", b"ID3")):
        after = data.search(_FLAC, begin + 4)
        if head.startswith(b"ID3"):  # the tag stands before the first one
            after = data.search(_FLAC, after + 4)
        return after if after < data.end else None
    end = sound_end(data, begin)
    return end if end is not None and _begins_sound(data.at(end, 16)) else None


def sound_end(data: FileBytes, begin: int) -> int | None:
    """The byte behind a WAV, AIFF, AU or W64 file, at most the end of the data; None where its header does not tell."""
    head = data.at(begin, 24)
    end = None
    if (chunks := wav_chunks(data, begin)) is not None:
        end = chunks.end
    elif head.startswith(b"FORM") and head[8:12] in (b"AIFF", b"AIFC"):
        size = int.from_bytes(head[4:8], "big")
        end = begin + 8 + size + size % 2
    elif head.startswith(b".snd"):
        start, size = int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:12], "big")
        end = begin + start + size
    elif head.startswith(_W64):
        end = begin + int.from_bytes(head[16:24], "little")
    return end if end is not None and begin + 12 < end <= data.end else None


def unread_bytes(data: FileBytes, end: int | None) -> int:
    """Bytes behind the end of a sound, if they are so many that they could be sound, and not all zero."""
    if end is None or data.end - end <= MOST_TRAILING or data.search(NOT_ZERO, end) == data.end:
        return 0
    return data.end - end


def ogg_end(data: FileBytes, begin: int) -> tuple[bool, int | None]:
    """Whether the last page of an Ogg stream says that it is the last, and where a chained stream begins.

    Source: RFC 3533, section 6.
    """
    position, complete, within = begin, False, False
    while len(head := data.at(position, 282)) >= 27 and head.startswith(b"OggS"):
        begins = bool(head[5] & 2)
        if begins and within:
            return complete, position
        lacing = head[27 : 27 + head[26]]
        position += 27 + len(lacing) + sum(lacing)
        within = not begins
        complete = bool(head[5] & 4) and position <= data.end
    return complete, None


def mp4_end(data: FileBytes) -> int | None:
    """The byte behind the last box of the first of several MP4 files; None for what is no MP4.

    Source: ISO/IEC 14496-12, sections 4.2 and 4.3.
    """
    if data.at(4, 4) != b"ftyp":
        return None
    position, has_movie = 0, False
    for _ in range(_MOST_BOXES):
        head = data.at(position, 16)
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if size == 1:
            size = int.from_bytes(head[8:], "big")
        elif size == 0:
            return data.end  # the last box, by definition
        if len(head) < 8 or size < 8 or (kind == b"ftyp" and has_movie) or not kind.isalnum():
            break
        has_movie = has_movie or kind == b"moov"
        position += size
    return min(position, data.end)


def _begins_sound(head: bytes) -> bool:
    return (
        (head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE")
        or (head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"))
        or head.startswith((b"fLaC", b"OggS", b".snd", _W64))
    )
