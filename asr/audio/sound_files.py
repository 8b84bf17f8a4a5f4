"""Sound in files as blocks of samples, by libsndfile or ffmpeg, and what headers state."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from itertools import islice
from typing import IO

import numpy as np
import soundfile

from asr.audio.excerpts import FileBytes
from asr.audio.ffmpeg import ffmpeg_blocks
from asr.audio.libsndfile import (
    BLOCK_SAMPLES,
    HIGHEST_SAMPLE_RATE,
    LOWEST_SAMPLE_RATE,
    UNKNOWN_FRAMES,
    RatedBlocks,
    RawFormat,
    Sound,
    problem_of,
    stated_frames,
)
from asr.audio.mp3_frames import mp3_streams
from asr.audio.sound_ends import mp4_end, unread_bytes
from asr.audio.sound_parts import SoundPart, sound_parts
from asr.errors import AsrWarning, DataError
from asr.files.reading import open_regular


@dataclass(frozen=True, kw_only=True, slots=True)
class SoundHeader:
    """The header of a sound file; of the first sound if there are several, except for MP3."""

    format: str  # libsndfile's name
    sample_rate: int  # Hz
    num_channels: int
    num_samples: int  # of each channel

    @property
    def seconds(self) -> float:
        return self.num_samples / self.sample_rate


def file_blocks(file: IO[bytes], raw: RawFormat | None, name: str | None, *, track: int | None = None) -> RatedBlocks:
    """The blocks of all sounds in a file, which may be several joined files; closes the file.

    Args:
        file: from `asr.audio.source.open_sound`.
        raw: format of a file without a header.
        name: of the file in errors.
        track: as for `ffmpeg_blocks`; files that libsndfile reads have one.
    Raises:
        DataError: it is not sound, or needs ffmpeg and there is none.
    """
    with file:
        if track and raw is None:
            yield from ffmpeg_blocks(file, name, "it reads the first track", track=track)
            return
        parts = sound_parts(file) if raw is None else iter([SoundPart(source=file, begin=0)])
        for part in parts:
            try:
                sound, reason = Sound(part.source, raw), "its header states no samples"
            except soundfile.LibsndfileError as error:
                sound, reason = None, problem_of(error)
            if sound is not None and sound.frames > 0:
                with sound:
                    yield from _sound_blocks(sound, part, file, name)
            elif part.begin:
                _warn(f"{name}: cannot be read after byte {part.begin} ({reason})")
                return
            elif raw is not None:
                raise DataError(f"cannot be read as {raw}: {reason}", path=name)
            else:
                yield from ffmpeg_blocks(file, name, reason, track=track)
                end = mp4_end(data := FileBytes(file, os.fstat(file.fileno()).st_size))
                _warn_of_unread(unread_bytes(data, end), name)
                return


def sound_header(path: str | os.PathLike[str]) -> SoundHeader:
    """The header of a sound file; the frames of an MP3 are counted, since its stated length may be wrong.

    Raises:
        soundfile.LibsndfileError: libsndfile cannot open or read the file.
    """
    try:
        file = open_regular(path)
    except OSError as error:
        raise soundfile.LibsndfileError(2, f"Error opening {os.fspath(path)!r}: {error.strerror}: ") from None
    with file:
        if streams := list(mp3_streams(file, 0, os.fstat(file.fileno()).st_size)):
            format = streams[0].format
            seconds = sum(
                len(range(*stream.sound(stream.num_frames))) / stream.format.sample_rate for stream in streams
            )
            count = round(seconds * format.sample_rate)
            return SoundHeader(
                format="MP3", sample_rate=format.sample_rate, num_channels=format.channels, num_samples=count
            )
        with Sound(file, None) as sound:
            rate, channels, count = sound.samplerate, sound.channels, sound.frames
            return SoundHeader(format=sound.format, sample_rate=rate, num_channels=channels, num_samples=count)


def is_one_sound(path: str | os.PathLike[str]) -> bool:
    """Whether a file is one plain sound, so that any reader gets the same samples as `read_audio`.

    Raises:
        OSError: the file cannot be opened.
    """
    with open_regular(path) as file:
        first, *others = islice(sound_parts(file), 2)
        return first.source is file and not others


def _sound_blocks(sound: Sound, part: SoundPart, file: IO[bytes], name: str | None) -> RatedBlocks:
    """The blocks of one sound of a file."""
    size = max(1, BLOCK_SAMPLES // sound.channels)
    first, last = part.samples or (0, sound.frames)
    rate, decoded, problem = sound.samplerate, 0, ""
    while decoded < last:
        # If decoding fails, soundfile does not give the number of decoded frames; the remaining NaN show it.
        block = np.full((min(size, last - decoded), sound.channels), np.nan, np.float32)
        try:
            count = sound.read_into(block)
        except soundfile.LibsndfileError as error:
            count = int(np.sum(~np.isnan(block).any(axis=1)))
            problem = f" ({problem_of(error)})"
        if count == 0:
            break
        start = max(0, first - decoded)
        decoded += count
        if start < count:
            yield rate, block[start:count]

    available = max(0, decoded - first)
    stated = stated_frames(sound, part, file)
    if not part.complete and available:
        _warn(f"{name}: truncated: {available / rate:.3f} s are used; the missing length is not stated")
    elif stated is not None and 0 < available < stated:
        missing = f"{(stated - available) / rate:.3f} s of {stated / rate:.3f} s are missing"
        _warn(f"{name}: truncated or damaged: {missing}{problem}; the rest is used")
    _warn_of_unread(part.unread, name)


def _warn_of_unread(count: int, name: str | None) -> None:
    if count:
        _warn(f"{name}: {count} bytes that belong to no sound, within the sound or after it, are not read")


def header_seconds(file: IO[bytes], raw: RawFormat | None) -> float | None:
    """The duration in the headers of a file; None if they do not state it."""
    parts = sound_parts(file) if raw is None else iter([SoundPart(source=file, begin=0)])
    seconds = 0.0
    try:
        for part in parts:
            with Sound(part.source, raw) as sound:
                known = part.samples is not None or 0 < sound.frames < UNKNOWN_FRAMES
                if not known or not LOWEST_SAMPLE_RATE <= sound.samplerate <= HIGHEST_SAMPLE_RATE:
                    return None
                first, last = part.samples or (0, sound.frames)
                stated = part.stated if part.samples and part.stated else 1.0
                seconds += stated * (last - first) / sound.samplerate
    except soundfile.LibsndfileError:
        return None
    return seconds


def _warn(message: str) -> None:
    warnings.warn(AsrWarning(message), stacklevel=3)
