"""Stretches of a recording that are decoded together: pieces joined where both are silent, and cut at pauses.

pieces with log_probs ─▶ parts, each frame once ─▶ stretches ─▶ transcripts ─▶ one transcript of the recording
                         seams in silence          pauses between words
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from asr.acoustic.ctc_model import CTCModel
from asr.errors import AsrError
from asr.recognition.pieces import CONTEXT, Piece
from asr.text.alphabet import BLANK
from asr.text.transcript import Timeline, Transcript, Word, join_transcripts

Emission: TypeAlias = np.ndarray  # (T, V) natural log-probabilities

PAUSE = 0.6  # seconds of Φ that occur between words, never inside a word
# After this many seconds without a pause, cut at a shorter one: hours without a cut would fill the memory.
LONG_STRETCH, SHORT_PAUSE = 60.0, 0.2


@dataclass(frozen=True, kw_only=True)
class Part:
    """Frames of one source up to its frame `end`, around which `num_silent` frames are Φ.

    `num_samples` is the length of the whole source; None before its last part.
    """

    emission: Emission
    end: int
    num_silent: int = 0
    num_samples: int | None = None


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Frames of the source number `source`, from its frame `start` on, that are decoded together.

    `num_samples` is the length of the whole source; None before its last stretch. The last stretch of a source that
    cannot be read has its error.
    """

    source: int
    start: int
    emission: Emission
    num_samples: int | None = None
    error: AsrError | None = None


def join_pieces(pieces: Iterable[tuple[Piece, Emission]], model: CTCModel) -> Iterator[Part]:
    """The frames of one source, each once, from its pieces and their log_probs.

    Two pieces overlap around their cut; the seam is in the longest run of Φ in both.

    Raises:
        AsrError: the error of a piece.
    """
    seam = 0
    left: tuple[Piece, Emission] | None = None
    for piece, emission in pieces:
        if piece.error:
            raise piece.error
        if left is not None:
            begin, first = seam, left[0].first_frame
            seam, num_silent = _seam(*left, piece, emission, earliest=begin, model=model)
            yield Part(emission=left[1][begin - first : seam - first], end=seam, num_silent=num_silent)
        left = piece, emission
    assert left is not None  # every source has a last piece
    piece, emission = left
    rest = emission[seam - piece.first_frame :]
    yield Part(emission=rest, end=seam + len(rest), num_samples=piece.num_samples)


def cut_stretches(source: int, pieces: Iterable[tuple[Piece, Emission]], model: CTCModel) -> Iterator[Stretch]:
    """The stretches of one source.

    A stretch ends at a seam that is a pause between words, so that memory stays bounded. Pieces without a pause
    between them are decoded together, as if they had never been cut. After a minute, a shorter pause is enough.
    """
    emissions: list[Emission] = []  # of the stretch that begins at frame `start`
    start = 0
    try:
        for part in join_pieces(pieces, model):
            emissions.append(part.emission)
            is_long = (part.end - start) * model.frame_seconds > LONG_STRETCH
            pause = part.num_silent * model.frame_seconds
            if part.num_samples is not None or pause >= (SHORT_PAUSE if is_long else PAUSE):
                emission = np.concatenate(emissions)
                yield Stretch(source=source, start=start, emission=emission, num_samples=part.num_samples)
                emissions, start = [], part.end
    except AsrError as error:
        yield Stretch(source=source, start=0, emission=np.zeros((0, 0)), error=error)


def stretch_seconds(stretch: Stretch, model: CTCModel) -> float | None:
    """The duration of the last stretch of a source; None for others, which last as long as their frames."""
    if stretch.num_samples is None:
        return None
    return max(stretch.num_samples - stretch.start * model.samples_per_frame, 0) / model.sample_rate


def join_stretches(stretches: Iterable[tuple[Stretch, Transcript | None]], model: CTCModel) -> Transcript | AsrError:
    """The transcript of one source from the transcripts of its stretches, or its error."""
    transcripts, offsets = [], []
    for stretch, transcript in stretches:
        if transcript is None:
            assert stretch.error is not None
            return stretch.error
        transcripts.append(transcript)
        offsets.append(stretch.start)
    if len(transcripts) == 1:
        return transcripts[0]
    assert stretch.num_samples is not None
    duration_seconds = stretch.num_samples / model.sample_rate
    timeline = Timeline(frame_seconds=model.frame_seconds, duration_seconds=duration_seconds)
    return join_transcripts(transcripts, offsets, timeline=timeline)


def placed_parts(
    stretches: Iterable[tuple[Stretch, Transcript | None]],
    kept: list[tuple[Stretch, Transcript | None]],
    model: CTCModel,
) -> Iterator[tuple[str, tuple[Word, ...], float]]:
    """Text, words in their places in the recording, and end in seconds, of each stretch that could be read.

    All stretches are also appended to `kept`.
    """
    for stretch, transcript in stretches:
        kept.append((stretch, transcript))
        if transcript is not None:
            end = stretch.start * model.frame_seconds + transcript.duration_seconds
            timeline = Timeline(frame_seconds=model.frame_seconds, duration_seconds=end)
            words = join_transcripts([transcript], [stretch.start], timeline=timeline).words
            yield transcript.text, words, end


def quietest_frame(left: Emission, right: Emission) -> tuple[int, int]:
    """The middle of the longest run of frames whose best label is Φ in both emissions, and the length of the run.

    Without such a frame: the frame where both have the highest probability of Φ, and 0. Frames that only the longer
    emission has do not count.
    """
    num_frames = min(len(left), len(right))
    left, right = left[:num_frames], right[:num_frames]
    blank = (left.argmax(axis=1) == BLANK) & (right.argmax(axis=1) == BLANK)
    if not blank.any():
        return int(np.minimum(left[:, BLANK], right[:, BLANK]).argmax()), 0
    borders = np.flatnonzero(np.diff(blank, prepend=False, append=False))
    starts, ends = borders[::2], borders[1::2]
    longest = int(np.argmax(ends - starts))
    return int(starts[longest] + ends[longest]) // 2, int(ends[longest] - starts[longest])


def _seam(
    left: Piece, left_emission: Emission, right: Piece, right_emission: Emission, *, earliest: int, model: CTCModel
) -> tuple[int, int]:
    """The frame of the source from which the right piece is used, and the number of Φ frames around it."""
    reach = round(CONTEXT / 2 / model.frame_seconds)
    begin, end = max(left.end - reach, earliest), left.end + reach
    frame, num_silent = quietest_frame(
        left_emission[begin - left.first_frame : end - left.first_frame],
        right_emission[begin - right.first_frame : end - right.first_frame],
    )
    return begin + frame, num_silent
