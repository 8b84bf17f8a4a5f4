"""The page of a recording: its transcript with its sound, compressed."""

from __future__ import annotations

import io
import os
import warnings
from typing import Any

import soundfile

from asr.audio.waveform import stream_audio
from asr.errors import AsrWarning, ConfigError
from asr.output.page import to_page
from asr.output.subtitles import SubtitleOptions
from asr.text.transcript import Transcript

_RATE = 16_000
_COMPRESSION = 0.9  # of 0 .. 1: about 30 kbit/s


def recording_page(
    source: str | os.PathLike[str], transcript: Transcript, subtitles: SubtitleOptions | None = None, **sound: Any
) -> str:
    """The HTML page of a recording, whose sound is read again and compressed as MP3, which all browsers play.

    Args:
        source: the recording.
        sound: as for `read_audio`.
    Raises:
        ConfigError: this libsndfile cannot write MP3.
    """
    if "MP3" not in soundfile.available_formats():
        raise ConfigError("a page needs MP3, which this libsndfile cannot write: pip install --upgrade soundfile")
    compressed = io.BytesIO()
    with (
        soundfile.SoundFile(
            compressed, "w", samplerate=_RATE, channels=1, format="MP3", compression_level=_COMPRESSION
        ) as file,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", AsrWarning)  # the first reading has given these warnings
        for block in stream_audio(source, sample_rate=_RATE, **sound):
            file.write(block)
    return to_page(transcript, compressed.getvalue(), subtitles=subtitles)
