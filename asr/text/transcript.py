"""The text of a recording with its times: `Transcript`, with `Word`s and `Hypothesis`es, in frames of a `Timeline`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from asr.errors import InputError
from asr.text.normalization import HAN

_WORD = re.compile(rf"[{HAN}][^\w\s]*|[^\s{HAN}]+")
_BETWEEN_HAN = re.compile(rf"(?<=[{HAN}]) (?=[{HAN}])")
_SHORTEST_REST = 0.002  # seconds; see Timeline.num_frames


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """The seconds of whole frames in one recording; each time is one multiplication, so that none can drift.

    Args:
        frame_seconds: from one frame of the emission to the next; > 0.
        duration_seconds: of the recording; >= 0. Its last frame may be cut short by the end.
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
        """The number of frames that begin within the recording; its end may cut the last one short.

        A frame that begins in the last two milliseconds (or in the last half frame, if shorter) does not count: it may
        be a rounding error, and its start and end could be the same in milliseconds.
        """
        rest = min(_SHORTEST_REST, self.frame_seconds / 2)
        # The millionth gives a piece and the whole recording the same count, however their divisions round.
        return max(math.ceil((self.duration_seconds - rest) / self.frame_seconds - 1e-6), 0)

    def seconds(self, frame: int) -> float:
        """The start of a frame, or the end of the recording if this comes first."""
        return min(frame * self.frame_seconds, self.duration_seconds)


@dataclass(frozen=True, kw_only=True)
class Word:
    """One word with its frames [start_frame, end_frame), from its first to its last character.

    CTC says when a label is seen, often for one frame only, not how long the sound lasts: an end may come early.

    Args:
        text: at least one character and no white space.
        start_frame: 0 <= start_frame < end_frame.
        end_frame: the first frame after the word.
        confidence: 0 .. 1.
        timeline: of the recording.
    Raises:
        InputError: a value is not as above.
    """

    text: str
    start_frame: int
    end_frame: int
    confidence: float
    timeline: Timeline = field(repr=False)

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
        """Seconds from the start of the recording; later than `start`, and never past the recording's end."""
        return self.timeline.seconds(self.end_frame)


@dataclass(frozen=True, kw_only=True)
class SpottedHotword:
    """A hotword that is part of a hypothesis, and its frames [start_frame, end_frame)."""

    text: str
    start_frame: int
    end_frame: int


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """One possible text of an utterance.

    Args:
        text: what the tokens spell.
        score: in nats, higher is better.
        tokens: U labels, without blanks.
        spans: U pairs, the frames [start, end) in which each token was seen.
        acoustic: natural log-probability of the tokens, summed over alignments; None where greedy, as score is all.
        lm: natural log-probability in the language model of the search, n-gram or fused, unweighted; None without
            one.
        rnn: natural log-probability in the recurrent language model, unweighted; None without one.
        source: natural log-probability in the source language model, unweighted; None without one.
        word_score: what its words add to the score, known and unknown.
        hotword_score: what its hotwords add to the score.
        hotwords: in the hypothesis, in order.
    Raises:
        InputError: there are not as many spans as tokens.
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
                f"a hypothesis must have as many spans as tokens; got {len(self.spans)} and {len(self.tokens)}"
            )


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """The text of a recording, its words with their times, and the hypotheses it was chosen from.

    Args:
        text: the words in order, with the spaces that the language puts between them.
        words: in order of time, without overlap, within the recording; see `find_words` for what is a word.
        hypotheses: best first, at least one; its text is empty if nothing was said.
        timeline: frames and duration of the recording.
        name: of the recording, for formats that hold several; may be empty.
        model: name of the model; may be empty.
        options: of decoding, as JSON values.
    Raises:
        InputError: the words differ from the text, overlap, reach past the end, or have another timeline; or there is
            no hypothesis.
    """

    text: str
    words: tuple[Word, ...]
    hypotheses: tuple[Hypothesis, ...]
    timeline: Timeline
    name: str = ""
    model: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.hypotheses:
            raise InputError("a transcript must have at least one hypothesis, perhaps an empty one; got none")
        if "".join(word.text for word in self.words) != "".join(self.text.split()):
            raise InputError(
                f"the words of a transcript must be the words of its text; got {[word.text for word in self.words]} "
                f"for {self.text!r}"
            )
        last_end = 0
        for word in self.words:
            if word.timeline != self.timeline:
                raise InputError(f"all words must share the transcript's timeline; {word.text!r} has {word.timeline}")
            if word.start_frame < last_end:
                raise InputError(
                    f"words must follow one another; {word.text!r} starts in frame {word.start_frame}, "
                    f"before the end, {last_end}, of the word before"
                )
            last_end = word.end_frame
        if last_end > self.timeline.num_frames:
            raise InputError(
                f"words must end within the {self.timeline.num_frames} frames of the recording; "
                f"{self.words[-1].text!r} ends at {last_end}"
            )

    @property
    def duration_seconds(self) -> float:
        """Length of the recording."""
        return self.timeline.duration_seconds


def find_words(text: str) -> Iterator[tuple[int, int]]:
    """The spans [start, end), in characters, of the words of a text: the parts between spaces.

    A Han character with the marks after it is a word, because Chinese has no spaces between words:
    我用Python写 has four words. Not handled: other scripts without spaces (kana, Thai), which stay whole.
    """
    return (match.span() for match in _WORD.finditer(text))


def split_words(text: str) -> list[str]:
    """The words of a text; see `find_words`."""
    return [text[start:end] for start, end in find_words(text)]


def join_transcripts(transcripts: Sequence[Transcript], offsets: Sequence[int], *, timeline: Timeline) -> Transcript:
    """The transcript of a long recording, from the transcripts of its successive pieces.

    Pieces are cut at whole frames, so all positions stay exact. A space joins two texts, unless both have a Han
    character at the seam. The best hypotheses of all pieces make one, with the sum of their scores, whose tokens lack
    the spaces at the seams.

    Args:
        transcripts: one for each piece, all with the frame_seconds of `timeline`; there may be none.
        offsets: the frame of the whole recording in which each piece begins; not negative, in order.
        timeline: of the whole recording.
    Returns:
        One transcript, with the name, model and options of the first piece; empty if there are no pieces.
    Raises:
        InputError: not as many offsets as transcripts, another length of frame, or words that overlap or reach past
            the end at these offsets.
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
            start_frame, end_frame = word.start_frame + offset, word.end_frame + offset
            words.append(replace(word, start_frame=start_frame, end_frame=end_frame, timeline=timeline))
        tokens += piece.hypotheses[0].tokens
        spans += ((start + offset, end + offset) for start, end in piece.hypotheses[0].spans)
        for spotted in piece.hypotheses[0].hotwords:
            start_frame, end_frame = spotted.start_frame + offset, spotted.end_frame + offset
            hotwords.append(replace(spotted, start_frame=start_frame, end_frame=end_frame))
    best = Hypothesis(
        text=_joined(piece.hypotheses[0].text for piece in transcripts),
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
        text=_joined(piece.text for piece in transcripts),
        words=tuple(words),
        hypotheses=(best,),
        timeline=timeline,
        name=first.name if first else "",
        model=first.model if first else "",
        options=first.options if first else {},
    )


def _sum(scores: Sequence[float | None]) -> float | None:
    """The sum of the scores; None if one is None, or there are none."""
    numbers = [score for score in scores if score is not None]
    return math.fsum(numbers) if numbers and len(numbers) == len(scores) else None


def _joined(texts: Iterator[str]) -> str:
    return _BETWEEN_HAN.sub("", " ".join(text for text in texts if text))
