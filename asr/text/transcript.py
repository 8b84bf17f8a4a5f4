"""The text of a recording with its times: `Transcript`, `Word` and `Hypothesis`, in whole frames of a `Timeline`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from asr.errors import InputError
from asr.text.normalization import HAN

_WORD = re.compile(rf"[{HAN}][^\w\s]*|[^\s{HAN}]+")
_BETWEEN_HAN = re.compile(rf"(?<=[{HAN}]) (?=[{HAN}])")
_SHORTEST_REST = 0.002  # seconds; see Timeline.num_frames


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """The seconds of whole frames in one recording. Every time is one multiplication, so times do not drift.

    Args:
        frame_seconds: from the start of one frame of the emission to the start of the next; > 0.
        duration_seconds: of the recording; >= 0. The end may cut its last frame short.
    Raises:
        InputError: a value is out of its range, infinite or NaN.
    """

    frame_seconds: float
    duration_seconds: float

    def __post_init__(self) -> None:
        if not 0 < self.frame_seconds < math.inf:
            raise InputError(f"frame_seconds must be positive and finite; got {self.frame_seconds}")
        if not 0 <= self.duration_seconds < math.inf:
            raise InputError(f"duration_seconds must be finite and not negative; got {self.duration_seconds}")

    @property
    def num_frames(self) -> int:
        """The number of frames that begin within the recording; a last one that the end cuts short counts too.

        A frame that begins in the last two milliseconds (or half a frame, if shorter) does not count: it may be a
        rounding error, and in milliseconds its start and end would be equal.
        """
        rest = min(_SHORTEST_REST, self.frame_seconds / 2)
        # The millionth makes the counts of a piece and of the whole agree, however their divisions round.
        return max(math.ceil((self.duration_seconds - rest) / self.frame_seconds - 1e-6), 0)

    def seconds(self, frame: int) -> float:
        """The start of a frame, or the end of the recording if it comes first."""
        return min(frame * self.frame_seconds, self.duration_seconds)


@dataclass(frozen=True, kw_only=True)
class Word:
    """One word and its frames [start_frame, end_frame), from its first to its last character.

    CTC shows when a label is recognised, often for one frame only, not how long the sound lasts: an end may be early.

    Args:
        text: at least one character and no white space.
        start_frame: 0 <= start_frame < end_frame.
        end_frame: the first frame after the word.
        confidence: 0 .. 1.
        timeline: of the recording.
        speaker: a name; empty if unknown.
        spoken: of a readable word, the words that the model emitted: $25 is TWENTY FIVE DOLLARS. Empty if it is one of
            them itself.
    Raises:
        InputError: a value is not as above.
    """

    text: str
    start_frame: int
    end_frame: int
    confidence: float
    timeline: Timeline = field(repr=False)
    speaker: str = ""
    spoken: tuple[Word, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.text.split() != [self.text]:
            raise InputError(f"a word must have characters, none of them white space; got {self.text!r}")
        if not 0 <= self.start_frame < self.end_frame:
            raise InputError(
                f"the frames of {self.text!r} must satisfy 0 <= start < end; "
                f"got {self.start_frame} and {self.end_frame}"
            )
        if not 0 <= self.confidence <= 1:
            raise InputError(f"the confidence of {self.text!r} must lie in 0 .. 1; got {self.confidence}")

    @property
    def start(self) -> float:
        """Seconds from the start of the recording."""
        return self.timeline.seconds(self.start_frame)

    @property
    def end(self) -> float:
        """Seconds from the start of the recording; after `start`, and not after the recording's end."""
        return self.timeline.seconds(self.end_frame)


