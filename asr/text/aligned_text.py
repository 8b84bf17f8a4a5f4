"""A known text with its times: `AlignedText`, with `Segment`s for its sentences, words and characters."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from asr.text.transcript import Timeline

_DOUBTFUL = 0.03  # confidence; docs/alignment.md has the errors of this limit on several corpora
_MOST_SHOWN = 8  # words in a remark
Level = Literal["sentence", "word", "character"]


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A sentence, a word or a character, in the frames [start_frame, end_frame) from its first label to its last.

    CTC shows when a label is recognised, often for one frame only, not how long the sound lasts. So a word and a
    sentence may have `edges`, where its sound is estimated to begin and end.

    Args:
        text: a word as written, with its punctuation; a sentence, with single spaces; a character, as in the alphabet.
        start_frame: 0 <= start_frame < end_frame.
        end_frame: the first frame after it.
        score: mean natural log-probability: of a character over its frames, of a word or sentence over its characters.
        timeline: of the recording.
        parts: the words of a sentence, the characters of a word; none in a character, and in a word that the model
            cannot spell: its score is -inf, and it has the time that is left between its neighbours.
        position: of the first character of a word in the text as given.
        edges: start and end of the sound, in seconds; None means those of the frames.
    """

    text: str
    start_frame: int
    end_frame: int
    score: float
    timeline: Timeline
    parts: tuple[Segment, ...] = ()
    position: int = 0
    edges: tuple[float, float] | None = None

    @property
    def start(self) -> float:
        """Seconds from the start of the recording."""
        return self.timeline.seconds(self.start_frame) if self.edges is None else self.edges[0]

    @property
    def end(self) -> float:
        """Seconds from the start of the recording; later than `start`, and never past the recording's end."""
        return self.timeline.seconds(self.end_frame) if self.edges is None else self.edges[1]

    @property
    def confidence(self) -> float:
        """0 .. 1, the geometric mean of the posteriors."""
        return math.exp(min(self.score, 0.0))


@dataclass(frozen=True, kw_only=True)
class Missing:
    """Speech that the text lacks: what the model hears between two words of the text, in seconds."""

    start: float
    end: float
    heard: str


@dataclass(frozen=True, kw_only=True)
class Unspoken:
    """A passage of the text that nobody says: its words [first, end), counted from 0, and its text."""

    first: int
    end: int
    text: str


@dataclass(frozen=True, kw_only=True)
class AlignedText:
    """A text with its times.

    Args:
        text: as given.
        sentences: in order, without overlap, with all words that have a time.
        untimed: words without a character of the model's alphabet, in order: dashes, for most models. The text of
            their sentence includes them, but they have no time.
        dropped: how often each character of the normalised text was left out because the alphabet lacks it.
        score: natural log-probability of the alignment.
        timeline: frames and duration of the recording.
        missing: speech that the text lacks, in order.
        unspoken: passages that nobody says, in order; no sentence includes them.
        notes: what else a person should know, a sentence each.
        name: of the recording; may be empty.
        model: name of the model; may be empty.
    """

    text: str
    sentences: tuple[Segment, ...]
    untimed: tuple[str, ...]
    dropped: Counter[str]
    score: float
    timeline: Timeline
    missing: tuple[Missing, ...] = ()
    unspoken: tuple[Unspoken, ...] = ()
    notes: tuple[str, ...] = ()
    name: str = ""
    model: str = ""

    def segments(self, level: Level) -> tuple[Segment, ...]:
        """The sentences, words or characters."""
        return {"sentence": self.sentences, "word": self.words, "character": self.characters}[level]

    @property
    def confidence(self) -> float:
        """0 .. 1, the geometric mean of the posteriors of all characters."""
        return math.exp(min(mean_score(self.characters), 0.0))

    @property
    def doubt(self) -> str:
        """Why the text may not be that of the recording; "" if it seems to be."""
        if self.confidence >= _DOUBTFUL:
            return ""
        return f"mean score {self.confidence:.2f}: is this the text of this recording?"

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a person should know of the alignment, a sentence each."""
        if self.doubt:
            return (self.doubt, *self.notes)
        lacking = (
            f"the text lacks what is said from {item.start:.1f} to {item.end:.1f} s, {_shortened(item.heard)!r}"
            for item in self.missing
        )
        unspoken = (
            f"not spoken: words {item.first + 1} to {item.end}, {_shortened(item.text)!r}" for item in self.unspoken
        )
        return (*lacking, *unspoken, *self.notes)

    @property
    def words(self) -> tuple[Segment, ...]:
        """The words that have a time."""
        return tuple(word for sentence in self.sentences for word in sentence.parts)

    @property
    def characters(self) -> tuple[Segment, ...]:
        """The characters of all words, without spaces."""
        return tuple(character for word in self.words for character in word.parts)


def _shortened(text: str) -> str:
    """The first words of a text, on one line."""
    words = text.split()
    return " ".join(words[:_MOST_SHOWN]) + " …" * (len(words) > _MOST_SHOWN)


def mean_score(segments: Sequence[Segment]) -> float:
    """The mean score of one segment or more."""
    return math.fsum(segment.score for segment in segments) / len(segments)
