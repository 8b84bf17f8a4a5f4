"""The sound of an utterance of a manifest."""

from __future__ import annotations

from io import BytesIO

import numpy as np

from asr.audio import Waveform, stream_audio
from asr.data.manifest import Utterance
from asr.errors import DataError


def read_waveform(utterance: Utterance, sample_rate: int, *, sound: bytes | None = None) -> Waveform:
    """(N,) float32: the utterance's stretch of its recording, shorter where the recording ends before it does.

    Args:
        utterance: whose.
        sample_rate: Hz of the result.
        sound: the content of the file, where that is in an archive.
    Raises:
        DataError: the recording cannot be read, or ends before the utterance begins.
    """
    source = utterance.audio if sound is None else _Named(sound, f"{utterance.archive}/{utterance.id}")
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


class _Named(BytesIO):
    """The content of a file, whose name errors can say."""

    def __init__(self, content: bytes, name: str):
        super().__init__(content)
        self.name = name
