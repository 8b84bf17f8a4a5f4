"""Mono samples at the model's rate from any sound file, stream or array; durations; pauses to cut at.

libsndfile reads wav, flac, ogg, opus, mp3, NIST sphere and more; an `ffmpeg` program, if installed, reads the rest
(m4a, mp4, webm). All sound is read in blocks: memory does not depend on the length in the header, and three hours need
a few megabytes:

    source --decode--> (rate, (n, channels)) --mix and check--> (rate, (n,)) --resample--> (n,) at the model's rate
"""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from itertools import groupby
from operator import itemgetter
from typing import BinaryIO, TypeAlias

import numpy as np
import soxr
from numpy.typing import ArrayLike

from asr.audio.libsndfile import (
    BLOCK_SAMPLES,
    HIGHEST_SAMPLE_RATE,
    LOWEST_SAMPLE_RATE,
    RatedBlocks,
    RawFormat,
    Waveform,
    rate_range,
)
from asr.audio.mixing import Mixer
from asr.audio.sound_files import file_blocks, header_seconds
from asr.audio.source import MAX_INPUT_BYTES, open_sound
from asr.errors import AsrError, DataError, InputError

Source: TypeAlias = str | os.PathLike[str] | BinaryIO | tuple[ArrayLike, int]

# Full scale is 1. Some float files are scaled as 32-bit integers; larger samples are damage: their squares overflow.
LARGEST_SAMPLE = 2.0**31
# Full scale and offset of integer samples, as in a wav file of that width.
_INTEGER_SCALES = {"uint8": (2.0**7, 128), "int8": (2.0**7, 0), "int16": (2.0**15, 0), "int32": (2.0**31, 0)}


def read_audio(
    source: Source,
    *,
    sample_rate: int = 16_000,
    channel: int | None = None,
    track: int | None = None,
    raw: RawFormat | None = None,
    max_input_bytes: int = MAX_INPUT_BYTES,
) -> Waveform:
    """A whole sound as mono samples; for long sound, see `stream_audio`.

    Several sounds in one file, as joined MP3s or WAVs, are read as one sound.

    Args:
        source: a path or a URL; "-" for standard input; a binary file object, read from its position on, not sought
            or closed; or (samples, rate) with samples (N,) or (N, channels), as in soundfile: floating with full scale
            1, or int8, uint8, int16, int32, which are scaled to [-1, 1].
        sample_rate: Hz of the result, 1,000 to 1,000,000; other rates are resampled with soxr's HQ filter.
        channel: counted from 0; None averages all channels, or takes the louder one where they cancel each other, with
            a warning.
        track: the sound track of a file with several, counted from 0; None takes the one flagged default, and a
            warning names the others.
        raw: format of a file without a header.
        max_input_bytes: largest size of a stream (standard input, a pipe, a file object, a URL); it is copied to disk.
    Returns:
        (N,) float32, N >= 1, finite, nominally in [-1, 1] (float files and resampling may exceed it).
    Raises:
        InputError: an option or an array is not as above.
        DataError: the file is missing, empty, not a file, not sound or without samples; it has no such channel or
            track, a rate out of range, or samples that are not finite; it needs ffmpeg and there is none; a stream is
            too long; or a named pipe gives no data for a minute.
    Warns:
        AsrWarning: the file is truncated or damaged, or has bytes that belong to no sound; the rest is used, and
            the message says how much is missing or not read.
        ChoiceWarning, an AsrWarning: it has several sound tracks, or channels that cancel each other.
    """
    _check_options(sample_rate, channel, track)
    samples = bytearray()  # grows in place: half the peak memory of a list of blocks and their concatenation
    for block in _waveform_blocks(_decoded(source, track, raw, max_input_bytes), source, sample_rate, channel):
        samples += block.tobytes()
    return np.frombuffer(samples, dtype=np.float32)


def stream_audio(
    source: Source,
    *,
    sample_rate: int = 16_000,
    channel: int | None = None,
    track: int | None = None,
    block_seconds: float = 30.0,
    raw: RawFormat | None = None,
    max_input_bytes: int = MAX_INPUT_BYTES,
) -> Iterator[Waveform]:
    """Blocks of mono samples, in bounded memory; their concatenation is `read_audio` of the same source.

    Args:
        source, sample_rate, channel, track, raw, max_input_bytes: as for `read_audio`.
        block_seconds: length of the blocks, the last of which may be shorter; from one sample to 3,600 s.
    Returns:
        An iterator over (n,) float32, n >= 1; each array is a new one.
    Raises, Warns: as `read_audio`: about options at once, about the source while it is read.
    """
    _check_options(sample_rate, channel, track)
    if not 1 <= block_seconds * sample_rate <= 3_600 * sample_rate:
        raise InputError(f"block_seconds must be at least one sample and at most 3600 s; got {block_seconds}")
    decoded = _decoded(source, track, raw, max_input_bytes)
    return _reblocked(_waveform_blocks(decoded, source, sample_rate, channel), round(block_seconds * sample_rate))


def stream_channels(source: Source) -> RatedBlocks:
    """The blocks of a sound as stored: not mixed, resampled or checked.

    Returns:
        A generator of (rate in Hz, samples (n, channels) float32), n >= 1. The rate may be wrong (from a damaged
    header), and samples may be NaN. Raises, Warns: as `read_audio`, except about rates, samples, and sound without
    samples.
    """
    return _decoded(source, None, None, MAX_INPUT_BYTES)


