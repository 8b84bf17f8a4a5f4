"""--plot: what a model heard of a recording, and when."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.cli.command import say
from asr.errors import AsrWarning

if TYPE_CHECKING:
    from asr.acoustic.model import AcousticModel
    from asr.audio.waveform import Source, Waveform
    from asr.recognition.aligner import Segment
    from asr.recognition.recognizer import Emission
    from asr.text.transcript import Timeline, Word


def first_seconds(source: Source, model: AcousticModel, **heard: Any) -> Waveform:
    """As much of a sound as a picture shows, at the model's rate; `heard` as for `read_audio`.

    It is read once more: what it warns of is known.
    """
    from asr.audio.waveform import stream_audio
    from asr.output.pictures import MOST_SECONDS

    blocks = stream_audio(source, sample_rate=model.sample_rate, block_seconds=MOST_SECONDS, **heard)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AsrWarning)
        return next(blocks)


def draw(
    path: Path,
    waveform: Waveform,
    emission: Emission,
    words: Sequence[Word | Segment],
    timeline: Timeline,
    model: AcousticModel,
    *,
    prog: str | None,
) -> None:
    """Writes the picture, and under the name `prog`, if that is not None, a note if it shows only the beginning."""
    from asr.output.pictures import MOST_SECONDS, transcript_picture

    transcript_picture(
        path,
        waveform=waveform,
        sample_rate=model.sample_rate,
        emission=emission,
        characters=model.alphabet.characters,
        words=words,
        timeline=timeline,
    )
    if prog is not None and timeline.duration_seconds > MOST_SECONDS:
        say(f"note: {path} shows the first {MOST_SECONDS:g} of {timeline.duration_seconds:.0f} seconds", prog=prog)
