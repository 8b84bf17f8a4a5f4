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

_SEEKABLE = frozenset(("AIFF", "AU", "FLAC", "NIST", "RF64", "W64", "WAV", "WAVEX"))  # seeks are exact to the sample
_FAR = 2.0  # seconds after which seeking is faster
_MARGIN = 0.1  # seconds around a stretch for the filter of the resampler

Sounds: TypeAlias = Mapping[tuple[str, str], bytes]
"""The content of sound files in archives, by `Utterance.place`."""


def read_waveform(utterance: Utterance, sample_rate: int, *, sounds: Sounds | None = None) -> Waveform:
    """The samples of an utterance, (N,) float32; fewer if the recording ends before the utterance.

    Args:
        utterance: in a file or an archive.
        sample_rate: Hz of the result.
        sounds: the content of its file, if it is in an archive.
    Raises:
        DataError: the recording cannot be read, or ends before the utterance begins.
    """
    if not utterance.archive and utterance.start_seconds > _FAR:
        waveform = _seek_waveform(utterance, sample_rate)
        if waveform is not None:
            return waveform
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


def _seek_waveform(utterance: Utterance, sample_rate: int) -> Waveform | None:
    """The samples of an utterance, without decoding the file up to it; None if it cannot seek, or on any error."""
    try:
        with (
            open_regular(utterance.audio) as file,
            silenced(),
            soundfile.SoundFile(file.fileno(), closefd=False) as audio,
        ):
            rate = audio.samplerate
            step = rate // math.gcd(rate, sample_rate)  # frames after which both rates have a sample at the same time
            first = int(max(utterance.start_seconds - _MARGIN, 0.0) * rate) // step * step
            end_seconds = utterance.start_seconds + utterance.duration_seconds
            if end_seconds * rate > audio.frames:
                return None  # the file may be truncated
            last = min(math.ceil((end_seconds + _MARGIN) * rate), audio.frames)
            if audio.format not in _SEEKABLE or utterance.channel >= audio.channels:
                return None
            chunks = wav_chunks(FileBytes(file, os.fstat(file.fileno()).st_size), 0)
            if chunks is not None and len(chunks.data) != 1:
                return None  # libsndfile reads the last chunk only
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
    """The content of a file, with its name for errors."""

    def __init__(self, content: bytes, name: str):
        super().__init__(content)
        self.name = name
