"""Sound in files, as blocks of samples: libsndfile, ffmpeg for the rest, and what headers tell beyond them."""

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

# What is taken from a folder; a file that is named itself may have any suffix.
SOUND_SUFFIXES = frozenset(
    (
        *(".3gp", ".aac", ".aif", ".aifc", ".aiff", ".amr", ".au", ".caf", ".flac", ".m4a", ".m4b", ".mka", ".mkv"),
        *(".mov", ".mp3", ".mp4", ".nist", ".oga", ".ogg", ".opus", ".rf64", ".sph", ".w64", ".wav", ".webm", ".wma"),
    )
)


@dataclass(frozen=True, kw_only=True, slots=True)
class SoundHeader:
    """What a sound file states of itself; of several sounds in a file, the first but for MP3."""

    format: str  # as libsndfile names it
    sample_rate: int  # Hz
    num_channels: int
    num_samples: int  # of each channel

    @property
    def seconds(self) -> float:
        """Of sound."""
        return self.num_samples / self.sample_rate


def file_blocks(file: IO[bytes], raw: RawFormat | None, name: str | None, *, track: int | None = None) -> RatedBlocks:
    """The blocks of all sounds of a file, more than one where files were written one after another; closes the file.

    Args:
        file: as `asr.audio.source.open_sound` gives it.
        raw: given, the file has no header, but this format.
        name: what errors call it.
        track: as for `ffmpeg_blocks`; what libsndfile reads has one.
    Raises:
        DataError: it is not sound, or only ffmpeg could read it and there is none.
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
                _warn(f"{name}: nothing after byte {part.begin} can be read ({reason})")
                return
            elif raw is not None:
                raise DataError(f"cannot be read as {raw}: {reason}", path=name)
            else:
                yield from ffmpeg_blocks(file, name, reason, track=track)
                end = mp4_end(data := FileBytes(file, os.fstat(file.fileno()).st_size))
                _warn_of_unread(unread_bytes(data, end), name)
                return


def sound_header(path: str | os.PathLike[str]) -> SoundHeader:
    """What a sound file states of itself; the frames of an MP3 are counted, since what it states may be a guess.

    Raises:
        soundfile.LibsndfileError: the file cannot be opened, or is not one that libsndfile reads.
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
    """Whether a file is one sound and nothing else of its size, so that any reader finds in it what `read_audio` does.

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
        # Where decoding fails soundfile does not say how many frames came before; the NaN left over do.
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

    there = max(0, decoded - first)
    stated = stated_frames(sound, part, file)
    if not part.complete and there:
        _warn(f"{name}: truncated: {there / rate:.3f} s are there and used; how much is missing is not stated")
    elif stated is not None and 0 < there < stated:
        missing = f"{(stated - there) / rate:.3f} s of {stated / rate:.3f} s are missing"
        _warn(f"{name}: truncated or damaged: {missing}{problem}; what is there is used")
    _warn_of_unread(part.unread, name)


def _warn_of_unread(count: int, name: str | None) -> None:
    if count:
        _warn(f"{name}: {count} bytes that belong to no sound, among the rest or behind it, are not read")


def header_seconds(file: IO[bytes], raw: RawFormat | None) -> float | None:
    """The duration that the headers of a file state; None where they cannot tell."""
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
