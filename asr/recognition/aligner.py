"""Forced alignment of a text with its recording: when each sentence, word and character is spoken.

text ─▶ words ─▶ normalised as the model's texts were ─▶ labels ─▶ their frames ─▶ characters, words, sentences
        as written                                        log_probs of any length ╯     with times, as written
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from asr.ctc.alignment import Alignment, align
from asr.ctc.collapse import minimum_frames
from asr.errors import InputError
from asr.options import check_options, option
from asr.text.aligned_text import AlignedText, Segment, mean_score
from asr.text.alphabet import BLANK, Alphabet
from asr.text.marks import find_marks
from asr.text.normalization import TextOptions, normalize, refuse_marks
from asr.text.transcript import Timeline, find_words

if TYPE_CHECKING:  # these load torch, which `align_text` does not need
    from asr.audio.waveform import Source
    from asr.recognition.recognizer import Emission, Recognizer

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
    """How a text is aligned to a recording."""

    gaps: Gaps = option(
        "edges",
        "allow speech outside the text before and after it, also between its sentences, or nowhere",
    )
    gap_score: float = option(
        -1.0,
        "log-probability of a frame of speech that is not in the text; lower: align more frames to the text",
        least=-1e6,
        most=0,
    )
    sentence_end: SentenceEnd = option(
        "punctuation", "end sentences at punctuation and empty lines, or at the end of each line"
    )
    unknown: Unknown = option("drop", "leave out characters that the model lacks, with a warning, or refuse the text")

    def __post_init__(self) -> None:
        check_options(self)


def align_recording(
    recognizer: Recognizer,
    source: Source,
    text: str,
    options: AlignmentOptions | None = None,
    *,
    progress: Callable[[float], None] | None = None,
    **sound: Any,
) -> AlignedText:
    """The times of a text in a recording of any length, an hour in less than 1.5 GB.

    Args:
        recognizer: its model computes log-probabilities, and its options normalise the text.
        source: a path, "-" for standard input, a binary file object, or (samples, rate): see `read_audio`.
        text: the spoken text; see `align_text`.
        options: None means the defaults.
        progress: called after each batch with its seconds of sound.
        sound: channel, track and max_input_bytes as for `Recognizer.transcribe`.
    Raises:
        DataError: the source cannot be read.
        InputError: as for `align_text`.
    """
    log_probs, duration_seconds = recognizer.long_log_probs(source, progress=progress, **sound)
    aligned = align_text(
        log_probs,
        text,
        recognizer.model.alphabet,
        options,
        text_options=recognizer.model.config.text,
        frame_seconds=recognizer.model.frame_seconds,
        duration_seconds=duration_seconds,
    )
    return replace(aligned, model=recognizer.model.config.name)


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

    Spaces separate words, and each Han character is a word. Words are aligned as `text_options` normalises them; the
    result has them as written. Marks that nobody speaks, [noise] or NARRATOR:, get no time if `text_options.marks` is
    drop. A word lasts from the first frame of its first character to the last frame of its last character; a sentence,
    from its first word to its last word.

    Args:
        log_probs: (T, V) natural log-probabilities; V is alphabet.size, Φ is column 0.
        text: as a person writes it, with its words in the order of speech.
        alphabet: characters of the labels.
        options: None means the defaults.
        text_options: how the model's texts were normalised; None means the defaults.
        frame_seconds: from one frame to the next; left at 1, all times count frames.
        duration_seconds: of the sound; None means T * frame_seconds. Frames that begin later are left out.
    Raises:
        InputError: no character of the text is in the alphabet; one is not, and `options.unknown` is refuse; the text
            has a mark, and `text_options.marks` is refuse; log_probs has too few frames for the text, or another shape
            or type than above.
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
    spans = list(find_words(text))
    words = [text[start:end] for start, end in spans]
    dropped: Counter[str] = Counter()
    text_options = text_options or TextOptions()
    characters, owners = spell_words(_spoken_words(text, spans, text_options), text_options)
    characters, owners = _known(characters, owners, alphabet, dropped)
    if dropped and options.unknown == "refuse":
        raise InputError(f"the model must have every character of the text; it lacks {', '.join(map(repr, dropped))}")
    labels = alphabet.encode(characters)
    if not labels:
        raise InputError(
            f"the text must have a character of the model; got {text[:40]!r}, and the model has "
            f"{''.join(alphabet.characters[:_MOST_SHOWN])!r}{' ...' * (alphabet.size > _MOST_SHOWN + 1)}"
        )
    if (num_needed := minimum_frames(labels)) > len(emission):
        raise InputError(
            f"the text needs {num_needed} frames ({len(labels)} characters, {num_needed - len(labels)} repeats) but "
            f"the recording has {len(emission)}, in {duration_seconds:.2f} s: is it the text of this recording?"
        )
    groups = _group_sentences(text, spans, timed=set(owners), ends_with=options.sentence_end)
    gaps = [] if options.gaps == "nowhere" else [0, len(labels)]
    if options.gaps == "sentences":
        gaps += [next(i for i, owner in enumerate(owners) if first <= owner < end) for first, end in groups]
    alignment = align(emission, labels, blank=BLANK, gaps=gaps, gap_score=options.gap_score)
    timed = _timed_words(words, characters, owners, alignment, timeline)
    sentences = []
    for first, end in groups:
        parts = tuple(timed[index] for index in range(first, end) if index in timed)
        sentences.append(
            Segment(
                text=" ".join(text[spans[first][0] : spans[end - 1][1]].split()),
                start_frame=parts[0].start_frame,
                end_frame=parts[-1].end_frame,
                score=mean_score([character for word in parts for character in word.parts]),
                timeline=timeline,
                parts=parts,
            )
        )
    return AlignedText(
        text=text,
        sentences=tuple(sentences),
        untimed=tuple(word for index, word in enumerate(words) if index not in timed),
        dropped=dropped,
        score=alignment.score,
        timeline=timeline,
    )


def _spoken_words(text: str, spans: Sequence[tuple[int, int]], options: TextOptions) -> list[str]:
    """The words without the text of marks such as [door opens], which may span several words."""
    if options.marks == "refuse":
        refuse_marks(text)
    marks = find_marks(text) if options.marks == "drop" else []
    words, first = [], 0
    for start, end in spans:
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

    Marks count as words; `align_text` removes them before, as one may span several words.

    Source: `normalize`, which handles each word on its own, except for the spaces between words.
    """
    options = replace(options, marks="keep")
    pieces = [normalize(word, options) for word in words]
    owners = iter([index for index, piece in enumerate(pieces) for character in piece if character != " "])
    characters = normalize(" ".join(pieces), options)
    return characters, [-1 if character == " " else next(owners) for character in characters]


