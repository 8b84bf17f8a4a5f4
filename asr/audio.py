"""Mono samples at the model's rate from any sound file, stream or array; durations; pauses to cut at.

libsndfile reads wav, flac, ogg, opus, mp3, NIST sphere and more; what it refuses (m4a, mp4, webm) goes to an `ffmpeg`
program where there is one. Everything flows in blocks, so that no length a header states is ever allocated and three
hours of sound need a few megabytes:

    source --decode--> (rate, (n, channels)) --mix and check--> (rate, (n,)) --resample--> (n,) at the model's rate
"""

from __future__ import annotations

import math
import numbers
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import IO, BinaryIO, Literal, TypeAlias

import numpy as np
import soundfile
import soxr
from numpy.typing import ArrayLike, NDArray

from asr.errors import AsrError, AsrWarning, ConfigError, DataError, InputError
from asr.remote import is_url, opened

Waveform: TypeAlias = NDArray[np.float32]
Source: TypeAlias = str | os.PathLike[str] | BinaryIO | tuple[ArrayLike, int]
_RatedBlock: TypeAlias = tuple[int, Waveform]
_RatedBlocks: TypeAlias = Generator[_RatedBlock, None, None]

# What is taken from a folder; a file that is named itself may have any suffix.
SOUND_SUFFIXES = frozenset(
    (
        *(".3gp", ".aac", ".aif", ".aifc", ".aiff", ".amr", ".au", ".caf", ".flac", ".m4a", ".m4b", ".mka", ".mkv"),
        *(".mov", ".mp3", ".mp4", ".nist", ".oga", ".ogg", ".opus", ".rf64", ".sph", ".w64", ".wav", ".webm", ".wma"),
    )
)
# A damaged header may state any rate; beyond these a resampler would multiply the samples, and nothing records there.
LOWEST_SAMPLE_RATE, HIGHEST_SAMPLE_RATE = 1_000, 1_000_000
# Full scale is 1. Float files scaled as 32-bit integers exist; beyond that lies damage whose square overflows float32.
LARGEST_SAMPLE = 2.0**31
# Samples, over all channels, that are decoded at a time: 1 MB of float32.
_BLOCK_SAMPLES = 2**18
# What libsndfile answers (SF_COUNT_MAX) for a length that the header leaves open.
_UNKNOWN_FRAMES = 2**63 - 1
# Full scale and offset of integer samples, as in a wav file of that width.
_INTEGER_SCALES = {"uint8": (2.0**7, 128), "int8": (2.0**7, 0), "int16": (2.0**15, 0), "int32": (2.0**31, 0)}


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


def read_audio(
    source: Source, *, sample_rate: int = 16_000, channel: int | None = None, raw: RawFormat | None = None
) -> Waveform:
    """The whole of a sound as mono samples; `stream_audio` takes the same sources where it is long.

    Args:
        source: a path or a URL; "-" for standard input; a binary file object, read from where it stands, neither
            sought nor closed; or (samples, rate) with samples (N,) or (N, channels), samples first as in soundfile,
            floating with full scale 1, or int8, uint8, int16, int32, which are scaled to [-1, 1].
        sample_rate: Hz of the result, 1,000 to 1,000,000; resampled with soxr's HQ filter where the source differs.
        channel: the one to take, counted from 0; None averages all of them, which cancels channels of opposite phase.
        raw: given, the source is a file without a header, in this format.
    Returns:
        (N,) float32, N >= 1, finite, nominally in [-1, 1] (float files and resampling may exceed it).
    Raises:
        InputError: an option, or an array, is not as above.
        DataError: the file, named, is missing, no file, empty, not sound, without samples, has no such channel, a rate
            out of range or samples that are not finite; or only ffmpeg could read it and there is none.
    Warns:
        AsrWarning: the file is truncated or damaged; what is there is used, and the message says how much is missing.
    """
    _check_options(sample_rate, channel)
    samples = bytearray()  # grows in place: half the peak memory of a list of blocks and their concatenation
    for block in _waveform_blocks(source, sample_rate, channel, raw):
        samples += block.tobytes()
    return np.frombuffer(samples, dtype=np.float32)


