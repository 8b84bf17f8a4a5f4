"""A known text with its times: `AlignedText`, with `Segment`s for its sentences, words and characters."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from asr.text.transcript import Timeline

Level = Literal["sentence", "word", "character"]


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A sentence, a word or a character, in the frames [start_frame, end_frame) from its first label to its last.

    CTC shows when a label is recognised, often for one frame only, not how long the sound lasts: an end may be early.

    Args:
        text: a word as written, with its punctuation; a sentence, with single spaces; a character, as in the alphabet.
        start_frame: 0 <= start_frame < end_frame.
        end_frame: the first frame after it.
        score: mean natural log-probability: of a character over its frames, of a word or sentence over its characters.
        timeline: of the recording.
        parts: the words of a sentence, the characters of a word; none in a character.
    """

    text: str
    start_frame: int
    end_frame: int
    score: float
    timeline: Timeline
    parts: tuple[Segment, ...] = ()

    @property
    def start(self) -> float:
        """Seconds from the start of the recording."""
        return self.timeline.seconds(self.start_frame)

    @property
    def end(self) -> float:
        """Seconds from the start of the recording; later than `start`, and never past the recording's end."""
        return self.timeline.seconds(self.end_frame)

    @property
    def confidence(self) -> float:
        """0 .. 1, the geometric mean of the posteriors."""
        return math.exp(min(self.score, 0.0))


@dataclass(frozen=True, kw_only=True)
class AlignedText:
    """A text with its times.

    Args:
        text: as given.
        sentences: in order, without overlap, with all words that have a time.
        untimed: words without a character of the model's alphabet (numbers and dashes, for most models), in order. The
            text of their sentence includes them, but they have no time.
        dropped: how often each character of the normalised text was left out because the alphabet lacks it.
        score: natural log-probability of the alignment.
        timeline: frames and duration of the recording.
        name: of the recording; may be empty.
        model: name of the model; may be empty.
    """

    text: str
    sentences: tuple[Segment, ...]
    untimed: tuple[str, ...]
    dropped: Counter[str]
    score: float
    timeline: Timeline
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
    def words(self) -> tuple[Segment, ...]:
        """The words that have a time."""
        return tuple(word for sentence in self.sentences for word in sentence.parts)

    @property
    def characters(self) -> tuple[Segment, ...]:
        """The characters of all words, without spaces."""
        return tuple(character for word in self.words for character in word.parts)


def mean_score(segments: Sequence[Segment]) -> float:
    """The mean score of one segment or more."""
    return math.fsum(segment.score for segment in segments) / len(segments)