@dataclass(frozen=True, kw_only=True)
class SpottedHotword:
    """A hotword that is part of a hypothesis, and its frames [start_frame, end_frame)."""

    text: str
    start_frame: int
    end_frame: int


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """A possible text of an utterance, with its scores.

    Args:
        text: the spelling of the tokens.
        score: in nats; the best hypothesis has the highest one.
        tokens: U labels, without blanks.
        spans: U pairs, the frames [start, end) of each token.
        acoustic: natural log-probability of the tokens, summed over alignments; None in greedy decoding.
        lm: natural log-probability in the language model of the search, n-gram or fused, unweighted; None without
            one.
        rnn: natural log-probability in the recurrent language model, unweighted; None without one.
        source: natural log-probability in the source language model, unweighted; None without one.
        word_score: the part of the score from its words, known and unknown.
        hotword_score: the part of the score from its hotwords.
        hotwords: the hotwords that raised the score, in order.
    Raises:
        InputError: the numbers of spans and tokens differ.
    """

    text: str
    score: float
    tokens: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    acoustic: float | None = None
    lm: float | None = None
    rnn: float | None = None
    source: float | None = None
    word_score: float = 0.0
    hotword_score: float = 0.0
    hotwords: tuple[SpottedHotword, ...] = ()

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.spans):
            raise InputError(
                f"a hypothesis must have one span a token; got {len(self.tokens)} tokens and {len(self.spans)} spans"
            )


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """The text of a recording, its words with their times, and the hypotheses.

    Args:
        text: the words in order, with the spaces of the language between them; readable, or as the model emits them.
        words: in order of time, without overlap, within the recording; `find_words` defines words. Those of different
            speakers may overlap.
        hypotheses: best first; at least one, with an empty text if nothing was said.
        timeline: frames and duration of the recording.
        name: of the recording, for formats that hold several; may be empty.
        model: the name of the model; may be empty.
        options: of the decoding, as JSON values.
    Raises:
        InputError: the words differ from the text, overlap, reach past the end, or are on another timeline; or there
            is no hypothesis.
    """

    text: str
    words: tuple[Word, ...]
    hypotheses: tuple[Hypothesis, ...] = field(repr=False)
    timeline: Timeline
    name: str = ""
    model: str = ""
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.hypotheses:
            raise InputError("a transcript must have at least one hypothesis, even an empty one; got none")
        if "".join(word.text for word in self.words) != "".join(self.text.split()):
            raise InputError(
                f"the words of a transcript must be the words of its text; got {[word.text for word in self.words]} "
                f"for {self.text!r}"
            )
        last_ends: dict[str, int] = {}
        for word in self.words:
            last_end = last_ends.get(word.speaker, 0)
            if word.timeline != self.timeline:
                raise InputError(f"all words must share the transcript's timeline; {word.text!r} has {word.timeline}")
            if word.start_frame < last_end:
                raise InputError(
                    f"words must follow one another; {word.text!r} starts in frame {word.start_frame}, "
                    f"before the end, {last_end}, of the word before"
                )
            last_ends[word.speaker] = word.end_frame
            if word.end_frame > self.timeline.num_frames:
                raise InputError(
                    f"words must end within the {self.timeline.num_frames} frames of the recording; "
                    f"{word.text!r} ends at {word.end_frame}"
                )

    @property
    def duration_seconds(self) -> float:
        """Length of the recording."""
        return self.timeline.duration_seconds

    @property
    def raw_text(self) -> str:
        """The text as the model emitted it; the same as `text`, unless this is readable."""
        return join_texts(word.text for word in self.raw_words) if self.is_readable else self.text

    @property
    def raw_words(self) -> tuple[Word, ...]:
        """The words as the model emitted them, with the speakers of `words`."""
        return tuple(
            replace(spoken, speaker=word.speaker) if spoken is not word else word
            for word in self.words
            for spoken in word.spoken or (word,)
        )

    @property
    def is_readable(self) -> bool:
        """Whether the words are readable ones, with the spoken words of each."""
        return any(word.spoken for word in self.words)


def find_words(text: str) -> Iterator[tuple[int, int]]:
    """The [start, end) of each word of a text, in characters. Words are separated by spaces.

    A Han character is a word by itself, with the marks that follow it, because Chinese has no spaces between words:
    我用Python写 has four words. Not handled: other scripts without spaces (kana, Thai) are not split.
    """
    return (match.span() for match in _WORD.finditer(text))


def split_words(text: str) -> list[str]:
    """The words of a text; see `find_words`."""
    return [text[start:end] for start, end in find_words(text)]


