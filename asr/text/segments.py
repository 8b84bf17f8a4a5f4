"""Segments of a transcript, a sentence or what is spoken between two pauses: the lines of its text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from asr.text.transcript import Word, join_texts

PAUSE = 0.5  # seconds without a word, which end a segment
READABLE_PAUSE = 2.0  # the same in a text with marks, whose sentences end at these
LONGEST_SEGMENT, SHORTEST_PART = 15.0, 5.0  # seconds; a longer one is cut at its longest pause, not before the fifth

_SENTENCE_END = re.compile(r"[.!?…。！？]+[\"'”’»)\]]*$")
_ABBREVIATION = re.compile(r"(?:\w|Mr|Mrs|Ms|Dr|St|Prof|vs|etc)\.", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class TextSegment:
    """A sentence, or the words between two pauses.

    Args:
        text: the words, with the spaces of the language between them.
        words: in order, at least one.
    """

    text: str
    words: tuple[Word, ...]

    @property
    def start(self) -> float:
        """Seconds from the start of the recording."""
        return self.words[0].start

    @property
    def end(self) -> float:
        """Seconds from the start of the recording."""
        return self.words[-1].end

    @property
    def confidence(self) -> float:
        """0 .. 1, the mean of the words."""
        return fmean(word.confidence for word in self.words)

    @property
    def speaker(self) -> str:
        """The speaker of the words; empty if unknown."""
        return self.words[0].speaker


def find_segments(text: str, words: Sequence[Word]) -> list[TextSegment]:
    """The segments of a text with its words: in order, each word in one of them.

    A segment ends at the end of a sentence, at a pause of half a second (of two seconds in readable text, whose
    sentences have marks), and where the speaker changes. A segment of more than 15 seconds ends at the longest pause
    after its fifth second. Later words change nothing: the segments of a beginning are those of the whole, except for
    the last.

    Args:
        text: with the words in order.
        words: of the text, in order.
    """
    return _cut(text, words, _last_word)


def find_turns(text: str, words: Sequence[Word]) -> list[TextSegment]:
    """As `find_segments`, but a segment ends only where the speaker changes."""
    return _cut(text, words, _last_of_turn)


def _cut(text: str, words: Sequence[Word], last_word: Callable[[Sequence[Word], int], int]) -> list[TextSegment]:
    segments, position, first = [], 0, 0
    while first < len(words):
        last = last_word(words, first)
        start = text.index(words[first].text, position)
        for word in words[first : last + 1]:
            position = text.index(word.text, position) + len(word.text)
        segments.append(TextSegment(text=text[start:position], words=tuple(words[first : last + 1])))
        first = last + 1
    return segments


def stream_segments(parts: Iterable[tuple[str, Sequence[Word], float]]) -> Iterator[TextSegment]:
    """The segments of a recording, each as soon as no later word can change it.

    Args:
        parts: text, words and end in seconds of successive parts of the recording.
    """
    text = ""
    words: tuple[Word, ...] = ()
    for part_text, part_words, end in parts:
        text, words = join_texts([text, part_text]), (*words, *part_words)
        segments = find_segments(text, words)
        # The next part may continue the last segment.
        is_open = bool(segments) and end - segments[-1].end < _pause_after(segments[-1].words[-1])
        yield from segments[:-1] if is_open else segments
        text, words = (segments[-1].text, segments[-1].words) if is_open else ("", ())
    yield from find_segments(text, words)


def is_sentence_end(word: str, following: str) -> bool:
    """Whether the marks of a word end a sentence: Mr. does not, nor a mark before a small letter."""
    return _SENTENCE_END.search(word) is not None and not _ABBREVIATION.fullmatch(word) and not following[:1].islower()


def _last_of_turn(words: Sequence[Word], first: int) -> int:
    """The last word of the speaker of the word `first`."""
    speaker = words[first].speaker
    changes = (index for index in range(first + 1, len(words)) if words[index].speaker != speaker)
    return next(changes, len(words)) - 1


def _pause_after(word: Word) -> float:
    """Seconds without a word that end a segment after this word."""
    return READABLE_PAUSE if word.spoken else PAUSE


def _last_word(words: Sequence[Word], first: int) -> int:
    """The last word of the segment that begins with the word `first`."""
    start = words[first].start
    best, longest = first, -1.0  # the longest pause to cut at
    for index in range(first, len(words) - 1):
        word, following = words[index], words[index + 1]
        gap = following.start - word.end
        if gap >= _pause_after(word) or word.speaker != following.speaker or is_sentence_end(word.text, following.text):
            return index
        if gap >= longest or word.end < start + SHORTEST_PART:
            best, longest = index, gap
        if following.end > start + LONGEST_SEGMENT:
            return best
    return len(words) - 1
