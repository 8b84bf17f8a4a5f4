"""The sound of an utterance of a manifest."""

from __future__ import annotations

from asr.audio import Waveform, read_audio
from asr.data.manifest import Utterance
from asr.errors import DataError


def read_waveform(utterance: Utterance, sample_rate: int) -> Waveform:
    """(N,) float32: the utterance's stretch of its recording, shorter where the recording ends before it does.

    Raises:
        DataError: the recording cannot be read, or ends before the utterance begins.
    """
    waveform = read_audio(utterance.audio, sample_rate=sample_rate, channel=utterance.channel)
    start = round(utterance.start_seconds * sample_rate)
    if start >= len(waveform):
        raise DataError(
            f"the recording must reach the start of {utterance.id!r}, {utterance.start_seconds:g} s, "
            f"but ends at {len(waveform) / sample_rate:g} s",
            path=utterance.audio,
        )
    return waveform[start : start + round(utterance.duration_seconds * sample_rate)]
