"""Formats of transcripts and aligned texts, each one function to text.

`Transcript`                                               txt, json, srt, vtt, ctm, tsv
`AlignedText` at the level of sentences, words, characters  json, srt, vtt, ctm, TextGrid
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from asr.errors import ConfigError
from asr.text.aligned_text import AlignedText, Level, Segment
from asr.text.metrics import align_tokens
from asr.text.transcript import Hypothesis, Timeline, Transcript, Word, split_words

# The usual limits of subtitles (broadcasters, Netflix); lengths in columns, times in milliseconds.
_LINE_WIDTH = 42
_LONGEST_CUE = 7000
_SHORTEST_CUE = 1000
_PAUSE = 500

_GAP = re.compile(r"(\S+)")
_PRINTED = re.compile(r"[^\s\x00-\x1f\x7f-\x9f]+")  # neither blanks nor control characters


def to_txt(transcript: Transcript) -> str:
    """The text on one line; an empty line for an empty transcript."""
    return transcript.text + "\n"


def to_json(transcript: Transcript) -> str:
    """One line of JSON; times in seconds, rounded to milliseconds, confidences and scores to four places.

    Keys: text, words (text, start, end, confidence), hypotheses (text, score; if known acoustic, lm, rnn, source,
    word_score, hotword_score and hotwords (text, start, end)), duration, model, options. A score is acoustic +
    lm_weight * lm + word_score + hotword_score with the weights of options. With rnn, it is acoustic +
    rescore_lm_weight (if null, lm_weight) * lm + rescore_weight * rnn - source_weight * source + word_score +
    hotword_score. A long recording, decoded in stretches, has the parts that all stretches have.
    """
    document = {
        "text": transcript.text,
        "words": list(map(_timed, transcript.words)),
        "hypotheses": [_hypothesis(hypothesis, transcript.timeline) for hypothesis in transcript.hypotheses],
        "duration": _milliseconds(transcript.duration_seconds) / 1000,
        "model": transcript.model,
        "options": dict(transcript.options),
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n"


def to_srt(transcript: Transcript) -> str:
    """SubRip subtitles: numbered cues with times as 00:00:00,000; empty for an empty transcript.

    SubRip cannot escape the arrow of its times, so --> becomes ->, as in Whisper.
    """
    return _srt(_subtitles([(transcript.text, transcript.words)], transcript.duration_seconds))


def to_vtt(transcript: Transcript) -> str:
    """WebVTT subtitles: times as 00:00:00.000, and & < > (so --> too) as character references.

    Source: W3C WebVTT, section 4.2.
    """
    return _vtt(_subtitles([(transcript.text, transcript.words)], transcript.duration_seconds))


def to_ctm(transcript: Transcript) -> str:
    """One line a word: `<utterance> <channel> <start> <duration> <word> <confidence>`, times in seconds.

    The utterance is the name of the transcript with _ for white space, or `audio` without a name; the channel is 1.

    Source: NIST SCTK, "CTM Format"; Kaldi writes the same.
    """
    return _ctm(transcript.name, transcript.words)


def to_tsv(transcript: Transcript) -> str:
    """Whisper's table: start, end and text of each cue, in whole milliseconds, separated by tabs, below a header."""
    rows = (
        f"{cue[0].start}\t{cue[-1].end}\t{_text(cue)}\n" for cue in _cues(_pieces(transcript.text, transcript.words))
    )
    return "start\tend\ttext\n" + "".join(rows)


