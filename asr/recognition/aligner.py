"""Forced alignment of a text with its recording: when each sentence, word and character is spoken.

text ─▶ words ─▶ normalised as the model's texts were ─▶ labels ─▶ their frames ─▶ characters, words, sentences
        as written                                        log_probs of any length ╯     with times, as written
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from asr.acoustic.foreign.model import text_like
from asr.ctc.greedy import best_path
from asr.decoding.places import place_path
from asr.errors import AsrError, InputError
from asr.options import check_options, option
from asr.recognition.character_places import Places, TooShort, place_letters, place_pieces
from asr.recognition.differences import LEAST_WORDS, Difference, find_differences
from asr.recognition.sentences import SentenceEnd, group_sentences, timed_sentence
from asr.recognition.word_characters import (
    composed,
    first_characters,
    known_characters,
    spell_words,
    spelled_tokens,
    unread_words,
    without_words,
)
from asr.recognition.word_times import left_times, with_edges
from asr.text.aligned_text import AlignedText, Missing, Segment, Unspoken, mean_score
from asr.text.alphabet import BLANK, Alphabet, join_bytes
from asr.text.normalization import TextOptions
from asr.text.readings import read_words
from asr.text.subwords import Subwords
from asr.text.transcript import Timeline, Word, find_words

if TYPE_CHECKING:  # these load torch, which `align_text` does not need
    from asr.audio.waveform import Source
    from asr.recognition.recognizer import Emission, Recognizer
    from asr.recognition.recordings import Spoken

Gaps = Literal["edges", "sentences", "nowhere"]
Unknown = Literal["drop", "refuse"]

_MOST_SHOWN = 40  # characters of an alphabet, in a message


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
    return Aligner(recognizer, options).align(log_probs, text, duration_seconds)


@dataclass(frozen=True)
class Aligner:
    """Aligns texts with a recogniser's model; as a worker, many of them."""

    recognizer: Recognizer
    options: AlignmentOptions | None = None

    def align(self, log_probs: Emission, text: str, duration_seconds: float) -> AlignedText:
        """`align_text` with the model's alphabet, spelling and frames."""
        model = self.recognizer.model
        aligned = align_text(
            log_probs,
            text,
            model.alphabet,
            self.options,
            text_options=model.text,
            frame_seconds=model.frame_seconds,
            duration_seconds=duration_seconds,
        )
        return replace(aligned, model=model.name)

    def results(
        self, sources: Iterable[Spoken], *, progress: Callable[[float], None] | None = None, **sound: Any
    ) -> Iterator[AlignedText | AsrError]:
        """The aligned text of each source in order, or its error; short sounds share batches of the model."""
        kept, sounds = itertools.tee(sources)
        emissions = self.recognizer.many_log_probs((item.sound for item in sounds), progress=progress, **sound)
        for item, emission in zip(kept, emissions, strict=True):
            try:
                yield emission if isinstance(emission, AsrError) else self.align(emission[0], item.text, emission[1])
            except AsrError as error:
                yield error


