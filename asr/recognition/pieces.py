"""Pieces of sound, of at most 22 s each, for the batches of a model: sources cut at their pauses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from asr.acoustic.model import AcousticModel
from asr.audio.waveform import Source, Waveform, quietest_cut, stream_audio
from asr.data.manifest import Utterance
from asr.data.waveforms import read_waveform
from asr.errors import AsrError

SourceOrUtterance: TypeAlias = Source | Utterance

SHORTEST_PIECE, LONGEST_PIECE = 10.0, 20.0  # seconds, without context
CONTEXT = 1.0  # seconds of sound that a piece has on both sides of its cuts
WINDOW_SECONDS = 600.0  # sound of the pieces that are sorted by length together: 38 MB


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A piece of one source, with its context."""

    source: int  # number of the source, from 0
    waveform: Waveform  # (N,) samples at the model's rate
    first_frame: int = 0  # frame of the source where the waveform begins
    start: int = 0  # frame of the source, the cut before
    end: int = 0  # frame of the source, the cut after
    num_samples: int | None = None  # length of the whole source; None before its last piece
    error: AsrError | None = None  # of a source that cannot be read


def read_pieces(sources: Iterable[SourceOrUtterance], model: AcousticModel, **sound: Any) -> Iterator[Piece]:
    """The pieces of all sources, in order; an utterance is one piece. `sound` is for `stream_audio`."""
    rate = model.sample_rate
    for number, source in enumerate(sources):
        try:
            if isinstance(source, Utterance):
                blocks = iter([read_waveform(source, rate)])
            else:
                blocks = stream_audio(source, sample_rate=rate, block_seconds=LONGEST_PIECE, **sound)
            yield from _cut(number, blocks, model)
        except AsrError as error:
            yield Piece(source=number, waveform=np.zeros(0, dtype=np.float32), error=error)


def windows(pieces: Iterable[Piece], *, num_samples: int) -> Iterator[list[Piece]]:
    """Successive pieces in groups of at least `num_samples`; the last group may have fewer."""
    window: list[Piece] = []
    size = 0
    for piece in pieces:
        window.append(piece)
        size += len(piece.waveform)
        if size >= num_samples:
            yield window
            window, size = [], 0
    if window:
        yield window


def _cut(source: int, blocks: Iterator[Waveform], model: AcousticModel) -> Iterator[Piece]:
    """The pieces of one source, cut at its pauses; two blocks are in memory at a time."""
    step, rate = model.samples_per_frame, model.sample_rate
    shortest, longest = int(SHORTEST_PIECE * rate), int(LONGEST_PIECE * rate)
    context = round(CONTEXT * rate / step) * step
    samples = np.zeros(0, dtype=np.float32)  # from sample `first` of the source on
    first = start = 0  # `start` is the last cut
    for block in blocks:
        samples = np.concatenate([samples, block])
        while first + len(samples) - start > longest + context:
            offset = start - first
            cut = first + quietest_cut(samples, rate, earliest=offset + shortest, latest=offset + longest, align=step)
            yield Piece(
                source=source,
                waveform=samples[: cut + context - first],
                first_frame=first // step,
                start=start // step,
                end=cut // step,
            )
            samples = samples[max(cut - context - first, 0) :]
            first, start = max(cut - context, 0), cut
    num_samples = first + len(samples)
    yield Piece(
        source=source,
        waveform=samples,
        first_frame=first // step,
        start=start // step,
        end=model.output_length(num_samples),
        num_samples=num_samples,
    )