def duration_seconds(source: Source, *, track: int | None = None, raw: RawFormat | None = None) -> float:
    """Seconds of sound in a file, from its headers, or by decoding if they do not state it.

    A FLAC of unknown length, and any file that only ffmpeg reads, is decoded. A truncated FLAC or MP3 has the duration
    that its header states.

    Args:
        source, track, raw: as for `read_audio`; a stream is consumed.
    Raises:
        InputError, DataError: as `read_audio`.
    """
    name = _name(source)
    if isinstance(source, tuple):
        blocks = _array_blocks(source)
    else:
        file = open_sound(source, name)
        seconds = None if track else header_seconds(file, raw)
        if seconds is not None:
            file.close()
            return seconds
        blocks = file_blocks(file, raw, name, track=track)
    seconds = math.fsum(len(block) / rate for rate, block in mono_blocks(blocks, None, name))
    if not seconds:
        raise _error("must hold sound; it holds no samples", name)
    return seconds


def stated_seconds(path: str | os.PathLike[str]) -> float | None:
    """Seconds of sound in a file, from its headers; None if they do not state it, or the file cannot be read."""
    try:
        with open_sound(path, os.fsdecode(path)) as file:
            return header_seconds(file, None)
    except AsrError:
        return None


def quietest_cut(waveform: Waveform, sample_rate: int, *, earliest: int, latest: int, align: int = 1) -> int:
    """The sample at which to cut long sound: the middle of the longest of the quietest pauses in a range.

    Power is averaged over 250 ms around each candidate, 10 ms apart. Candidates within 6 dB of the quietest one (or of
    -100 dB of full scale) are a pause. The cut is in the middle of the longest pause, the later one on a tie. So a deep
    pause wins over a dip between syllables, a long pause over a short one, and without pauses the deepest dip. To cut a
    stream: read 30 to 40 s, cut in the second half, keep the samples after the cut, read on.

    Args:
        waveform: (N,) float32.
        sample_rate: Hz.
        earliest, latest: range of the cut c in samples, earliest <= c < latest; 0 <= earliest < latest <= N.
        align: c is a multiple of it; give the samples per model frame, so that frames continue across the cut.
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


def _check_options(sample_rate: int, channel: int | None, track: int | None) -> None:
    if not isinstance(sample_rate, numbers.Integral) or not LOWEST_SAMPLE_RATE <= sample_rate <= HIGHEST_SAMPLE_RATE:
        raise InputError(f"sample_rate must be an integer, {rate_range()}; got {sample_rate!r}")
    for name, number in (("channel", channel), ("track", track)):
        if number is not None and (not isinstance(number, numbers.Integral) or number < 0):
            raise InputError(f"{name} must be None or an integer from 0; got {number!r}")


def _name(source: Source) -> str | None:
    """The name of the source in errors; None for an array."""
    if isinstance(source, tuple):
        return None
    if isinstance(source, str | os.PathLike):
        return "<stdin>" if source == "-" else os.fsdecode(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "<stream>"


def _error(message: str, name: str | None) -> AsrError:
    return InputError(message) if name is None else DataError(message, path=name)


def _decoded(source: Source, track: int | None, raw: RawFormat | None, max_input_bytes: int) -> RatedBlocks:
    """The blocks of a sound as stored; the source is opened at the first block."""
    name = _name(source)
    if track and (raw or isinstance(source, tuple)):
        raise _error(f"track must be below the number of sound tracks, 1; got {track}", name)
    if isinstance(source, tuple):
        yield from _array_blocks(source)
    else:
        yield from file_blocks(open_sound(source, name, max_bytes=max_input_bytes), raw, name, track=track)


def _waveform_blocks(
    decoded: RatedBlocks, source: Source, sample_rate: int, channel: int | None
) -> Generator[Waveform, None, None]:
    name = _name(source)
    total = 0
    with closing(mono_blocks(decoded, channel, name)) as blocks:
        # The sounds of a joined file may differ in rate; one resampler for each run of the same rate.
        for rate, run in groupby(blocks, key=itemgetter(0)):
            for block in _resampled(map(itemgetter(1), run), rate, sample_rate):
                total += len(block)
                yield block
    if not total:
        raise _error("must hold sound; it holds no samples", name)


def mono_blocks(decoded: RatedBlocks, channel: int | None, name: str | None) -> RatedBlocks:
    """The decoded blocks mixed to one channel, with every sample and header field checked."""
    position, mixer = 0, Mixer(name)
    with closing(decoded):
        for rate, block in decoded:
            if not LOWEST_SAMPLE_RATE <= rate <= HIGHEST_SAMPLE_RATE:
                raise _error(f"the sample rate must be {rate_range()}; it is {rate}", name)
            if channel is not None and channel >= block.shape[1]:
                raise _error(f"channel must be below the number of channels, {block.shape[1]}; got {channel}", name)
            with np.errstate(over="ignore", invalid="ignore"):
                planar = np.ascontiguousarray(block.T)  # (n, channels) -> (channels, n); its mean is 10 times faster
                mono = planar[channel] if channel is not None else mixer.mixed(planar, rate, position)
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
                num_samples = min(size - filled, len(block))
                buffer[filled : filled + num_samples] = block[:num_samples]
                block, filled = block[num_samples:], filled + num_samples
                if filled == size:
                    yield buffer
                    buffer, filled = np.empty(size, np.float32), 0
    if filled:
        yield buffer[:filled]


def _array_blocks(source: tuple[ArrayLike, int]) -> RatedBlocks:
    """The blocks of a sound in memory."""
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
    size = max(1, BLOCK_SAMPLES // array.shape[1])
    for start in range(0, len(array), size):
        with np.errstate(over="ignore"):
            block = array[start : start + size].astype(np.float32)
        yield int(rate), (block - np.float32(offset)) / np.float32(scale)
