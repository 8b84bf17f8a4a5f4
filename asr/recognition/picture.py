"""A picture of a recording: spectrogram, probabilities of the labels, words."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from asr.audio.waveform import Source, stream_audio
from asr.errors import AsrWarning
from asr.output.pictures import MOST_SECONDS, transcript_picture
from asr.text.aligned_text import Segment
from asr.text.subwords import Subwords
from asr.text.transcript import Timeline, Word

if TYPE_CHECKING:
    from asr.recognition.recognizer import Recognizer


def draw_recording(
    path: str | os.PathLike[str],
    recognizer: Recognizer,
    source: Source,
    words: Sequence[Word | Segment],
    timeline: Timeline,
    *,
    note: Callable[[str], object] = lambda sentence: None,
    **sound: Any,
) -> None:
    """Draw the first `MOST_SECONDS` of a recording as a PNG; see `transcript_picture`.

    Args:
        path: file of the picture.
        source: the recording; the part in the picture is read again.
        words, timeline: of its transcript or aligned text.
        note: called with a message if the picture shows only the beginning.
        sound: as for `read_audio`.
    """
    model = recognizer.model
    blocks = stream_audio(source, sample_rate=model.sample_rate, block_seconds=MOST_SECONDS, **sound)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AsrWarning)  # the first reading has given these warnings
        waveform = next(blocks)
    emission, _ = recognizer.long_log_probs((waveform, model.sample_rate))
    transcript_picture(
        path,
        waveform=waveform,
        sample_rate=model.sample_rate,
        emission=emission,
        characters=model.alphabet.pieces if isinstance(model.alphabet, Subwords) else model.alphabet.characters,
        words=words,
        timeline=timeline,
    )
    if timeline.duration_seconds > MOST_SECONDS:
        note(f"{path} shows the first {MOST_SECONDS:g} of {timeline.duration_seconds:.0f} seconds")