def _known(characters: str, owners: list[int], alphabet: Alphabet, dropped: Counter[str]) -> tuple[str, list[int]]:
    """The characters that the alphabet has, and their owners; spaces neither doubled nor at an edge."""
    pairs: list[tuple[str, int]] = []
    for character, owner in zip(characters, owners, strict=True):
        if character == " ":
            if " " in alphabet.characters and pairs and pairs[-1][0] != " ":
                pairs.append((character, owner))
        elif character in alphabet.characters:
            pairs.append((character, owner))
        else:
            dropped[character] += 1
    if pairs and pairs[-1][0] == " ":
        pairs.pop()
    return "".join(character for character, _ in pairs), [owner for _, owner in pairs]


def _timed_words(
    words: Sequence[str], characters: str, owners: Sequence[int], alignment: Alignment, timeline: Timeline
) -> dict[int, Segment]:
    """The words that have a time, by index."""
    parts: dict[int, list[Segment]] = {}
    for character, owner, (start, end), score in zip(
        characters, owners, alignment.spans.tolist(), alignment.token_scores.tolist(), strict=True
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
            score=mean_score(inner),
            timeline=timeline,
            parts=tuple(inner),
        )
        for index, inner in parts.items()
    }


def _group_sentences(
    text: str, spans: Sequence[tuple[int, int]], *, timed: set[int], ends_with: SentenceEnd
) -> list[tuple[int, int]]:
    """The sentences as ranges [first, end) of words, each with a timed word; others join a neighbour."""
    groups: list[tuple[int, int]] = []
    start = 0
    for end in _sentence_ends(text, spans, ends_with=ends_with):
        if any(index in timed for index in range(start, end)):
            groups.append((start, end))
            start = end
        elif groups:
            groups[-1] = groups[-1][0], end
            start = end
    return groups


def _sentence_ends(text: str, spans: Sequence[tuple[int, int]], *, ends_with: SentenceEnd) -> Iterator[int]:
    """For each sentence, the index of the word after its last."""
    for index, (start, end) in enumerate(spans[:-1]):
        next_start, next_end = spans[index + 1]
        num_lines = len(f"{text[end:next_start]}.".splitlines()) - 1
        if ends_with == "line":
            ended = num_lines > 0
        else:
            word, following = text[start:end], text[next_start:next_end].lstrip("\"'“‘«([—–-")
            abbreviated = _ABBREVIATION.fullmatch(word) or (_INITIAL.fullmatch(word) and word.isupper())
            ended = num_lines > 1 or bool(_TERMINAL.search(word) and not abbreviated and not following[:1].islower())
        if ended:
            yield index + 1
    yield len(spans)