def to_explanation(transcript: Transcript) -> str:
    """A table of the hypotheses, the best first: the weighted parts of each score, in nats, and the different words.

    Parts: the acoustic score, the language model of the search (lm), of rescoring (rnn), of the training texts
    (source), words, hotwords. Words that differ from the best hypothesis are in brackets; in the best one, words that
    differ from the second. [] is a missing word.
    """
    hypotheses, weights = transcript.hypotheses, transcript.options

    def weight(name: str) -> float:
        return float(weights.get(name, 0.0))

    def weight_of_lm(hypothesis: Hypothesis) -> float:
        own_weight = hypothesis.rnn is not None and weights.get("rescore_lm_weight") is not None
        return weight("rescore_lm_weight" if own_weight else "lm_weight")

    parts = {
        "acoustic": [item.score if item.acoustic is None else item.acoustic for item in hypotheses],
        "lm": [weight_of_lm(item) * (item.lm or 0.0) for item in hypotheses],
        "rnn": [weight("rescore_weight") * (item.rnn or 0.0) for item in hypotheses],
        "source": [-weight("source_weight") * (item.source or 0.0) for item in hypotheses],
        "words": [item.word_score for item in hypotheses],
        "hotwords": [item.hotword_score for item in hypotheses],
    }
    columns = {"score": [item.score for item in hypotheses], **{name: row for name, row in parts.items() if any(row)}}
    lines = ["".join(f"{name:>10}" for name in columns) + "  text"]
    words = [split_words(item.text) for item in hypotheses]
    for number, row in enumerate(words):
        other = words[0] if number or len(words) == 1 else words[1]
        numbers = "".join(f"{values[number]:10.2f}" for values in columns.values())
        lines.append(f"{numbers}  {' '.join(_marked(row, other))}".rstrip())
    return "\n".join([*lines, ""])


def _marked(words: Sequence[str], others: Sequence[str]) -> Iterator[str]:
    """The words, in brackets where the others differ; [] for a word that only the others have."""
    for step in align_tokens(others, words):
        yield str(step.hypothesis) if step.operation == "match" else f"[{step.hypothesis or ''}]"


WRITERS: dict[str, Callable[[Transcript], str]] = {
    "txt": to_txt,
    "json": to_json,
    "srt": to_srt,
    "vtt": to_vtt,
    "ctm": to_ctm,
    "tsv": to_tsv,
}
"""The writer of each format; its name is also the extension of the file."""


def alignment_to_json(aligned: AlignedText, level: Level) -> str:
    """One line of JSON; times in seconds, rounded to milliseconds, confidences and scores to four places.

    Keys: text; sentences, words and characters (text, start, end, confidence), as far down as the level; untimed
    (words without a time), score, duration, model.
    """
    document: dict[str, object] = {"text": aligned.text}
    for tier, segments in _tiers(aligned, level):
        document[tier] = list(map(_timed, segments))
    document |= {
        "untimed": list(aligned.untimed),
        "score": round(aligned.score, 4),
        "duration": _milliseconds(aligned.timeline.duration_seconds) / 1000,
        "model": aligned.model,
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n"


def alignment_to_srt(aligned: AlignedText, level: Level) -> str:
    """SubRip subtitles as from `to_srt`; a cue belongs to one sentence, word or character.

    A word without a time is in the cue of the word before it.
    """
    return _srt(_subtitles(_passages(aligned, level), aligned.timeline.duration_seconds))


def alignment_to_vtt(aligned: AlignedText, level: Level) -> str:
    """WebVTT subtitles as from `to_vtt`, with the cues of `alignment_to_srt`."""
    return _vtt(_subtitles(_passages(aligned, level), aligned.timeline.duration_seconds))


def alignment_to_ctm(aligned: AlignedText, level: Level) -> str:
    """One line a word or character, as from `to_ctm`.

    Raises:
        ConfigError: the level is sentence; ctm cannot write spaces.
    """
    if level == "sentence":
        raise ConfigError("ctm must have the level word or character; it cannot write the spaces of a sentence")
    return _ctm(aligned.name, aligned.segments(level))


def alignment_to_textgrid(aligned: AlignedText, level: Level) -> str:
    """A TextGrid for Praat, in its long form: tiers of sentences, words and characters, as far down as the level.

    Intervals touch, as Praat requires: an interval without text fills each gap.

    Source: Praat manual, "TextGrid file formats".
    """
    duration = f"{_milliseconds(aligned.timeline.duration_seconds) / 1000:.3f}"
    tiers = list(_tiers(aligned, level))
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {duration}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, segments) in enumerate(tiers, start=1):
        intervals = list(_intervals(segments, _milliseconds(aligned.timeline.duration_seconds)))
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        lines += ["        xmin = 0", f"        xmax = {duration}", f"        intervals: size = {len(intervals)}"]
        for index, (start, end, text) in enumerate(intervals, start=1):
            lines += [f"        intervals [{index}]:", f"            xmin = {start / 1000:.3f}"]
            lines += [
                f"            xmax = {end / 1000:.3f}",
                f'            text = "{text.replace(chr(34), chr(34) * 2)}"',
            ]
    return "\n".join(lines) + "\n"