def join_transcripts(transcripts: Sequence[Transcript], offsets: Sequence[int], *, timeline: Timeline) -> Transcript:
    """The transcript of a long recording, from the transcripts of successive pieces.

    Pieces are cut at whole frames, so all positions stay exact. Texts are joined by a space, except between Han
    characters. The best hypotheses of the pieces are joined into one, with the sum of their scores, and without tokens
    for the spaces between pieces.

    Args:
        transcripts: one for each piece, all with the frame_seconds of `timeline`; there may be none.
        offsets: the first frame of each piece in the whole recording; not negative, in order.
        timeline: of the whole recording.
    Returns:
        One transcript, with the name, model and options of the first piece; empty if there are no pieces.
    Raises:
        InputError: the numbers of offsets and transcripts differ, a piece has other frame_seconds, or words overlap or
            reach past the end at these offsets.
    """
    if len(transcripts) != len(offsets):
        raise InputError(f"each transcript must have its offset; got {len(transcripts)} and {len(offsets)}")
    words: list[Word] = []
    tokens: list[int] = []
    spans: list[tuple[int, int]] = []
    hotwords: list[SpottedHotword] = []
    for piece, offset in zip(transcripts, offsets, strict=True):
        if piece.timeline.frame_seconds != timeline.frame_seconds:
            raise InputError(
                f"all pieces must have frames of {timeline.frame_seconds} s; one has {piece.timeline.frame_seconds} s"
            )
        for word in piece.words:
            words.append(_moved(word, offset, timeline))
        tokens += piece.hypotheses[0].tokens
        spans += ((start + offset, end + offset) for start, end in piece.hypotheses[0].spans)
        for hotword in piece.hypotheses[0].hotwords:
            start_frame, end_frame = hotword.start_frame + offset, hotword.end_frame + offset
            hotwords.append(replace(hotword, start_frame=start_frame, end_frame=end_frame))
    best = Hypothesis(
        text=join_texts(piece.hypotheses[0].text for piece in transcripts),
        score=math.fsum(piece.hypotheses[0].score for piece in transcripts),
        tokens=tuple(tokens),
        spans=tuple(spans),
        acoustic=_sum([piece.hypotheses[0].acoustic for piece in transcripts]),
        lm=_sum([piece.hypotheses[0].lm for piece in transcripts]),
        rnn=_sum([piece.hypotheses[0].rnn for piece in transcripts]),
        source=_sum([piece.hypotheses[0].source for piece in transcripts]),
        word_score=math.fsum(piece.hypotheses[0].word_score for piece in transcripts),
        hotword_score=math.fsum(piece.hypotheses[0].hotword_score for piece in transcripts),
        hotwords=tuple(hotwords),
    )
    first = transcripts[0] if transcripts else None
    return Transcript(
        text=join_texts(piece.text for piece in transcripts),
        words=tuple(words),
        hypotheses=(best,),
        timeline=timeline,
        name=first.name if first else "",
        model=first.model if first else "",
        options=first.options if first else {},
    )


def _moved(word: Word, offset: int, timeline: Timeline) -> Word:
    """The word so many frames later, on another timeline."""
    return replace(
        word,
        start_frame=word.start_frame + offset,
        end_frame=word.end_frame + offset,
        timeline=timeline,
        spoken=tuple(_moved(spoken, offset, timeline) for spoken in word.spoken),
    )


def with_readable_words(transcript: Transcript, words: Iterable[Word]) -> Transcript:
    """The transcript with readable words in place of those that the model emitted.

    Args:
        transcript: as from the decoder; its hypotheses stay.
        words: for all its words, in frames of the same recording.
    """
    written = tuple(_moved(word, 0, transcript.timeline) for word in words)
    return replace(transcript, text=" ".join(word.text for word in written), words=written)


def _sum(scores: Sequence[float | None]) -> float | None:
    """The sum of the scores, or None if one is missing."""
    known = [score for score in scores if score is not None]
    return math.fsum(known) if known and len(known) == len(scores) else None


def join_texts(texts: Iterable[str]) -> str:
    """The texts that are not empty, with spaces between them, except between Han characters."""
    return _BETWEEN_HAN.sub("", " ".join(text for text in texts if text))
