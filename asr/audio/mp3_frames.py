"""The frames of MP3: their positions in a file, their number, and the encoder's delay and padding.

libsndfile guesses the length of an MP3 from its first frame or trusts a header, and reads no further. libmpg123, which
it uses, resynchronises without a message. So the frames are counted here, and only frames go to the decoder:

    [ID3v2] [Xing | Info | VBRI] frame frame ... frame [Xing] frame ... frame [APE] [Lyrics3] [ID3v1]
                                 `------ a stream -----'      `- a stream -'

Layers I to III of MPEG 1, 2 and 2.5, at the bit rates of their tables. Free bit rates are not handled.

Source: ISO/IEC 11172-3, section 2.4.2.3 (header) and 13818-3; LAME's fields of the Xing header.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import IO, NamedTuple

from asr.audio.excerpts import FileBytes, Range

DECODER_DELAY = 529  # samples of delay of any layer III decoder
_MARK = re.compile(rb"\xff[\xe2-\xff]|ID3|APETAGEX|TAG")
_LONGEST_XING = 192  # bytes of a frame up to LAME's delay and padding
_MOST_TRIALS = 100_000  # of positions at which a frame might begin after damage; then the rest is given up
_BIT_RATES = {  # kbit/s by (MPEG 1, layer)
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


class FrameHeader(NamedTuple):
    """The first four bytes of a frame; all frames of a stream have the same `kind`."""

    size: int  # bytes
    num_samples: int
    sample_rate: int  # Hz
    channels: int
    xing_at: int  # byte of the frame at which a Xing header starts
    kind: tuple[int, int, int, bool]  # version, layer, rate, whether mono


@dataclass(kw_only=True, slots=True)
class Mp3Stream:
    """Frames that are decoded together."""

    header: bytes  # of the first frame, 4 bytes
    ranges: list[Range]  # of the frames in the file, in order, without the frame of a Xing, Info or VBRI header
    num_frames: int = 0  # in the file
    stated_frames: int | None = None  # number in the Xing, Info or VBRI header; None without one
    delay: int | None = None  # samples that the encoder added before the sound; None if not stated
    padding: int = 0  # samples that the encoder added after the sound
    lost: int = 0  # bytes between and after the frames that are not frames, tags or zeros

    @property
    def format(self) -> FrameHeader:
        """The header of the first frame."""
        format = frame_header(self.header)
        assert format is not None
        return format

    def add(self, position: int, size: int) -> None:
        """Append a frame of `size` bytes."""
        self.num_frames += 1
        if self.ranges and self.ranges[-1][1] == position:
            self.ranges[-1] = (self.ranges[-1][0], position + size)
        else:
            self.ranges.append((position, position + size))

    def sound(self, num_frames: int) -> Range:
        """[start, end) of the sound in the samples of `num_frames` frames; as in ffmpeg, the decoder delay counts."""
        decoded = num_frames * self.format.num_samples
        if self.delay is None:
            return 0, decoded
        start = self.delay + DECODER_DELAY
        # The end of a truncated stream is not padding; nor are frames after the stated number.
        padding = max(0, self.padding - DECODER_DELAY) if num_frames == self.stated_frames else 0
        return (start, decoded - padding) if start + padding < decoded else (0, decoded)


@cache
def frame_header(header: bytes) -> FrameHeader | None:
    """The header in the first four bytes of a frame; None if they are not a frame header."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    rate_index, bits = header[2] >> 2 & 3, header[2] >> 4
    if version == 1 or layer == 4 or rate_index == 3 or bits in (0, 15):
        return None
    sample_rate = (44_100, 48_000, 32_000)[rate_index] >> {3: 0, 2: 1, 0: 2}[version]
    bit_rate = 1_000 * _BIT_RATES[version == 3, layer][bits - 1]
    num_samples = {1: 384, 2: 1_152, 3: 1_152 if version == 3 else 576}[layer]
    unit = 4 if layer == 1 else 1
    size = (num_samples // 8 // unit * bit_rate // sample_rate + (header[2] >> 1 & 1)) * unit
    mono = header[3] >> 6 == 3
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    return FrameHeader(size, num_samples, sample_rate, 1 if mono else 2, 4 + side, (version, layer, sample_rate, mono))


def silent_frame(header: bytes) -> bytes:
    """A frame of the same kind at the lowest bit rate that decodes to silence."""
    head = bytes((0xFF, header[1] | 1, 0x10 | header[2] & 0x0C, header[3]))
    format = frame_header(head)
    assert format is not None
    return head + bytes(format.size - 4)


def mp3_streams(file: IO[bytes], begin: int, end: int) -> Iterator[Mp3Stream]:
    """The streams in bytes [begin, end) of a file, in order; none if they do not begin like MP3.

    A stream ends at the next Xing, Info or VBRI header, or where the rate or number of channels changes. Lost bytes
    before the first frame are counted in the first stream.
    """
    data = FileBytes(file, end)
    end = data.end = _without_tags(data, begin, end)
    position = after_tags(data, begin)
    head = data.at(position, 2)
    if not (len(head) == 2 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 6):
        return
    zeros = data.before_zeros(position)
    stream: Mp3Stream | None = None
    kind, lost = None, 0
    while position < end:
        frame = data.at(position, _LONGEST_XING)
        format = frame_header(frame[:4])
        if (
            format is None
            or position + format.size > end
            or (format.kind != kind and not _confirmed(data, position, format, zeros))
        ):
            position, skipped = _resynchronise(data, position, zeros)
            lost += skipped
            continue
        tag = _xing(frame, format)
        if stream is None or tag is not None or format.kind != kind:
            if stream is not None and stream.ranges:
                stream.lost, lost = lost, 0
                yield stream
            stream, kind = Mp3Stream(header=frame[:4], ranges=[]), format.kind
            if tag is not None:
                stream.stated_frames, stream.delay, stream.padding = tag
        if tag is None:
            stream.add(position, format.size)
        position += format.size
    if stream is not None and stream.ranges:
        stream.lost = lost
        yield stream


def _xing(frame: bytes, format: FrameHeader) -> tuple[int | None, int | None, int] | None:
    """The frames, delay and padding in a Xing, Info or VBRI header; None for a frame of sound."""
    at = format.xing_at
    mark = frame[at : at + 4]
    if (mark not in (b"Xing", b"Info") and frame[36:40] != b"VBRI") or format.kind[1] != 3:
        return None
    if mark not in (b"Xing", b"Info"):
        return int.from_bytes(frame[50:54], "big"), None, 0
    flags = int.from_bytes(frame[at + 4 : at + 8], "big")
    frames = int.from_bytes(frame[at + 8 : at + 12], "big") if flags & 1 else None
    lame = at + 8 + 4 * bool(flags & 1) + 4 * bool(flags & 2) + 100 * bool(flags & 4) + 4 * bool(flags & 8)
    if frame[lame : lame + 4] not in (b"LAME", b"Lavf", b"Lavc"):
        return frames, None, 0
    both = int.from_bytes(frame[lame + 21 : lame + 24], "big")
    return frames, both >> 12, both & 0xFFF


def _confirmed(data: FileBytes, position: int, format: FrameHeader, zeros: int) -> bool:
    """Whether a frame is followed by two of its kind, or by the zeros at the end of the data."""
    for _ in range(2):
        position += format.size
        if position >= zeros:
            return True
        following = frame_header(data.at(position, 4))
        if following is None or following.kind != format.kind:
            return False
        format = following
    return True


def _resynchronise(data: FileBytes, position: int, zeros: int) -> tuple[int, int]:
    """The next frame or tag after a position without one, and the number of lost bytes before it."""
    after = after_tags(data, position)
    if after > position:
        return after, 0
    start = position
    for _ in range(_MOST_TRIALS):
        position = data.search(_MARK, position + 1)
        format = frame_header(data.at(position, 4))
        if position == data.end or (_confirmed(data, position, format, zeros) if format else _tag_size(data, position)):
            return position, position - start
    return data.end, data.end - start


def after_tags(data: FileBytes, position: int) -> int:
    """The end of the tags and zeros at a position; the position itself if there are none."""
    while position < data.end:
        after = data.after_zeros(position)
        after = min(after + _tag_size(data, after), data.end)
        if after == position:
            break
        position = after
    return position


def _tag_size(data: FileBytes, position: int) -> int:
    """Bytes of the tag at a position; 0 if there is none, or it would reach beyond the end."""
    head = data.at(position, 32)
    size = 0
    if head.startswith(b"ID3") and len(head) > 10:  # 28 bits, 7 to a byte
        size = 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        size += 10 if head[5] & 0x10 else 0
    elif head.startswith(b"APETAGEX"):
        size = 32 + int.from_bytes(head[12:16], "little")
    elif head.startswith(b"TAG+"):
        size = 227
    elif head.startswith(b"TAG"):
        size = 128
    return size if position + size <= data.end else 0


def _without_tags(data: FileBytes, begin: int, end: int) -> int:
    """The end of the sound before the tags at the end of a file."""
    while True:
        size = 0
        ape = data.at(end - 32, 32)
        lyrics = data.at(end - 15, 15)
        if data.at(end - 128, 3) == b"TAG":
            size = 128
        elif data.at(end - 227, 4) == b"TAG+":
            size = 227
        elif ape.startswith(b"APETAGEX"):
            size = int.from_bytes(ape[12:16], "little") + (32 if ape[23] & 0x80 else 0)
        elif lyrics[6:] == b"LYRICS200" and lyrics[:6].isdigit():
            size = int(lyrics[:6]) + 15
        if not 0 < size <= end - begin:
            return end
        end -= size
