"""How a transcript is written: txt, json, srt, vtt, ctm and tsv, each one function from `Transcript` to text."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape

from asr.transcript import Transcript

# Subtitles as broadcasters and Netflix have them; lengths in columns, times in milliseconds.
_LINE_WIDTH = 42
_LONGEST_CUE = 7000
_SHORTEST_CUE = 1000
_PAUSE = 500


def to_txt(transcript: Transcript) -> str:
    """The text on one line; an empty line if nothing was said."""
    return transcript.text + "\n"


def to_json(transcript: Transcript) -> str:
    """One line of JSON; times in seconds, rounded to milliseconds, confidences and scores to four places.

    Keys: text, words (text, start, end, confidence), hypotheses (text, score), duration, model, options.
    """
    document = {
        "text": transcript.text,
        "words": [
            {
                "text": word.text,
                "start": _milliseconds(word.start) / 1000,
                "end": _milliseconds(word.end) / 1000,
                "confidence": round(word.confidence, 4),
            }
            for word in transcript.words
        ],
        "hypotheses": [
            {"text": hypothesis.text, "score": round(hypothesis.score, 4)} for hypothesis in transcript.hypotheses
        ],
        "duration": _milliseconds(transcript.duration_seconds) / 1000,
        "model": transcript.model,
        "options": dict(transcript.options),
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n"


def to_srt(transcript: Transcript) -> str:
    """SubRip subtitles: numbered cues with times as 00:00:00,000; nothing if nothing was said.

    SubRip has no way to escape the arrow of its times, so --> becomes -> as in Whisper.
    """
    cues = (
        f"{number}\n{_timestamp(start, ',')} --> {_timestamp(end, ',')}\n{text.replace('-->', '->')}\n\n"
        for number, (start, end, text) in enumerate(_subtitles(transcript), start=1)
    )
    return "".join(cues)


def to_vtt(transcript: Transcript) -> str:
    """WebVTT subtitles: times as 00:00:00.000, and & < > (so --> too) as character references.

    Source: W3C WebVTT, section 4.2.
    """
    cues = (
        f"{_timestamp(start, '.')} --> {_timestamp(end, '.')}\n{escape(text, quote=False)}\n\n"
        for start, end, text in _subtitles(transcript)
    )
    return "WEBVTT\n\n" + "".join(cues)


def to_ctm(transcript: Transcript) -> str:
    """One line a word: `<utterance> <channel> <start> <duration> <word> <confidence>`, times in seconds.

    The utterance is the transcript's name, its white space turned into _ (and `audio` if it has none); the channel, 1.

    Source: NIST SCTK, "CTM Format"; Kaldi writes the same.
    """
    utterance = "_".join(transcript.name.split()) or "audio"
    lines = []
    for word in transcript.words:
        start, end = _milliseconds(word.start), _milliseconds(word.end)
        duration = (end - start) / 1000
        lines.append(f"{utterance} 1 {start / 1000:.3f} {duration:.3f} {word.text} {word.confidence:.3f}\n")
    return "".join(lines)


def to_tsv(transcript: Transcript) -> str:
    """Whisper's table: start, end and text of each cue, in whole milliseconds, parted by tabs, below a header."""
    rows = (f"{cue[0].start}\t{cue[-1].end}\t{_text(cue)}\n" for cue in _cues(transcript))
    return "start\tend\ttext\n" + "".join(rows)


WRITERS: dict[str, Callable[[Transcript], str]] = {
    "txt": to_txt,
    "json": to_json,
    "srt": to_srt,
    "vtt": to_vtt,
    "ctm": to_ctm,
    "tsv": to_tsv,
}
"""The writer of each format; its name is also the extension of the file."""


@dataclass(frozen=True)
class _Piece:
    """A word, or as much of one as fits a line, with what parts it from the one before."""

    gap: str  # "" or " "
    text: str
    width: int
    start: int  # milliseconds
    end: int


def _subtitles(transcript: Transcript) -> Iterator[tuple[int, int, str]]:
    """Start and end in milliseconds, and one or two lines, of each cue.

    A short cue stays to be read for a second, if the next one and the end of the recording leave it that.
    """
    cues = _cues(transcript)
    for number, cue in enumerate(cues, start=1):
        start, end = cue[0].start, cue[-1].end
        limit = cues[number][0].start if number < len(cues) else _milliseconds(transcript.duration_seconds)
        end = max(end, min(start + _SHORTEST_CUE, limit))
        yield start, min(end, start + _LONGEST_CUE), "\n".join(_lines(cue))


def _cues(transcript: Transcript) -> list[list[_Piece]]:
    """The pieces in groups that follow each other without a pause, and fit two lines and the longest time."""
    cues: list[list[_Piece]] = []
    for piece in _pieces(transcript):
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


def _pieces(transcript: Transcript) -> Iterator[_Piece]:
    position = 0
    for word in transcript.words:
        found = transcript.text.index(word.text, position)
        gap = transcript.text[position:found]
        position = found + len(word.text)
        start, end = _milliseconds(word.start), _milliseconds(word.end)
        taken = 0
        for part in _cut(word.text):  # a word too wide for a line is cut, and its time shared out
            first, taken = taken, taken + len(part)
            yield _Piece(
                gap="" if first else gap,
                text=part,
                width=_width(part),
                start=start + (end - start) * first // len(word.text),
                end=start + (end - start) * taken // len(word.text),
            )


def _cut(word: str) -> list[str]:
    """The word in parts that each fit a line; nearly always the word itself."""
    parts = [""]
    for character in word:
        if _width(parts[-1] + character) > _LINE_WIDTH:
            parts.append("")
        parts[-1] += character
    return parts


def _fits(pieces: list[_Piece]) -> bool:
    """Whether the pieces fit two lines, each filled as far as it goes."""
    num_lines, width = 1, 0
    for piece in pieces:
        width += (len(piece.gap) if width else 0) + piece.width
        if width > _LINE_WIDTH:
            num_lines, width = num_lines + 1, piece.width
    return num_lines <= 2


def _lines(pieces: list[_Piece]) -> list[str]:
    """One line if it is short enough, else two of widths as equal as can be, rather the lower longer."""
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
