"""The sounds in a file, in order, each as a file that libsndfile reads completely and correctly."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from asr.audio.excerpts import Excerpt, FileBytes, Range
from asr.audio.mp3_frames import Mp3Stream, mp3_streams, silent_frame
from asr.audio.sound_ends import MOST_TRAILING, ogg_end, sound_span, unread_bytes
from asr.audio.wav_chunks import WavChunks, wav_chunks


@dataclass(frozen=True, kw_only=True, slots=True)
class SoundPart:
    """One sound in a file."""

    source: IO[bytes] | Excerpt  # input for libsndfile
    begin: int  # first byte in the file
    samples: Range | None = None  # [start, end) of the sound in the decoded samples; None for all
    stated: float | None = None  # length in a header / length in the file; None if libsndfile reads it from the header
    complete: bool = True  # False if the stream has no end mark, though its header states no length
    unread: int = 0  # bytes skipped in it or after it, if there are enough for sound


def sound_parts(file: IO[bytes]) -> Iterator[SoundPart]:
    """The sounds in a file; one for the whole file unless others are known to follow.

    Time is linear in the size of the file; memory is bounded.
    """
    size = os.fstat(file.fileno()).st_size
    data = FileBytes(file, size)
    begin: int | None = 0
    while begin is not None:
        end, following = sound_span(data, begin)
        within = FileBytes(file, size if following is None else following)
        chunks = wav_chunks(within, begin)
        ranges = chunks.data if chunks is not None and chunks.holds_mp3 else [(begin, within.end)]
        num_streams = 0
        for start, stop in ranges:
            for stream in mp3_streams(file, start, min(stop, within.end)):
                num_streams += 1
                yield _mp3_part(file, stream)
        if not num_streams:
            yield _part(file, within, (begin, end), chunks)
        begin = following


def _part(file: IO[bytes], data: FileBytes, span: tuple[int, int | None], chunks: WavChunks | None) -> SoundPart:
    """The sound, not MP3, in a span of the data; the end of the span is None if not known."""
    begin, end = span
    mark = data.at(begin, 4)
    unread = unread_bytes(data, end)
    if end is None or (not unread and (chunks is not None or mark.startswith((b"fLaC", b"ID3")))):
        end = data.end  # libsndfile finds the end of a WAV or a FLAC
    whole = begin == 0 and end == os.fstat(file.fileno()).st_size
    source: IO[bytes] | Excerpt = file if whole else Excerpt(file, [(begin, end)])
    stated = None
    if chunks is not None and chunks.data:
        ranges = [(start, min(end, data.end)) for start, end in chunks.data if start < data.end]
        if len(chunks.data) > 1 or chunks.wrapped:
            source = Excerpt(file, ranges, head=chunks.header())
        stated = max(1.0, _length(chunks.data) / _length(ranges)) if ranges else None
    complete = mark != b"OggS" or ogg_end(data, begin)[0]
    return SoundPart(source=source, begin=begin, stated=stated, complete=complete, unread=unread)


def _length(ranges: Sequence[Range]) -> int:
    return sum(end - start for start, end in ranges)


def _mp3_part(file: IO[bytes], stream: Mp3Stream) -> SoundPart:
    """An MP3 stream between frames of silence.

    libsndfile estimates the length from the bit rate of the first frame and reads no further. With a first frame of
    the lowest bit rate, the estimate is never too short. libmpg123 cannot decode a stream of a single frame.
    """
    silence = silent_frame(stream.header)
    num_samples = stream.format.num_samples
    start, end = stream.sound(stream.num_frames)
    stated = max(stream.stated_frames or 0, stream.num_frames)
    if stated == stream.num_frames + 1 and not stream.lost:
        stated -= 1  # some encoders count the frame of the header too
    first, last = stream.sound(stated)
    return SoundPart(
        source=Excerpt(file, stream.ranges, head=silence, tail=silence * (4 + stream.num_frames // 100)),
        begin=stream.ranges[0][0],
        samples=(start + num_samples, end + num_samples),
        stated=(last - first) / (end - start),
        unread=stream.lost if stream.lost > MOST_TRAILING else 0,
    )
