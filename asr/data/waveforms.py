"""The sound of an utterance of a manifest."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from io import BytesIO
from typing import TypeAlias

import numpy as np
import soundfile

from asr.audio.c_streams import silenced
from asr.audio.excerpts import FileBytes
from asr.audio.wav_chunks import wav_chunks
from asr.audio.waveform import Source, Waveform, read_audio, stream_audio
from asr.data.manifest import Utterance
from asr.errors import DataError, InputError
from asr.files.reading import open_regular

_SOUGHT = frozenset(("AIFF", "AU", "FLAC", "NIST", "RF64", "W64", "WAV", "WAVEX"))  # whose samples are found exactly
_FAR = 2.0  # seconds from which on it pays
_MARGIN = 0.1  # seconds around a stretch that the resampler's filter sees


Sounds: TypeAlias = Mapping[tuple[str, str], bytes]
"""The content of sound files that are in archives, by `Utterance.place`."""


def read_waveform(utterance: Utterance, sample_rate: int, *, sounds: Sounds | None = None) -> Waveform:
    """(N,) float32: the utterance's stretch of its recording, shorter where the recording ends before it does.

    Args:
        utterance: whose.
        sample_rate: Hz of the result.
        sounds: has the content of its file, if that is in an archive.
    Raises:
        DataError: the recording cannot be read, or ends before the utterance begins.
    """
    if not utterance.archive and utterance.start_seconds > _FAR:
        sought = _sought(utterance, sample_rate)
        if sought is not None:
            return sought
    source: Source = utterance.audio
    if utterance.archive:
        source = _Named((sounds or {})[utterance.place], "/".join(utterance.place))
    start = round(utterance.start_seconds * sample_rate)
    end = start + round(utterance.duration_seconds * sample_rate)
    parts: list[Waveform] = []
    position = 0
    for block in stream_audio(source, sample_rate=sample_rate, channel=utterance.channel):
        parts.append(block[max(start - position, 0) : max(end - position, 0)])
        position += len(block)
        if position >= end:
            break
    if start >= position:
        raise DataError(
            f"the recording must reach the start of {utterance.id!r}, {utterance.start_seconds:g} s, "
            f"but ends at {position / sample_rate:g} s",
            path=utterance.audio,
        )
    return np.concatenate(parts)


def _sought(utterance: Utterance, sample_rate: int) -> Waveform | None:
    """The same without decoding what comes before; None where that cannot be, or something is wrong with the file."""
    try:
        with (
            open_regular(utterance.audio) as file,
            silenced(),
            soundfile.SoundFile(file.fileno(), closefd=False) as audio,
        ):
            rate = audio.samplerate
            step = rate // math.gcd(
                rate, sample_rate
            )  # every so many frames, a sample of the result is where a frame is
            first = int(max(utterance.start_seconds - _MARGIN, 0.0) * rate) // step * step
            end_seconds = utterance.start_seconds + utterance.duration_seconds
            if end_seconds * rate > audio.frames:
                return None  # a file that may be cut short
            last = min(math.ceil((end_seconds + _MARGIN) * rate), audio.frames)
            if audio.format not in _SOUGHT or utterance.channel >= audio.channels:
                return None
            chunks = wav_chunks(FileBytes(file, os.fstat(file.fileno()).st_size), 0)
            if chunks is not None and len(chunks.data) != 1:
                return None  # of which libsndfile knows the last
            audio.seek(first)
            samples = audio.read(last - first, dtype="float32", always_2d=True)
            waveform = read_audio((samples[:, utterance.channel], rate), sample_rate=sample_rate)
    except (OSError, soundfile.LibsndfileError, InputError):
        return None
    if len(samples) < last - first:
        return None
    start = round(utterance.start_seconds * sample_rate) - first * sample_rate // rate
    return waveform[start : start + round(utterance.duration_seconds * sample_rate)]


class _Named(BytesIO):
    """The content of a file, whose name errors can say."""

    def __init__(self, content: bytes, name: str):
        super().__init__(content)
        self.name = name
