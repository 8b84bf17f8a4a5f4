"""Segments of a long recording with text, times and speaker: subtitles (SRT, WebVTT) and Praat's TextGrids."""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from asr.errors import DataError
from asr.files.texts import read_text
from asr.importing.subtitles import Segment, read_subtitles

SEGMENT_SUFFIXES = (".textgrid", ".srt", ".vtt")
"""In order of preference if a recording has several; in lower case."""

# Only free-standing numbers, strings and flags of a TextGrid count; the rest, such as `xmin =` and `[1]:`, is for
# readers.
_TOKEN = re.compile(r'"((?:[^"]|"")*)"|(?<!\S)([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?%?)(?!\S)|(?<!\S)<(exists|absent)>')


def read_segments(
    path: str | os.PathLike[str], *, encoding: str = "utf-8", tier: str = "", tiers_are_speakers: bool = False
) -> list[Segment | DataError]:
    """The segments of a file that have text, in order; each bad segment is replaced by an error.

    Args:
        path: .srt, .vtt or .TextGrid.
        encoding: of a file without a byte-order mark.
        tier: of a TextGrid; empty takes its first interval tier.
        tiers_are_speakers: take all interval tiers of a TextGrid; their names are the speakers.
    Raises:
        DataError: the file cannot be read, is not of its format, or lacks the tier.
    """
    path = Path(path)
    text = read_text(path, encoding, flag="--encoding")
    if path.suffix.lower() == ".textgrid":
        segments: Iterator[Segment | DataError] = _textgrid(text, path, tier=tier, all_tiers=tiers_are_speakers)
    else:
        segments = read_subtitles(text, path)
    return [segment for segment in segments if isinstance(segment, DataError) or segment.text]


def _textgrid(text: str, path: Path, *, tier: str, all_tiers: bool) -> Iterator[Segment | DataError]:
    """The intervals of a TextGrid, long or short form.

    Source: Praat manual, "TextGrid file formats".
    """
    tokens = list(_TOKEN.finditer(text))
    ends = [match.start() for match in re.finditer("\n", text)]  # of lines
    position = 0

    def take(kind: int) -> tuple[str, int]:
        """The next token and its line; the token must be a string (1), a number (2) or a flag (3)."""
        nonlocal position
        token = tokens[position] if position < len(tokens) else None
        line = bisect_left(ends, token.start() if token else len(text)) + 1
        if token is None or token.lastindex != kind:
            expected, got = ("", "a string", "a number", "a flag")[kind], repr(token[0][:40]) if token else "the end"
            raise DataError(f"a TextGrid must have {expected} here, got {got}", path=path, line=line)
        position += 1
        return token[kind].replace('""', '"') if kind == 1 else token[kind], line

    def take_count() -> int:
        number, line = take(2)
        if not re.fullmatch("[0-9]{1,9}", number):
            raise DataError(
                f"a TextGrid must have a whole number of at most 9 digits here, got {number!r:.40}",
                path=path,
                line=line,
            )
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
            label = " ".join(take(1)[0].split())
            if end is not None:
                intervals.append(Segment(start_seconds=start, end_seconds=end, text=label, line=line))
        if kind == "IntervalTier":
            if name in tiers:
                message = f"tiers must have different names, but two are called {name!r}"
                raise DataError(message, path=path, line=name_line)
            tiers[name] = intervals
    if not tiers or (tier and tier not in tiers):
        names = ", ".join(map(repr, tiers)) or "none"
        requirement = f"the interval tier {tier!r}" if tier else "an interval tier"
        raise DataError(f"must have {requirement}, but its interval tiers are: {names}", path=path)
    for name in tiers if all_tiers else [tier or next(iter(tiers))]:
        for interval in tiers[name]:
            speaker = name if all_tiers else None
            yield interval.fault(path) or replace(interval, speaker=speaker)
