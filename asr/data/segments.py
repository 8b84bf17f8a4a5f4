"""Who says what when in a long recording: subtitles (SRT, WebVTT) and Praat's TextGrids."""

from __future__ import annotations

import codecs
import html
import os
import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from asr.errors import DataError

SEGMENT_SUFFIXES = (".textgrid", ".srt", ".vtt")
"""In the order in which one is chosen, where a recording has several; compared in lower case."""

_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_TIME = r"(?:(\d+):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})"
_TIMING = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?")
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]+)>")
_MARKUP = re.compile(r"</?[a-zA-Z0-9][^<>]*>|\{\\[^}]*\}")
# A TextGrid is its free-standing numbers, strings and flags; all else, as `xmin =` and `[1]:`, is for people.
_TOKEN = re.compile(r'"((?:[^"]|"")*)"|(?<!\S)([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?%?)(?!\S)|(?<!\S)<(exists|absent)>')


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A stretch of a recording and its text: 0 <= start_seconds < end_seconds; `line` is its own in its file."""

    start_seconds: float
    end_seconds: float
    text: str
    line: int
    speaker: str | None = None


def read_segments(
    path: str | os.PathLike[str], *, encoding: str = "utf-8", tier: str = "", tiers_are_speakers: bool = False
) -> list[Segment | DataError]:
    """The segments of a file that have text, in its order; what is wrong with one that cannot be used, in its place.

    Args:
        path: .srt, .vtt or .TextGrid.
        encoding: of a file without a byte-order mark.
        tier: of a TextGrid; empty takes its first one of intervals.
        tiers_are_speakers: take all tiers of intervals of a TextGrid, each of the speaker that its name is.
    Raises:
        DataError: the file cannot be read, is not of its format, or lacks the tier.
    """
    path = Path(path)
    text = read_text(path, encoding)
    if path.suffix.lower() == ".textgrid":
        found: Iterator[Segment | DataError] = _textgrid(text, path, tier=tier, all_tiers=tiers_are_speakers)
    else:
        found = _subtitles(text, path, is_vtt=path.suffix.lower() == ".vtt")
    segments: list[Segment | DataError] = []
    for segment in found:
        if isinstance(segment, DataError):
            segments.append(segment)
        elif not 0 <= segment.start_seconds < segment.end_seconds:
            message = f"a segment must end after it begins, got {segment.start_seconds:g} to {segment.end_seconds:g} s"
            segments.append(DataError(message, path=path, line=segment.line))
        elif segment.text:
            segments.append(segment)
    return segments


def read_text(path: str | os.PathLike[str], encoding: str = "utf-8") -> str:
    """A text file without its byte-order mark, which, where there is one, says the encoding.

    Raises:
        DataError: it cannot be read, or is not in that encoding.
    """
    try:
        content = Path(path).read_bytes()
        for mark, name in _MARKS.items():
            if content.startswith(mark):
                return content[len(mark) :].decode(name)
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = f"must be text in {error.encoding}, or say which encoding it has with --encoding: {error.reason}"
        raise DataError(message, path=path, line=line) from error
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=path) from error


def _subtitles(text: str, path: Path, *, is_vtt: bool) -> Iterator[Segment | DataError]:
    """The cues: blocks of lines, times in the first or second of them, parted by empty lines."""
    held: Segment | None = None  # a block without times may be the rest of it
    for number, block in _blocks(text):
        if is_vtt and number == 1:
            if block[0].split()[0] != "WEBVTT":
                raise DataError(f"must begin with WEBVTT, got {block[0][:40]!r}", path=path, line=1)
            first = next((index for index, line in enumerate(block) if _TIMING.fullmatch(line)), len(block))
            number, block = number + first, block[first:]  # the first cue, where no empty line ends the header
        if not block or (is_vtt and block[0].split()[0] in ("NOTE", "STYLE", "REGION")):
            continue
        at = next((index for index, line in enumerate(block[:2]) if _TIMING.fullmatch(line)), None)
        if at is None:
            message = f"a subtitle must have times, 00:00:00,000 --> 00:00:00,000, got {block[0][:40]!r}"
            if held is not None and any("--" in line or "->" in line for line in block[:2]):  # a cue of its own
                yield held
            elif held is not None:
                message += "; it and the one before are left out, of which it may be a part"
            held = None
            yield DataError(message, path=path, line=number)
            continue
        found = _TIMING.fullmatch(block[at])
        assert found is not None
        groups = found.groups()
        lines = " ".join(block[at + 1 :])
        voices = set(_VOICE.findall(lines)) if is_vtt else set()
        spoken = _MARKUP.sub("", lines)
        if held is not None:
            yield held
        held = Segment(
            start_seconds=_seconds(groups[:4]),
            end_seconds=_seconds(groups[4:]),
            text=" ".join((html.unescape(spoken) if is_vtt else spoken).split()),
            line=number + at,
            speaker=voices.pop().strip() if len(voices) == 1 else None,
        )
    if held is not None:
        yield held


def _blocks(text: str) -> Iterator[tuple[int, list[str]]]:
    """Runs of lines that are not empty, each with the number of its first."""
    block: list[str] = []
    number = 0
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            block.append(line)
        elif block:
            yield number - len(block), block
            block = []
    if block:
        yield number + 1 - len(block), block


def _seconds(parts: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, fraction = (part or "0" for part in parts)
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + int(fraction) / 10 ** len(fraction)


def _textgrid(text: str, path: Path, *, tier: str, all_tiers: bool) -> Iterator[Segment]:
    """The intervals of a TextGrid, long or short form.

    Source: Praat manual, "TextGrid file formats", which says what of such a file is to be read.
    """
    tokens = list(_TOKEN.finditer(text))
    ends = [match.start() for match in re.finditer("\n", text)]  # of lines
    position = 0

    def take(kind: int) -> tuple[str, int]:
        """The next token, which must be a string (1), a number (2) or a flag (3), and its line."""
        nonlocal position
        found = tokens[position] if position < len(tokens) else None
        line = bisect_left(ends, found.start() if found else len(text)) + 1
        if found is None or found.lastindex != kind:
            wanted, got = ("", "a string", "a number", "a flag")[kind], repr(found[0][:40]) if found else "the end"
            raise DataError(f"a TextGrid must have {wanted} here, got {got}", path=path, line=line)
        position += 1
        return found[kind].replace('""', '"') if kind == 1 else found[kind], line

    def take_count() -> int:
        number, line = take(2)
        if not number.isdecimal():
            raise DataError(f"a TextGrid must have a whole number here, got {number!r}", path=path, line=line)
        return int(number)

    def take_seconds() -> tuple[float, int]:
        number, line = take(2)
        if number.endswith("%"):
            raise DataError(f"a TextGrid must have seconds here, got {number!r}", path=path, line=line)
        return float(number), line

    if [take(1)[0], take(1)[0]] != ["ooTextFile", "TextGrid"]:
        raise DataError("must be a TextGrid that Praat saved as a text file", path=path, line=1)
    take(2), take(2), take(3)
    tiers: dict[str, list[Segment]] = {}
    for _ in range(take_count()):
        kind, (name, name_line) = take(1)[0], take(1)
        take(2), take(2)
        intervals: list[Segment] = []
        for _ in range(take_count()):
            (start, line), end = take_seconds(), take_seconds()[0] if kind == "IntervalTier" else None
            spoken = " ".join(take(1)[0].split())
            if end is not None:
                intervals.append(Segment(start_seconds=start, end_seconds=end, text=spoken, line=line))
        if kind == "IntervalTier":
            if name in tiers:
                raise DataError(f"tiers must have different names, but {name!r} comes twice", path=path, line=name_line)
            tiers[name] = intervals
    if not tiers or (tier and tier not in tiers):
        names = ", ".join(map(repr, tiers)) or "none"
        raise DataError(f"must have a tier of intervals {tier and repr(tier)}, but its tiers are: {names}", path=path)
    if all_tiers:
        for name, intervals in tiers.items():
            yield from (replace(interval, speaker=name) for interval in intervals)
    else:
        yield from tiers[tier or next(iter(tiers))]