ALIGNMENT_WRITERS: dict[str, Callable[[AlignedText, Level], str]] = {
    "ctm": alignment_to_ctm,
    "json": alignment_to_json,
    "TextGrid": alignment_to_textgrid,
    "srt": alignment_to_srt,
    "vtt": alignment_to_vtt,
}
"""The writer of each format of an aligned text; its name is also the extension of the file."""


def _timed(word: Word | Segment) -> dict[str, object]:
    """A word or segment as JSON values."""
    return {
        "text": word.text,
        "start": _milliseconds(word.start) / 1000,
        "end": _milliseconds(word.end) / 1000,
        "confidence": round(word.confidence, 4),
    }


def _hypothesis(hypothesis: Hypothesis, timeline: Timeline) -> dict[str, object]:
    """A hypothesis as JSON values, without parts that it lacks."""
    values: dict[str, object] = {"text": hypothesis.text}
    for name in ("score", "acoustic", "lm", "rnn", "source"):
        if (value := getattr(hypothesis, name)) is not None:
            values[name] = round(value, 4)
    for name in ("word_score", "hotword_score"):
        if value := getattr(hypothesis, name):
            values[name] = round(value, 4)
    if hypothesis.hotwords:
        values["hotwords"] = [
            {
                "text": spotted.text,
                "start": _milliseconds(timeline.seconds(spotted.start_frame)) / 1000,
                "end": _milliseconds(timeline.seconds(spotted.end_frame)) / 1000,
            }
            for spotted in hypothesis.hotwords
        ]
    return values


def _tiers(aligned: AlignedText, level: Level) -> Iterator[tuple[str, tuple[Segment, ...]]]:
    """Names and segments of the tiers, from the sentences down to the level."""
    levels: tuple[Level, ...] = ("sentence", "word", "character")
    for name in levels[: levels.index(level) + 1]:
        yield f"{name}s", aligned.segments(name)


def _passages(aligned: AlignedText, level: Level) -> Iterator[tuple[str, Sequence[Segment]]]:
    """The texts that have their own cues, with their words."""
    for segment in aligned.segments(level):
        yield segment.text, segment.parts if level == "sentence" else (segment,)


def _intervals(segments: Sequence[Segment], duration: int) -> Iterator[tuple[int, int, str]]:
    """The segments and the silence around them: start and end in milliseconds, text."""
    last_end = 0
    for segment in segments:
        start, end = _milliseconds(segment.start), _milliseconds(segment.end)
        if start > last_end:
            yield last_end, start, ""
        yield start, end, segment.text
        last_end = end
    if last_end < duration:
        yield last_end, duration, ""


def _srt(cues: Iterable[tuple[int, int, str]]) -> str:
    lines = (
        f"{number}\n{_timestamp(start, ',')} --> {_timestamp(end, ',')}\n{text.replace('-->', '->')}\n\n"
        for number, (start, end, text) in enumerate(cues, start=1)
    )
    return "".join(lines)


def _vtt(cues: Iterable[tuple[int, int, str]]) -> str:
    lines = (
        f"{_timestamp(start, '.')} --> {_timestamp(end, '.')}\n{escape(text, quote=False)}\n\n"
        for start, end, text in cues
    )
    return "WEBVTT\n\n" + "".join(lines)


def _ctm(name: str, words: Iterable[Word | Segment]) -> str:
    utterance = "_".join(_PRINTED.findall(name)) or "audio"
    lines = []
    for word in words:
        start, end = _milliseconds(word.start), _milliseconds(word.end)
        duration = (end - start) / 1000
        lines.append(f"{utterance} 1 {start / 1000:.3f} {duration:.3f} {word.text} {word.confidence:.3f}\n")
    return "".join(lines)