def stream_audio(
    source: Source,
    *,
    sample_rate: int = 16_000,
    channel: int | None = None,
    block_seconds: float = 30.0,
    raw: RawFormat | None = None,
) -> Iterator[Waveform]:
    """Blocks of mono samples whose concatenation is `read_audio` of the same source, in bounded memory.

    Args:
        source, sample_rate, channel, raw: as for `read_audio`.
        block_seconds: length of each block but the last, which is shorter; from one sample to 3,600 s.
    Returns:
        An iterator over (n,) float32, n >= 1; each array is the caller's own.
    Raises, Warns: as `read_audio`: for the options at once, for the source when the iterator comes to it.
    """
    _check_options(sample_rate, channel)
    if not 1 <= block_seconds * sample_rate <= 3_600 * sample_rate:
        raise InputError(f"block_seconds must be at least one sample and at most 3600 s; got {block_seconds}")
    return _reblocked(_waveform_blocks(source, sample_rate, channel, raw), round(block_seconds * sample_rate))


def stream_channels(source: Source, *, raw: RawFormat | None = None) -> _RatedBlocks:
    """The blocks of a sound as it is stored, for one who judges the recording: nothing mixed, resampled or refused.

    Args:
        source, raw: as for `read_audio`.
    Returns:
        A generator of (rate in Hz, samples (n, channels) float32), n >= 1. A damaged header may state any rate, and
        samples may be NaN.
    Raises, Warns: as `read_audio`, but for rates and samples, and where there are none.
    """
    name = _name(source)
    return _array_blocks(source) if isinstance(source, tuple) else _file_blocks(_opened(source, name), raw, name)


def duration_seconds(source: Source, *, raw: RawFormat | None = None) -> float:
    """Seconds of sound in a file, from its header; decoded and counted where the header cannot tell.

    The header cannot tell for an MP3 without a Xing header, a chain of Ogg streams, a FLAC of unknown length, and
    whatever only ffmpeg reads. Of a truncated FLAC or MP3 the header tells what there should be.

    Args:
        source, raw: as for `read_audio`; a stream is consumed.
    Raises:
        InputError, DataError: as `read_audio`.
    """
    name = _name(source)
    if isinstance(source, tuple):
        blocks = _array_blocks(source)
    else:
        file = _opened(source, name)
        seconds = _header_seconds(file, raw)
        if seconds is not None:
            file.close()
            return seconds
        blocks = _file_blocks(file, raw, name)
    seconds = math.fsum(len(block) / rate for rate, block in _mono_blocks(blocks, None, name))
    if not seconds:
        raise _error("must hold sound; it holds no samples", name)
    return seconds


