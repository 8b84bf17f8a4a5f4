"""Speakers of the words of a transcript: from an RTTM file of any diarisation, or from the channels of a call."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from asr.errors import AsrError, DataError
from asr.files.texts import read_text
from asr.text.segments import TextSegment, find_segments
from asr.text.transcript import Hypothesis, Transcript, Word, join_texts

if TYPE_CHECKING:  # this loads the readers of sound
    from asr.recognition.pieces import Channel


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What one speaker says without a break, from start to end in seconds."""

    speaker: str
    start: float
    end: float


def read_rttm(path: str | os.PathLike[str]) -> dict[str, list[Turn]]:
    """The turns of each recording in an RTTM file, by the name of the recording.

    A line `SPEAKER talk 1 3.25 1.5 <NA> <NA> ann <NA> <NA>` is a turn of ann from 3.25 s to 4.75 s; other kinds of
    lines, and lines that begin with ;;, are skipped.

    Raises:
        DataError: the file cannot be read, has a damaged line, or no turns.
    Source: NIST, "The 2009 (RT-09) Rich Transcription Meeting Recognition Evaluation Plan", appendix A.
    """
    path = Path(path)
    turns: dict[str, list[Turn]] = defaultdict(list)
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        fields = line.split()
        if fields[:1] != ["SPEAKER"]:
            continue
        try:
            start, duration, speaker = float(fields[3]), float(fields[4]), fields[7]
            if not (0 <= start < float("inf") and 0 <= duration < float("inf")):
                raise ValueError
        except (IndexError, ValueError):
            form = "SPEAKER <recording> <channel> <start> <duration> <NA> <NA> <speaker>"
            raise DataError(
                f"a line must be {form}, times in seconds; got {line[:80]!r}", path=path, line=number
            ) from None
        turns[fields[1]].append(Turn(speaker=speaker, start=start, end=start + duration))
    if not turns:
        raise DataError("has no line of a speaker", path=path)
    return dict(turns)


def turns_of(turns: Mapping[str, Sequence[Turn]], name: str) -> Sequence[Turn] | None:
    """The turns of the recording `name`, with or without its folder; or of the only recording in the file."""
    for key in (name, Path(name).name):
        if key in turns:
            return turns[key]
    return next(iter(turns.values())) if len(turns) == 1 else None


def with_speakers(transcript: Transcript, turns: Sequence[Turn]) -> Transcript:
    """The transcript with a speaker for each word: who speaks longest during it, or else nearest to it in time."""
    speakers = _Speakers(turns)
    words = tuple(replace(word, speaker=speakers.of(word)) for word in transcript.words)
    return replace(transcript, words=words)


def join_channels(transcripts: Sequence[Transcript]) -> Transcript:
    """One transcript of the channels of a recording, whose speakers are CHANNEL_0, CHANNEL_1, …

    What each says between two pauses stays together, in the order of its beginning, so that words of different
    speakers may overlap. The hypothesis is that of all channels, without tokens. One channel stays as it is.
    """
    if len(transcripts) == 1:
        return transcripts[0]
    segments: list[TextSegment] = []
    for number, transcript in enumerate(transcripts):
        words = [replace(word, speaker=f"CHANNEL_{number}") for word in transcript.words]
        segments += find_segments(transcript.text, words)
    segments.sort(key=lambda segment: segment.start)
    text = join_texts(segment.text for segment in segments)
    raw_text = join_texts(transcript.raw_text for transcript in transcripts)
    score = sum(transcript.hypotheses[0].score for transcript in transcripts)
    return replace(
        transcripts[0],
        text=text,
        words=tuple(word for segment in segments for word in segment.words),
        hypotheses=(Hypothesis(text=raw_text, score=score, tokens=(), spans=()),),
    )


def channels_of(path: str) -> list[Channel]:
    """The channels of a file; of one that cannot be read, the first."""
    from asr.audio.waveform import stream_channels
    from asr.recognition.pieces import Channel

    try:
        with closing(stream_channels(path)) as blocks:
            _, samples = next(blocks)
        return [Channel(path, number) for number in range(samples.shape[1])]
    except (AsrError, StopIteration):
        return [Channel(path, 0)]


def join_by_recording(
    results: Iterable[tuple[int, Transcript | AsrError]], owners: Sequence[int]
) -> Iterator[tuple[int, Transcript | AsrError]]:
    """The number of each recording, once all its channels are ready, with their transcript or the first error.

    Args:
        results: in any order, each with its number.
        owners: number of the recording of each result.
    """
    expected = Counter(owners)
    waiting: dict[int, dict[int, Transcript | AsrError]] = defaultdict(dict)
    for number, result in results:
        owner = owners[number]
        waiting[owner][number] = result
        if len(waiting[owner]) == expected[owner]:
            parts = [part for _, part in sorted(waiting.pop(owner).items())]
            errors = [part for part in parts if isinstance(part, AsrError)]
            transcripts = [part for part in parts if isinstance(part, Transcript)]
            yield owner, errors[0] if errors else join_channels(transcripts)


class _Speakers:
    """The turns of a recording by time; a word looks at those beside it, not at all of them."""

    def __init__(self, turns: Sequence[Turn]):
        self.turns = sorted(turns, key=lambda turn: turn.start)
        self.starts = [turn.start for turn in self.turns]
        # the turn that ends last among those up to each
        self.longest: list[Turn] = list(accumulate(self.turns, _later_end))

    def of(self, word: Word) -> str:
        """The speaker with the most time in common with a word; without any, of the nearest turn; "" without turns."""
        common: dict[str, float] = defaultdict(float)
        for index in reversed(range(bisect_left(self.starts, word.end))):
            if self.longest[index].end <= word.start:  # and so do all before
                break
            turn = self.turns[index]
            common[turn.speaker] += max(min(turn.end, word.end) - max(turn.start, word.start), 0.0)
        if common and max(common.values()) > 0:
            return max(reversed(common), key=common.__getitem__)
        middle = (word.start + word.end) / 2
        after = bisect_left(self.starts, middle)
        beside = (*self.longest[max(after - 1, 0) : after], *self.turns[after : after + 1])
        nearest = min(beside, key=lambda turn: max(turn.start - middle, middle - turn.end), default=None)
        return nearest.speaker if nearest else ""


def _later_end(first: Turn, second: Turn) -> Turn:
    return second if second.end > first.end else first