@dataclass(frozen=True)
class _Piece:
    """A word, or the part of one that fits a line, with the gap before it."""

    gap: str  # "" or " "
    text: str
    width: int
    start: int  # milliseconds
    end: int


def _subtitles(
    passages: Iterable[tuple[str, Sequence[Word | Segment]]], duration_seconds: float
) -> Iterator[tuple[int, int, str]]:
    """Start and end in milliseconds, and one or two lines, of each cue; a cue belongs to one passage.

    A short cue stays for a second, unless the next cue or the end of the recording is earlier.
    """
    cues = [cue for text, words in passages for cue in _cues(_pieces(text, words))]
    for number, cue in enumerate(cues, start=1):
        start, end = cue[0].start, cue[-1].end
        limit = cues[number][0].start if number < len(cues) else _milliseconds(duration_seconds)
        end = max(end, min(start + _SHORTEST_CUE, limit))
        yield start, min(end, start + _LONGEST_CUE), "\n".join(_lines(cue))


def _cues(pieces: Iterable[_Piece]) -> list[list[_Piece]]:
    """The pieces in groups that follow each other without a pause, and fit two lines and the longest time."""
    cues: list[list[_Piece]] = []
    for piece in pieces:
        cue = cues[-1] if cues else None
        if (
            cue is not None
            and piece.start - cue[-1].end < _PAUSE
            and piece.end - cue[0].start <= _LONGEST_CUE
            and _fits([*cue, piece])
        ):
            cue.append(piece)
        else:
            cues.append([piece])
    return cues


def _pieces(text: str, words: Sequence[Word | Segment]) -> Iterator[_Piece]:
    """The words; other text between them starts and ends at the end of the word before."""
    position = 0
    last_end = _milliseconds(words[0].start) if words else 0
    for word in words:
        start = text.index(word.text, position)
        *untimed, gap = _GAP.split(text[position:start])
        for before, other in zip(untimed[::2], untimed[1::2], strict=True):
            yield from _parts(before, other, last_end, last_end)
        position = start + len(word.text)
        last_end = _milliseconds(word.end)
        yield from _parts(gap, word.text, _milliseconds(word.start), last_end)
    *untimed, _ = _GAP.split(text[position:])
    for before, other in zip(untimed[::2], untimed[1::2], strict=True):
        yield from _parts(before, other, last_end, last_end)


def _parts(gap: str, word: str, start: int, end: int) -> Iterator[_Piece]:
    """The parts of a word that is too wide for a line, with shares of its time; else the word."""
    last = 0
    for part in _cut(word):
        first, last = last, last + len(part)
        yield _Piece(
            gap="" if first else gap,
            text=part,
            width=_width(part),
            start=start + (end - start) * first // len(word),
            end=start + (end - start) * last // len(word),
        )


def _cut(word: str) -> list[str]:
    """The word in parts that each fit a line; nearly always one part."""
    parts = [""]
    for character in word:
        if _width(parts[-1] + character) > _LINE_WIDTH:
            parts.append("")
        parts[-1] += character
    return parts


def _fits(pieces: list[_Piece]) -> bool:
    """Whether the pieces fit two lines, with as many as possible on the first."""
    num_lines, width = 1, 0
    for piece in pieces:
        width += (len(piece.gap) if width else 0) + piece.width
        if width > _LINE_WIDTH:
            num_lines, width = num_lines + 1, piece.width
    return num_lines <= 2


def _lines(pieces: list[_Piece]) -> list[str]:
    """One line if it is short enough, else two of nearly equal width, the lower one longer."""
    if len(pieces) == 1 or _width(_text(pieces)) <= _LINE_WIDTH:
        return [_text(pieces)]
    halves = ([_text(pieces[:middle]), _text(pieces[middle:])] for middle in range(1, len(pieces)))
    return min(halves, key=lambda lines: max(map(_width, lines)))


def _text(pieces: list[_Piece]) -> str:
    return "".join(piece.gap + piece.text for piece in pieces).strip()


def _width(text: str) -> int:
    """Columns on the screen: Chinese, Japanese and Korean characters take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000 + 0.5)


def _timestamp(milliseconds: int, mark: str) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{mark}{milliseconds:03d}"
