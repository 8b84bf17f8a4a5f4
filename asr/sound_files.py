"""Sound in files, as blocks of samples: libsndfile, ffmpeg for the rest, and what headers tell beyond them.

Each decoder yields (rate, (n, channels)), n >= 1, the rest unchecked.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import IO, Literal, TypeAlias

import numpy as np
import soundfile
from numpy.typing import NDArray

from asr.errors import AsrWarning, ConfigError, DataError
from asr.ffmpeg import ffmpeg_blocks
from asr.sound_source import copied

Waveform: TypeAlias = NDArray[np.float32]
RatedBlock: TypeAlias = tuple[int, Waveform]
RatedBlocks: TypeAlias = Generator[RatedBlock, None, None]

# What is taken from a folder; a file that is named itself may have any suffix.
SOUND_SUFFIXES = frozenset(
    (
        *(".3gp", ".aac", ".aif", ".aifc", ".aiff", ".amr", ".au", ".caf", ".flac", ".m4a", ".m4b", ".mka", ".mkv"),
        *(".mov", ".mp3", ".mp4", ".nist", ".oga", ".ogg", ".opus", ".rf64", ".sph", ".w64", ".wav", ".webm", ".wma"),
    )
)
# A damaged header may state any rate; beyond these a resampler would multiply the samples, and nothing records there.
LOWEST_SAMPLE_RATE, HIGHEST_SAMPLE_RATE = 1_000, 1_000_000
# Samples, over all channels, that are decoded at a time: 1 MB of float32.
BLOCK_SAMPLES = 2**18
# What libsndfile answers (SF_COUNT_MAX) for a length that the header leaves open.
_UNKNOWN_FRAMES = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class RawFormat:
    """How to read a file of bare samples without a header, which no program can guess."""

    sample_rate: int = field(metadata={"help": "samples per second of a headerless file"})
    channels: int = field(default=1, metadata={"help": "interleaved channels of a headerless file"})
    subtype: str = field(default="PCM_16", metadata={"help": "sample type of a headerless file, as soundfile names it"})
    endian: Literal["LITTLE", "BIG"] = field(default="LITTLE", metadata={"help": "byte order of a headerless file"})

    def __post_init__(self) -> None:
        if not LOWEST_SAMPLE_RATE <= self.sample_rate <= HIGHEST_SAMPLE_RATE:
            raise ConfigError(f"sample_rate must be {rate_range()}; got {self.sample_rate}")
        if not 1 <= self.channels <= 1024:
            raise ConfigError(f"channels must be 1 to 1024; got {self.channels}")
        if self.endian not in ("LITTLE", "BIG"):
            raise ConfigError(f"endian must be LITTLE or BIG; got {self.endian!r}")
        if not soundfile.check_format("RAW", self.subtype, self.endian):
            known = ", ".join(soundfile.available_subtypes("RAW"))
            raise ConfigError(f"subtype must be one of {known}, that exists {self.endian} endian; got {self.subtype!r}")


def rate_range() -> str:
    """The sample rates that can be read, for messages."""
    return f"{LOWEST_SAMPLE_RATE} to {HIGHEST_SAMPLE_RATE} Hz"


def file_blocks(file: IO[bytes], raw: RawFormat | None, name: str | None, *, track: int | None = None) -> RatedBlocks:
    """The blocks of all streams of a file, one but for chained Ogg and concatenated MP3; closes the file.

    Args:
        file: as `asr.sound_source.open_sound` gives it.
        raw: given, the file has no header, but this format.
        name: what errors call it.
        track: as for `ffmpeg_blocks`; what libsndfile reads has one.
    Raises:
        DataError: it is not sound, or only ffmpeg could read it and there is none.
    """
    try:
        if track and raw is None:
            yield from ffmpeg_blocks(file, name, "it reads the first track", track=track)
            return
        sound, reason = None, "its header states no samples"
        try:
            sound = _Sound(file, raw)
        except soundfile.LibsndfileError as error:
            reason = _problem(error)
        if sound is None or sound.frames <= 0:
            if raw is not None:
                raise DataError(f"cannot be read as {raw}: {reason}", path=name)
            yield from ffmpeg_blocks(file, name, reason, track=track)
            return
        while True:
            with sound:
                following = yield from _sound_blocks(sound, file, name)
            if following is None:
                return
            # libsndfile reads the first stream only, so the rest becomes a file of its own.
            os.lseek(file.fileno(), following, os.SEEK_SET)
            with file as whole:
                file = copied(whole, name)
            try:
                sound = _Sound(file, None)
            except soundfile.LibsndfileError as error:
                _warn(f"{name}: nothing after byte {following} can be read ({_problem(error)})")
                return
    finally:
        file.close()


def sound_header(path: str | os.PathLike[str]) -> soundfile._SoundFileInfo:
    """What `soundfile.info` gives.

    Raises:
        soundfile.LibsndfileError: the file is not one that libsndfile reads, or its name ends in .raw.
    """
    try:
        return soundfile.info(path)
    except TypeError:  # of what is called .raw it wants to be told the rate
        raise soundfile.LibsndfileError(1, f"Error opening {os.fspath(path)!r}: ") from None


class _Sound(soundfile.SoundFile):
    """A sound file that is only ever read forwards.

    soundfile seeks after each read of a seekable file, at which the MP3 decoder loses its bit reservoir: sound read in
    blocks would crackle at their seams. By descriptor, since from a name soundfile takes `.raw` for headerless, and
    libsndfile `.vox`, whatever is in them.
    """

    def __init__(self, file: IO[bytes], raw: RawFormat | None):
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        if raw is None:
            super().__init__(file.fileno(), closefd=False)
        else:
            options = {"channels": raw.channels, "subtype": raw.subtype, "endian": raw.endian, "format": "RAW"}
            super().__init__(file.fileno(), closefd=False, samplerate=raw.sample_rate, **options)

    def seekable(self) -> bool:
        return False


def _sound_blocks(sound: _Sound, file: IO[bytes], name: str | None) -> Generator[RatedBlock, None, int | None]:
    """The blocks of one stream of a file; returns where the next one begins, if one follows it."""
    size = max(1, BLOCK_SAMPLES // sound.channels)
    rate, decoded, problem = sound.samplerate, 0, ""
    while decoded < sound.frames:
        # Where decoding fails soundfile does not say how many frames came before; the NaN left over do.
        block = np.full((min(size, sound.frames - decoded), sound.channels), np.nan, np.float32)
        try:
            count = len(sound.read(out=block))
        except soundfile.LibsndfileError as error:
            count = int(np.sum(~np.isnan(block).any(axis=1)))
            problem = f" ({_problem(error)})"
        if count == 0:
            break
        decoded += count
        yield rate, block[:count]

    following = None
    if sound.format == "OGG":
        complete, following = _ogg_end(file)
        if not complete and decoded:
            _warn(f"{name}: truncated: {decoded / rate:.3f} s are there and used; how much is missing is not stated")
    elif sound.format == "MP3" and decoded == sound.frames:
        following = _next_mp3(file)
    stated = _stated_frames(sound, file)
    if stated is not None and 0 < decoded < stated:
        missing = f"{(stated - decoded) / rate:.3f} s of {stated / rate:.3f} s are missing"
        _warn(f"{name}: truncated or damaged: {missing}{problem}; what is there is used")
    return following


def header_seconds(file: IO[bytes], raw: RawFormat | None) -> float | None:
    """The duration that the header of a file states; None where it cannot tell."""
    try:
        with _Sound(file, raw) as sound:
            told = 0 < sound.frames < _UNKNOWN_FRAMES
            told = told and LOWEST_SAMPLE_RATE <= sound.samplerate <= HIGHEST_SAMPLE_RATE
            if sound.format == "MP3":
                told = told and _has_xing_header(file)
            elif sound.format == "OGG":
                told = told and _ogg_end(file)[1] is None
            return sound.frames / sound.samplerate if told else None
    except soundfile.LibsndfileError:
        return None


def _stated_frames(sound: _Sound, file: IO[bytes]) -> int | None:
    """Frames that the header promises, where it does: libsndfile itself lowers the number to what the file holds."""
    log = sound.extra_info
    if sound.frames == _UNKNOWN_FRAMES or (sound.format == "MP3" and not _has_xing_header(file)):
        return None
    if sound.format == "NIST":
        count = re.search(rb"\nsample_count -i (\d{1,18})\n", os.pread(file.fileno(), 1024, 0))
        return int(count[1]) if count else None
    # RF64, and aiff, which at a pipe states 0.
    if frames := re.search(r"(?:from 'ds64' chunk of|read from 'COMM' chunk) \(?(\d{1,18})\b", log):
        return int(frames[1])
    # wav, w64 and au; writers that could not go back leave 2 GiB or more there.
    sizes = re.search(r"^ *(?:data|riff|Data Size) *: (\d{1,18}) \(should be (\d{1,18})\)", log, re.MULTILINE)
    if sizes and int(sizes[2]) > 0 and int(sizes[1]) < 0x7FFF_F000:
        return round(sound.frames * int(sizes[1]) / int(sizes[2]))
    return sound.frames


def _has_xing_header(file: IO[bytes]) -> bool:
    """Whether an MP3 states its length; else libsndfile guesses it from the bit rate of the first frame."""
    tag = os.pread(file.fileno(), 10, 0)
    size = 0
    if len(tag) == 10 and tag.startswith(b"ID3"):  # 28 bits, 7 to a byte
        size = 10 + sum((byte & 127) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
    frame = os.pread(file.fileno(), 256, size)
    return any(mark in frame for mark in (b"Xing", b"Info", b"VBRI"))


def _next_mp3(file: IO[bytes]) -> int | None:
    """Where MP3 frames go on after those that a Xing header, or a guess from the bit rate, has announced."""
    position = os.lseek(file.fileno(), 0, os.SEEK_CUR)  # the decoder reads frame by frame and no further
    head = os.pread(file.fileno(), 3, position)
    is_frame = len(head) == 3 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0
    return position if position and (is_frame or head == b"ID3") else None


def _ogg_end(file: IO[bytes]) -> tuple[bool, int | None]:
    """Whether the last page of an Ogg stream says that it is the last, and where a chained stream begins.

    Source: RFC 3533, section 6.
    """
    descriptor, length = file.fileno(), os.fstat(file.fileno()).st_size
    position, complete, within = 0, False, False
    while len(head := os.pread(descriptor, 27, position)) == 27 and head.startswith(b"OggS"):
        begins = bool(head[5] & 2)
        if begins and within:
            return complete, position
        lacing = os.pread(descriptor, head[26], position + 27)
        position += 27 + len(lacing) + sum(lacing)
        within = not begins
        complete = bool(head[5] & 4) and position <= length
    return complete, None


def _problem(error: soundfile.LibsndfileError) -> str:
    return error.error_string.removeprefix("Error : ").rstrip(". ")


def _warn(message: str) -> None:
    warnings.warn(AsrWarning(message), stacklevel=3)
