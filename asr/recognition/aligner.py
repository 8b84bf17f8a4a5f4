"""Forced alignment of a text with its recording: when each sentence, word and character of it is spoken.

text ─▶ words ─▶ each normalised as the model's texts were ─▶ labels ─▶ their frames ─▶ characters, words, sentences
        as written                                             log_probs of any length ╯     with times, as written
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from asr.ctc.alignment import Alignment, align
from asr.ctc.collapse import minimum_frames
from asr.errors import InputError
from asr.options import check_options, option
from asr.text.alphabet import BLANK, Alphabet
from asr.text.marks import find_marks
from asr.text.normalization import TextOptions, normalize, refuse_marks
from asr.text.transcript import Timeline, find_words

if TYPE_CHECKING:  # which load torch; a text can be aligned to log-probabilities without
    from asr.audio.waveform import Source
    from asr.recognition.recognizer import Emission, Recognizer

Level = Literal["sentence", "word", "character"]
Gaps = Literal["edges", "sentences", "nowhere"]
SentenceEnd = Literal["punctuation", "line"]
Unknown = Literal["drop", "refuse"]

_TERMINAL = re.compile(r"[.!?…。！？][^\w\s]*$")
_ABBREVIATION = re.compile(
    r"\W*(mr|mrs|ms|dr|prof|rev|hon|st|gen|col|capt|lieut|lt|sgt|messrs|mme|mlle|vs)\.", re.IGNORECASE
)
_MOST_SHOWN = 40  # characters of an alphabet, in a message
_INITIAL = re.compile(r"\W*[^\W\d_]\.")


@dataclass(frozen=True, kw_only=True)
class AlignmentOptions:
    """How a text is laid over a recording."""

    gaps: Gaps = option(
        "edges",
        "allow speech outside the text before and after it, also between its sentences, or nowhere",
    )
    gap_score: float = option(
        -1.0, "log-probability of a frame of such speech; lower: take more of it for text", least=-1e6, most=0
    )
    sentence_end: SentenceEnd = option(
        "punctuation", "end a sentence at its punctuation or an empty line, or at the end of each line"
    )
    unknown: Unknown = option("drop", "leave out characters that the model lacks, and report them, or refuse the text")

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A sentence, a word or a character, in the frames [start_frame, end_frame) from its first label to its last.

    CTC says when a label is seen, often for one frame only, not how long the sound lasts: an end may come early.

    Args:
        text: a word as written, with its punctuation; a sentence, with single spaces; a character, as the model has it.
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
        sentences: in order, without overlap; between them they have all words that have a time.
        untimed: words without a character that the model knows (numbers and dashes, for most models), in order. They
            are in the text of their sentence, but have no time of their own.
        dropped: how often each character was left out that is in the normalised text and not in the alphabet.
        score: natural log-probability of the alignment.
        timeline: frames and duration of the recording.
        name: of the recording; may be empty.
        model: that heard it; may be empty.
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
        return math.exp(min(_mean([character.score for character in self.characters]), 0.0))

    @property
    def words(self) -> tuple[Segment, ...]:
        """Those that have a time."""
        return tuple(word for sentence in self.sentences for word in sentence.parts)

    @property
    def characters(self) -> tuple[Segment, ...]:
        """Of all words, without the spaces between them."""
        return tuple(character for word in self.words for character in word.parts)


def align_recording(
    recognizer: Recognizer,
    source: Source,
    text: str,
    options: AlignmentOptions | None = None,
    *,
    channel: int | None = None,
    track: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> AlignedText:
    """The times of a text in a recording of any length, an hour in less than 1.5 GB.

    Args:
        recognizer: whose model hears, and says how texts are normalised.
        source: a path, "-" for standard input, a binary file object, or (samples, rate): see `read_audio`.
        text: what is said in it, as `align_text` takes it.
        options: None means the defaults.
        channel: the one to hear, counted from 0; None averages all of them.
        track: the sound track to hear, counted from 0; None takes the one flagged default.
        progress: called with the seconds of sound that have gone through the model since the last call.
    Raises:
        DataError: the source cannot be read.
        InputError: as for `align_text`.
    """
    log_probs, duration_seconds = recognizer.long_log_probs(source, channel=channel, track=track, progress=progress)
    return align_text(
        log_probs,
        text,
        recognizer.model.alphabet,
        options,
        text_options=recognizer.model.config.text,
        frame_seconds=recognizer.model.frame_seconds,
        duration_seconds=duration_seconds,
    )


def align_text(
    log_probs: Emission,
    text: str,
    alphabet: Alphabet,
    options: AlignmentOptions | None = None,
    *,
    text_options: TextOptions | None = None,
    frame_seconds: float = 1.0,
    duration_seconds: float | None = None,
) -> AlignedText:
    """The times of a text in an emission.

    Words are what stands between spaces, and each Han character. They are normalised as the model's texts were, and
    what they were before comes back in the result. Marks that nobody speaks, [noise] or NARRATOR:, have no time where
    `text_options.marks` is drop. A word lasts from its first character's first frame to its last character's last; a
    sentence, from its first word to its last.

    Args:
        log_probs: (T, V) natural log-probabilities; V is alphabet.size, Φ is column 0.
        text: as a person writes it; its words in the order in which they are spoken.
        alphabet: characters of the labels.
        options: None means the defaults.
        text_options: how the model's texts were normalised; None means the defaults.
        frame_seconds: from one frame to the next; left at 1, all times count frames.
        duration_seconds: of the sound; None means T * frame_seconds. Frames that begin later are left out.
    Raises:
        InputError: no word has a character in the alphabet; one has not, and `options.unknown` is refuse; there is a
            mark, and `text_options.marks` is refuse; there are too few frames for the text; or log_probs is not what
            it must be.
    """
    options = options or AlignmentOptions()
    if duration_seconds is None:
        duration_seconds = len(log_probs) * frame_seconds
    timeline = Timeline(frame_seconds=frame_seconds, duration_seconds=duration_seconds)
    emission = log_probs[: timeline.num_frames]
    if emission.ndim == 2 and emission.shape[1] != alphabet.size:
        raise InputError(
            f"log_probs must have one column for each of the {alphabet.size} labels of the alphabet, Φ included; "
            f"got {emission.shape[1]}"
        )
    places = list(find_words(text))
    words = [text[start:end] for start, end in places]
    dropped: Counter[str] = Counter()
    text_options = text_options or TextOptions()
    characters, owners = spell_words(_spoken_words(text, places, text_options), text_options)
    characters, owners = _known(characters, owners, alphabet, dropped)
    if dropped and options.unknown == "refuse":
        raise InputError(f"the model must know every character of the text; it lacks {', '.join(map(repr, dropped))}")
    labels = alphabet.encode(characters)
    if not labels:
        raise InputError(
            f"the text must have a character that the model knows; got {text[:40]!r}, and the model knows "
            f"{''.join(alphabet.characters[:_MOST_SHOWN])!r}{' ...' * (alphabet.size > _MOST_SHOWN + 1)}"
        )
    if (needed := minimum_frames(labels)) > len(emission):
        raise InputError(
            f"the text needs {needed} frames ({len(labels)} characters, {needed - len(labels)} repeats) but the "
            f"recording has {len(emission)}, in {duration_seconds:.2f} s: is it the text of this recording?"
        )
    groups = _group_sentences(text, places, timed=set(owners), ends_with=options.sentence_end)
    gaps = [] if options.gaps == "nowhere" else [0, len(labels)]
    if options.gaps == "sentences":
        gaps += [next(i for i, owner in enumerate(owners) if first <= owner < end) for first, end in groups]
    found = align(emission, labels, blank=BLANK, gaps=gaps, gap_score=options.gap_score)
    timed = _timed_words(words, characters, owners, found, timeline)
    sentences = []
    for first, end in groups:
        parts = tuple(timed[index] for index in range(first, end) if index in timed)
        sentences.append(
            Segment(
                text=" ".join(text[places[first][0] : places[end - 1][1]].split()),
                start_frame=parts[0].start_frame,
                end_frame=parts[-1].end_frame,
                score=_mean([character.score for word in parts for character in word.parts]),
                timeline=timeline,
                parts=parts,
            )
        )
    return AlignedText(
        text=text,
        sentences=tuple(sentences),
        untimed=tuple(word for index, word in enumerate(words) if index not in timed),
        dropped=dropped,
        score=found.score,
        timeline=timeline,
    )


def _spoken_words(text: str, places: Sequence[tuple[int, int]], options: TextOptions) -> list[str]:
    """The words without what is in a mark, [door opens], which may go over several of them."""
    if options.marks == "refuse":
        refuse_marks(text)
    marks = find_marks(text) if options.marks == "drop" else []
    words, first = [], 0
    for start, end in places:
        while first < len(marks) and marks[first][1] <= start:
            first += 1
        pieces, position = [], start
        for mark_start, mark_end in marks[first:] if first < len(marks) and marks[first][0] < end else ():
            if mark_start >= end:
                break
            pieces.append(text[position:mark_start])
            position = max(position, mark_end)
        words.append("".join([*pieces, text[position:end]]))
    return words


def spell_words(words: Sequence[str], options: TextOptions) -> tuple[str, list[int]]:
    """The normalised text of successive words, and for each of its characters the index of its word, -1 for a space.

    Marks are words here; `align_text` has taken them out, since one may go over several words.

    Source: `normalize`, which treats words apart but for the spaces between them.
    """
    options = replace(options, marks="keep")
    pieces = [normalize(word, options) for word in words]
    owners = iter([index for index, piece in enumerate(pieces) for character in piece if character != " "])
    characters = normalize(" ".join(pieces), options)
    return characters, [-1 if character == " " else next(owners) for character in characters]


def _known(characters: str, owners: list[int], alphabet: Alphabet, dropped: Counter[str]) -> tuple[str, list[int]]:
    """What the alphabet has of the characters, and never two spaces in a row, or one at an edge."""
    kept: list[tuple[str, int]] = []
    for character, owner in zip(characters, owners, strict=True):
        if character == " ":
            if " " in alphabet.characters and kept and kept[-1][0] != " ":
                kept.append((character, owner))
        elif character in alphabet.characters:
            kept.append((character, owner))
        else:
            dropped[character] += 1
    if kept and kept[-1][0] == " ":
        kept.pop()
    return "".join(character for character, _ in kept), [owner for _, owner in kept]


def _timed_words(
    words: Sequence[str], characters: str, owners: Sequence[int], found: Alignment, timeline: Timeline
) -> dict[int, Segment]:
    """The words that have a time, by their index."""
    parts: dict[int, list[Segment]] = {}
    for character, owner, (start, end), score in zip(
        characters, owners, found.spans.tolist(), found.token_scores.tolist(), strict=True
    ):
        if owner >= 0:
            parts.setdefault(owner, []).append(
                Segment(text=character, start_frame=start, end_frame=end, score=score, timeline=timeline)
            )
    return {
        index: Segment(
            text=words[index],
            start_frame=inner[0].start_frame,
            end_frame=inner[-1].end_frame,
            score=_mean([character.score for character in inner]),
            timeline=timeline,
            parts=tuple(inner),
        )
        for index, inner in parts.items()
    }


def _group_sentences(
    text: str, places: Sequence[tuple[int, int]], *, timed: set[int], ends_with: SentenceEnd
) -> list[tuple[int, int]]:
    """The sentences as ranges [first, end) of words, each with a timed one; others go with the one before, or after."""
    groups: list[tuple[int, int]] = []
    start = 0
    for end in _sentence_ends(text, places, ends_with=ends_with):
        if any(index in timed for index in range(start, end)):
            groups.append((start, end))
            start = end
        elif groups:
            groups[-1] = groups[-1][0], end
            start = end
    return groups


def _sentence_ends(text: str, places: Sequence[tuple[int, int]], *, ends_with: SentenceEnd) -> Iterator[int]:
    """For each sentence, the index of the word after its last."""
    for index, (start, end) in enumerate(places[:-1]):
        next_start, next_end = places[index + 1]
        num_lines = len(f"{text[end:next_start]}.".splitlines()) - 1
        if ends_with == "line":
            ended = num_lines > 0
        else:
            word, following = text[start:end], text[next_start:next_end].lstrip("\"'“‘«([—–-")
            abbreviated = _ABBREVIATION.fullmatch(word) or (_INITIAL.fullmatch(word) and word.isupper())
            ended = num_lines > 1 or bool(_TERMINAL.search(word) and not abbreviated and not following[:1].islower())
        if ended:
            yield index + 1
    yield len(places)


def _mean(scores: Sequence[float]) -> float:
    return math.fsum(scores) / len(scores)
