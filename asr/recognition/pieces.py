"""Pieces of sound, of at most 22 s each, for the batches of a model: sources cut at their pauses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np

from asr.acoustic.ctc_model import CTCModel
from asr.audio.waveform import Source, Waveform, quietest_cut, stream_audio
from asr.data.manifest import Utterance
from asr.data.waveforms import read_waveform
from asr.errors import AsrError


@dataclass(frozen=True)
class Channel:
    """One channel, from 0, of a file."""

    path: str
    number: int


SourceOrUtterance: TypeAlias = Source | Utterance | Channel
Item = TypeVar("Item")

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


def read_pieces(sources: Iterable[SourceOrUtterance], model: CTCModel, **sound: Any) -> Iterator[Piece]:
    """The pieces of all sources, in order; an utterance is one piece. `sound` is for `stream_audio`."""
    rate = model.sample_rate
    for number, source in enumerate(sources):
        try:
            if isinstance(source, Utterance):
                blocks = iter([read_waveform(source, rate)])
            else:
                if isinstance(source, Channel):
                    path: Source = source.path
                    own = {**sound, "channel": source.number}
                else:
                    path, own = source, sound
                blocks = stream_audio(path, sample_rate=rate, block_seconds=LONGEST_PIECE, **own)
            yield from _cut(number, blocks, model)
        except AsrError as error:
            yield Piece(source=number, waveform=np.zeros(0, dtype=np.float32), error=error)


def growing_groups(
    items: Iterable[Item], size: Callable[[Item], float], *, first: float, most: float, count: int | None = None
) -> Iterator[list[Item]]:
    """Successive items in groups, each of twice the size of the one before, so that the first is ready early.

    Args:
        size: of an item.
        first, most: sizes that complete the first group and any later one.
        count: the most items of a group; None means any number.
    """
    group: list[Item] = []
    enough, total = first, 0.0
    for item in items:
        group.append(item)
        total += size(item)
        if total >= enough or len(group) == count:
            yield group
            group, enough, total = [], min(2 * enough, most), 0.0
    if group:
        yield group


def _cut(source: int, blocks: Iterator[Waveform], model: CTCModel) -> Iterator[Piece]:
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
