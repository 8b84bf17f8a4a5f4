"""Find the end of a sound in a file, and the next sound in it: several files may be joined into one."""

from __future__ import annotations

import math
import re

from asr.audio.excerpts import FileBytes
from asr.audio.flac_frames import FLAC, flac_end
from asr.audio.mp3_frames import after_tags
from asr.audio.wav_chunks import is_chunk, wav_chunks

MOST_TRAILING = 2_048  # bytes after a sound that may be a program's mark and not lost sound
_OGG = re.compile(rb"OggS\0")
_W64 = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0"
_MOST_BOXES = 1_000_000


def sound_span(data: FileBytes, begin: int) -> tuple[int | None, int | None]:
    """The end of the sound at a byte, and the beginning of the next sound; each None if not known."""
    head = data.at(begin, 4)
    limit = data.end
    if head.startswith((b"fLaC", b"ID3")):
        first = begin if head == b"fLaC" else data.search(FLAC, begin + 3)  # after an ID3 tag
        limit = data.search(FLAC, first + 4)
        end = flac_end(data, first, limit)
    elif head == b"OggS":
        end = _ogg_span_end(data, begin)
    else:
        end = _stated_end(data, begin)
    if end is not None and begins_sound(data.at(end, 16)):
        return end, end
    return end, limit if limit < data.end else None


def _ogg_span_end(data: FileBytes, begin: int) -> int | None:
    complete, end = ogg_end(data, begin)
    known = complete or end == data.end or begins_sound(data.at(end, 16)) or no_ogg_follows(data, end)
    return end if end > begin and known else None


def no_ogg_follows(data: FileBytes, end: int) -> bool:
    """Whether no page of Ogg follows a byte; a page after a gap may belong to the same stream."""
    return data.search(_OGG, end) == data.end


def _stated_end(data: FileBytes, begin: int) -> int | None:
    """The end of a WAV, AIFF, AU, W64, CAF or NIST file; None if its header does not state it, or for other files."""
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
    elif head.startswith(b"caff"):
        end = _caf_end(data, begin)
    elif head.startswith(b"NIST_1A"):
        end = _nist_end(data, begin)
    return end if end is not None and begin + 12 < end <= data.end else None


def _caf_end(data: FileBytes, begin: int) -> int | None:
    position = begin + 8
    for _ in range(_MOST_BOXES):
        head = data.at(position, 12)
        if len(head) < 12 or not is_chunk(head[:4]):
            break
        size = int.from_bytes(head[4:], "big", signed=True)
        if size < 0:
            return None  # reaches to the end of the file
        position += 12 + size
    return position


def _nist_end(data: FileBytes, begin: int) -> int | None:
    header = data.at(begin, 1_024)
    fields = dict(re.findall(rb"\n(sample_count|channel_count|sample_n_bytes) -i (\d{1,18})(?=\n)", header))
    if len(fields) < 3 or not header[8:16].strip().isdigit():
        return None
    return begin + int(header[8:16]) + math.prod(map(int, fields.values()))


def unread_bytes(data: FileBytes, end: int | None) -> int:
    """Bytes after the end of a sound, if more than `MOST_TRAILING` of them are neither zeros nor tags; else 0."""
    return data.end - end if end is not None and data.end - after_tags(data, end) > MOST_TRAILING else 0


def ogg_end(data: FileBytes, begin: int) -> tuple[bool, int]:
    """Whether the last page of an Ogg stream is marked as the last one, and the end of this page.

    Each stream of a chained file has its own end.

    Source: RFC 3533, section 6.
    """
    position, complete, within = begin, False, False
    while len(head := data.at(position, 282)) >= 27 and head.startswith(b"OggS"):
        begins = bool(head[5] & 2)
        if begins and within:
            break
        lacing = head[27 : 27 + head[26]]
        position += 27 + len(lacing) + sum(lacing)
        within = not begins
        complete = bool(head[5] & 4) and position <= data.end
    return complete, min(position, data.end)


def mp4_end(data: FileBytes) -> int | None:
    """The end of the first of several MP4 files; None if it is not an MP4.

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


def begins_sound(head: bytes) -> bool:
    """Whether 16 bytes begin like a sound file."""
    return (
        (head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE")
        or (head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"))
        or (head.startswith(b"OggS\0") and bool(head[5:] and head[5] & 2))
        or head.startswith((b"fLaC", b".snd", b"caff", b"NIST_1A", _W64))
    )