def quietest_cut(waveform: Waveform, sample_rate: int, *, earliest: int, latest: int, align: int = 1) -> int:
    """The sample at which to cut long sound: the middle of the longest of the quietest pauses in a range.

    Power is averaged over the 250 ms around each candidate, 10 ms apart. Candidates within 6 dB of the quietest one
    (or of -100 dB of full scale) count as pause; the middle of their longest run is taken, of the later run on a tie.
    So a deep pause wins over a dip between syllables, a long pause over a short one, and where nobody pauses, the
    deepest dip. To cut a stream: hold 30 to 40 s, cut in the later half, keep what follows the cut, read on.

    Args:
        waveform: (N,) float32.
        sample_rate: Hz.
        earliest, latest: the cut c holds earliest <= c < latest, in samples; 0 <= earliest < latest <= N.
        align: c is a multiple of it: the samples of one frame of the model, so that frames go on across the cut.
    Raises:
        InputError: an argument is not as above, or no multiple of `align` lies in the range.
    """
    if waveform.ndim != 1:
        raise InputError(f"waveform must be (samples,); got shape {waveform.shape}")
    if not 0 <= earliest < latest <= len(waveform):
        raise InputError(f"0 <= earliest < latest <= {len(waveform)} samples must hold; got {earliest}, {latest}")
    if align < 1 or sample_rate < 1:
        raise InputError(f"align and sample_rate must be at least 1; got {align}, {sample_rate}")
    step = align * max(1, round(0.01 * sample_rate / align))
    candidates = np.arange(-(-earliest // align) * align, latest, step)
    if not len(candidates):
        raise InputError(f"a multiple of align={align} must lie in [{earliest}, {latest}); none does")

    half = max(1, round(0.125 * sample_rate))
    start, end = max(0, earliest - half), min(len(waveform), latest + half)
    nearby = waveform[start:end].astype(np.float64)
    nearby -= nearby.mean()  # a constant offset would drown the pauses
    energy = np.concatenate([[0.0], np.cumsum(nearby**2)])  # energy[i]: of the first i samples
    low, high = np.maximum(candidates - half, start) - start, np.minimum(candidates + half, end) - start
    power = (energy[high] - energy[low]) / (high - low)

    quiet = power <= 4 * max(power.min(), 1e-10)
    borders = np.flatnonzero(np.diff(quiet, prepend=False, append=False))
    starts, ends = borders[::2], borders[1::2]  # runs [start, end) of quiet candidates
    longest = len(starts) - 1 - np.argmax((ends - starts)[::-1])
    return int(candidates[(starts[longest] + ends[longest] - 1) // 2])


def rate_range() -> str:
    """The sample rates that can be read, for messages."""
    return f"{LOWEST_SAMPLE_RATE} to {HIGHEST_SAMPLE_RATE} Hz"


def _check_options(sample_rate: int, channel: int | None) -> None:
    if not isinstance(sample_rate, numbers.Integral) or not LOWEST_SAMPLE_RATE <= sample_rate <= HIGHEST_SAMPLE_RATE:
        raise InputError(f"sample_rate must be an integer, {rate_range()}; got {sample_rate!r}")
    if channel is not None and (not isinstance(channel, numbers.Integral) or channel < 0):
        raise InputError(f"channel must be None or an integer from 0; got {channel!r}")


def _name(source: Source) -> str | None:
    """What errors call the source; None for an array."""
    if isinstance(source, tuple):
        return None
    if isinstance(source, str | os.PathLike):
        return "<stdin>" if source == "-" else os.fsdecode(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "<stream>"


def _error(message: str, name: str | None) -> AsrError:
    return InputError(message) if name is None else DataError(message, path=name)


def _problem(error: soundfile.LibsndfileError) -> str:
    return error.error_string.removeprefix("Error : ").rstrip(". ")


def _warn(message: str) -> None:
    warnings.warn(AsrWarning(message), stacklevel=3)


# --- the pipeline


def _waveform_blocks(
    source: Source, sample_rate: int, channel: int | None, raw: RawFormat | None
) -> Generator[Waveform, None, None]:
    name = _name(source)
    total = 0
    decoded = _array_blocks(source) if isinstance(source, tuple) else _file_blocks(_opened(source, name), raw, name)
    with closing(_mono_blocks(decoded, channel, name)) as blocks:
        # The links of a chained file may differ in rate; each run of one rate passes through one resampler.
        for rate, run in groupby(blocks, key=itemgetter(0)):
            for block in _resampled(map(itemgetter(1), run), rate, sample_rate):
                total += len(block)
                yield block
    if not total:
        raise _error("must hold sound; it holds no samples", name)


def _mono_blocks(decoded: _RatedBlocks, channel: int | None, name: str | None) -> _RatedBlocks:
    """The decoded blocks mixed to one channel, with every sample and header field checked."""
    position = 0
    with closing(decoded):
        for rate, block in decoded:
            if not LOWEST_SAMPLE_RATE <= rate <= HIGHEST_SAMPLE_RATE:
                raise _error(f"the sample rate must be {rate_range()}; it is {rate}", name)
            if channel is not None and channel >= block.shape[1]:
                raise _error(f"channel must be below the number of channels, {block.shape[1]}; got {channel}", name)
            with np.errstate(over="ignore", invalid="ignore"):
                planar = np.ascontiguousarray(block.T)  # (n, channels) -> (channels, n); its mean is 10 times faster
                mono = np.mean(planar, axis=0) if channel is None else planar[channel]
            usable = np.abs(mono) <= LARGEST_SAMPLE  # false for NaN
            if not usable.all():
                first = int(np.argmin(usable))
                seconds = (position + first) / rate
                raise _error(f"samples must be finite, full scale 1; the one at {seconds:.3f} s is {mono[first]}", name)
            position += len(mono)
            yield rate, mono


def _resampled(blocks: Iterable[Waveform], rate: int, sample_rate: int) -> Iterator[Waveform]:
    if rate == sample_rate:
        yield from blocks
        return
    resampler = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.empty(0, np.float32), last=True)


def _reblocked(blocks: Generator[Waveform, None, None], size: int) -> Iterator[Waveform]:
    buffer, filled = np.empty(size, np.float32), 0
    with closing(blocks):
        for block in blocks:
            while len(block):
                taken = min(size - filled, len(block))
                buffer[filled : filled + taken] = block[:taken]
                block, filled = block[taken:], filled + taken
                if filled == size:
                    yield buffer
                    buffer, filled = np.empty(size, np.float32), 0
    if filled:
        yield buffer[:filled]


# --- decoding: arrays, files, and what ffmpeg reads; each yields (rate, (n, channels)), n >= 1, the rest unchecked


def _array_blocks(source: tuple[ArrayLike, int]) -> _RatedBlocks:
    if len(source) != 2:
        raise InputError(f"a sound in memory must be (samples, rate); got a tuple of {len(source)}")
    samples, rate = source
    if not isinstance(rate, numbers.Real) or not float(rate).is_integer():
        raise InputError(f"the rate of (samples, rate) must be a whole number of Hz; got {rate!r}")
    try:
        array = np.asarray(samples)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"samples must be an array; got {type(samples).__name__} ({error})") from error
    if array.ndim not in (1, 2) or array.size == 0 or (array.ndim == 2 and array.shape[1] > array.shape[0]):
        raise InputError(f"samples must be (N,) or (N, channels), at least one and samples first; got {array.shape}")
    if not np.issubdtype(array.dtype, np.floating) and array.dtype.name not in _INTEGER_SCALES:
        raise InputError(f"samples must be floating, int8, uint8, int16 or int32; got {array.dtype}")
    scale, offset = _INTEGER_SCALES.get(array.dtype.name, (1.0, 0.0))
    array = array.reshape(len(array), -1)
    size = max(1, _BLOCK_SAMPLES // array.shape[1])
    for start in range(0, len(array), size):
        with np.errstate(over="ignore"):
            block = array[start : start + size].astype(np.float32)
        yield int(rate), (block - np.float32(offset)) / np.float32(scale)


def _file_blocks(file: IO[bytes], raw: RawFormat | None, name: str | None) -> _RatedBlocks:
    """The blocks of all streams of a file, one but for chained Ogg and concatenated MP3; closes the file."""
    try:
        sound, reason = None, "its header states no samples"
        try:
            sound = _Sound(file, raw)
        except soundfile.LibsndfileError as error:
            reason = _problem(error)
        if sound is None or sound.frames <= 0:
            if raw is not None:
                raise DataError(f"cannot be read as {raw}: {reason}", path=name)
            yield from _ffmpeg_blocks(file.name, name, reason)
            return
        while True:
            with sound:
                following = yield from _sound_blocks(sound, file, name)
            if following is None:
                return
            # libsndfile reads the first stream only, so the rest becomes a file of its own.
            os.lseek(file.fileno(), following, os.SEEK_SET)
            with file as whole:
                file = _copied(whole, name)
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


def _sound_blocks(sound: _Sound, file: IO[bytes], name: str | None) -> Generator[_RatedBlock, None, int | None]:
    """The blocks of one stream of a file; returns where the next one begins, if one follows it."""
    size = max(1, _BLOCK_SAMPLES // sound.channels)
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


def _ffmpeg_blocks(path: str, name: str | None, reason: str) -> _RatedBlocks:
    """The blocks of the first sound track, decoded by ffmpeg to AU, whose short header can be read from a pipe."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise DataError(
            f"must be sound; libsndfile cannot read it ({reason}); for m4a, mp4, webm and the like an `ffmpeg` program "
            "must be on PATH and there is none: install ffmpeg, or convert the file to wav or flac",
            path=name,
        )
    # `file:` and the whitelist: no name, and no playlist in a file, opens an address.
    command = [program, "-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+info"]
    command += ["-protocol_whitelist", "file,pipe", "-i", f"file:{path}", "-map", "0:a:0"]
    command += ["-f", "au", "-c:a", "pcm_f32be", "pipe:1"]
    decoded, rate = 0, 0
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        assert process.stdout is not None
        try:
            header = process.stdout.read(24)
            if len(header) == 24:
                _, start, _, _, rate, channels = struct.unpack(">4s5I", header)
                process.stdout.read(start - 24)
                size = 4 * channels * max(1, _BLOCK_SAMPLES // channels)
                while data := process.stdout.read(size):
                    block = np.frombuffer(data[: len(data) // (4 * channels) * 4 * channels], ">f4")
                    decoded += len(block) // channels
                    yield rate, block.astype(np.float32).reshape(-1, channels)
        except BaseException:
            process.kill()  # the reader stopped early; ffmpeg would wait at a full pipe for ever
            raise
        process.wait()
        log.seek(0)
        report = log.read(2**20).decode(errors="replace")
    problems = re.findall(r"\[(?:error|fatal)\] (.*)", report)
    if not decoded:
        detail = problems[0] if problems else "it found no samples"
        raise DataError(f"must be sound; libsndfile cannot read it ({reason}), nor can ffmpeg ({detail})", path=name)
    if problems:
        stated = re.search(r"Duration: ([\d:.]+)", report)
        whole = f" of {stated[1]}" if stated else ""
        _warn(f"{name}: truncated or damaged: ffmpeg decoded {decoded / rate:.3f} s{whole} ({problems[0]})")


# --- files: opening them, and what their headers tell beyond libsndfile


def _opened(source: str | os.PathLike[str] | BinaryIO, name: str | None) -> IO[bytes]:
    """A regular file that is not empty, with a descriptor and a name; the caller closes it."""
    if isinstance(source, str) and source == "-":
        return _copied(sys.stdin.buffer, name)
    if isinstance(source, str) and is_url(source):
        with opened(source) as stream:
            return _copied(stream, name)
    if not isinstance(source, str | os.PathLike):
        if not hasattr(source, "read"):
            kinds = 'a path, "-", a binary file object or (samples, rate)'
            raise InputError(f"a sound must be {kinds}; got {type(source).__name__}")
        return _copied(source, name)
    try:
        file = open(os.fsdecode(source), "rb", buffering=0)  # noqa: SIM115
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise DataError(f"cannot be opened: {getattr(error, 'strerror', error)}", path=name) from error
    mode = os.fstat(file.fileno()).st_mode
    if stat.S_ISFIFO(mode):
        with file:
            return _copied(file, name)
    if not stat.S_ISREG(mode):
        file.close()
        raise DataError("must be a file or a pipe; it is a device", path=name)
    return _not_empty(file, name)


def _copied(stream: IO[bytes], name: str | None) -> IO[bytes]:
    """The rest of a stream as a temporary file, gone once closed: decoders seek, pipes do not."""
    try:
        copy = tempfile.NamedTemporaryFile(prefix="asr-")  # noqa: SIM115
        while block := _read(stream, name):
            copy.write(block)
        copy.flush()
    except OSError as error:
        reason = f"its copy in {tempfile.gettempdir()} cannot be written: {error.strerror}"
        raise DataError(reason, path=name) from error
    return _not_empty(copy, name)


def _read(stream: IO[bytes], name: str | None) -> bytes:
    try:
        block = stream.read(2**20)
    except AsrError:
        raise
    except (OSError, ValueError) as error:  # ValueError: closed
        raise DataError(f"cannot be read as a binary stream: {error}", path=name) from error
    if not isinstance(block, bytes | bytearray | memoryview):
        kind = type(block).__name__
        raise DataError(f"cannot be read as a binary stream: it gives {kind}, not bytes", path=name)
    return bytes(block)


def _not_empty(file: IO[bytes], name: str | None) -> IO[bytes]:
    if os.fstat(file.fileno()).st_size == 0:
        file.close()
        raise DataError("must hold sound; it is empty (0 bytes)", path=name)
    return file


def _header_seconds(file: IO[bytes], raw: RawFormat | None) -> float | None:
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