def align_text(
    log_probs: Emission,
    text: str,
    labels: Alphabet | Subwords,
    options: AlignmentOptions | None = None,
    *,
    text_options: TextOptions | None = None,
    frame_seconds: float = 1.0,
    duration_seconds: float | None = None,
) -> AlignedText:
    """The times of a text in an emission.

    Spaces separate words, and each Han character is a word. Words are aligned as `text_options` normalises them; the
    result has them as written. Marks that nobody speaks, [noise] or NARRATOR:, get no time if `text_options.marks` is
    drop. English numbers and signs are aligned as they are read, if the model cannot spell them; other words that it
    cannot spell get the time that is left between their neighbours. The frames of a word are those of its labels; its
    start and end are estimates of where its sound begins and ends. Passages of at least five words that the text lacks,
    or that nobody says, are found by comparison with what the model hears, and the text is aligned around them, unless
    `options.gaps` is nowhere.

    Args:
        log_probs: (T, V) natural log-probabilities; V is labels.size, Φ is column 0.
        text: as a person writes it, with its words in the order of speech.
        labels: an alphabet; or subwords, of which the most probable segmentation is aligned: a character then has the
            frames of its label.
        options: None means the defaults.
        text_options: how the model's texts were normalised; None means in the case of the labels, see `text_like`.
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
    alphabet = labels.alphabet if isinstance(labels, Subwords) else labels
    if emission.ndim == 2 and emission.shape[1] != labels.size:
        raise InputError(
            f"log_probs must have one column for each of the {labels.size} labels of the alphabet, Φ included; "
            f"got {emission.shape[1]}"
        )
    spans = list(find_words(text))
    words = [text[start:end] for start, end in spans]
    dropped: Counter[str] = Counter()
    text_options = text_options or text_like(labels)
    readings, note = read_words(text, spans, text_options, lambda character: bool(alphabet.spell(character)))
    characters, owners = composed(*spell_words(readings, text_options), alphabet)
    unread = unread_words(readings, owners)
    characters, owners = known_characters(characters, owners, alphabet, dropped)
    unread |= unread_words(readings, owners)
    if dropped and options.unknown == "refuse":
        raise InputError(f"the model must have every character of the text; it lacks {', '.join(map(repr, dropped))}")
    if not characters:
        raise InputError(
            f"the text must have a character of the model; got {text[:40]!r}, and the model has "
            f"{''.join(alphabet.characters[:_MOST_SHOWN])!r}{' ...' * (alphabet.size > _MOST_SHOWN + 1)}"
        )

    heard = _heard_words(emission, labels, timeline)
    tokens, token_owners = spelled_tokens(characters, owners)
    differences = find_differences(tokens, [word.text for word in heard]) if options.gaps != "nowhere" else []
    unspoken, holes = _passages(differences, token_owners, heard, len(spans))
    if 2 * sum(map(len, unspoken)) > len(spans):  # the text of another recording: `AlignedText.doubt` says so
        unspoken, holes = [], {}
    left_out = {word for passage in unspoken for word in passage}
    characters, owners = without_words(characters, owners, left_out)
    gap_words = {*holes, *unread} | (set() if options.gaps == "nowhere" else {0, len(spans)})
    if options.gaps == "sentences":
        gap_words |= {first for first, _ in group_sentences(text, spans, set(owners), options.sentence_end)}
    gaps = sorted(set(map(first_characters(owners), gap_words)))
    put = place_pieces if isinstance(labels, Subwords) else place_letters
    try:
        places = put(emission, characters, labels, gaps, options.gap_score)  # type: ignore[arg-type]
    except TooShort as error:
        raise InputError(
            f"the text needs {error} but the recording has {len(emission)}, in {duration_seconds:.2f} s: is it the "
            "text of this recording?"
        ) from None
    timed = _timed_words(words, characters, owners, places, timeline)
    for word, (start, end) in left_times(unread - left_out, timed, heard, len(emission)).items():
        timed[word] = Segment(text=words[word], start_frame=start, end_frame=end, score=-math.inf, timeline=timeline)
    timed = {word: replace(segment, position=spans[word][0]) for word, segment in sorted(timed.items())}
    timed = dict(zip(timed, with_edges(list(timed.values())), strict=True))
    sentences = [
        timed_sentence(text, spans, [word for word in range(first, end) if word not in left_out], timed)
        for first, end in group_sentences(text, spans, set(owners), options.sentence_end)
    ]
    return AlignedText(
        text=text,
        sentences=tuple(sentences),
        untimed=tuple(word for index, word in enumerate(words) if index not in timed and index not in left_out),
        dropped=dropped,
        score=places[2],
        timeline=timeline,
        missing=tuple(_missing(holes, timed, heard, timeline)),
        unspoken=tuple(
            Unspoken(first=passage[0], end=passage[-1] + 1, text=text[spans[passage[0]][0] : spans[passage[-1]][1]])
            for passage in unspoken
        ),
        notes=(note,) if note else (),
    )


def _timed_words(
    words: Sequence[str],
    characters: str,
    owners: Sequence[int],
    places: Places,
    timeline: Timeline,
) -> dict[int, Segment]:
    """The words that have a time, by index."""
    spans, scores, _ = places
    parts: dict[int, list[Segment]] = {}
    for character, owner, (start, end), score in zip(characters, owners, spans, scores, strict=True):
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


def _heard_words(emission: Emission, labels: Alphabet | Subwords, timeline: Timeline) -> list[Word]:
    """The words of the best path."""
    spelled, places = place_path(best_path(emission, blank=BLANK), labels)
    return [
        Word(
            text=join_bytes(spelled[start:end]),
            start_frame=places.spans[start][0],
            end_frame=places.spans[end - 1][1],
            confidence=1.0,
            timeline=timeline,
        )
        for start, end in find_words(spelled)
    ]


def _passages(
    differences: Sequence[Difference], owners: Sequence[int], heard: Sequence[Word], num_words: int
) -> tuple[list[range], dict[int, Sequence[Word]]]:
    """The words of each unspoken passage; and the words before which speech is missing, with what is heard there."""
    unspoken, holes = [], {}
    for item in differences:
        first = owners[item.first] if item.first < len(owners) else num_words
        if item.end > item.first:
            unspoken.append(range(first, owners[item.end - 1] + 1))
        else:
            holes[first] = heard[item.heard_first : item.heard_end]
    return unspoken, holes


def _missing(
    holes: Mapping[int, Sequence[Word]], timed: Mapping[int, Segment], heard: Sequence[Word], timeline: Timeline
) -> Iterator[Missing]:
    """The speech that is missing before each of the words, if the alignment leaves time for it."""
    for word, passage in sorted(holes.items()):
        before = max((segment.end_frame for other, segment in timed.items() if other < word), default=0)
        after = min((segment.start_frame for other, segment in timed.items() if other >= word), default=1 << 62)
        inside = [item for item in passage if item.start_frame >= before and item.end_frame <= after]
        if len(inside) >= LEAST_WORDS:
            yield Missing(start=inside[0].start, end=inside[-1].end, heard=" ".join(item.text for item in inside))
