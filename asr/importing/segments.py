"""Who says what when in a long recording: subtitles (SRT, WebVTT) and Praat's TextGrids."""

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
"""In the order in which one is chosen, where a recording has several; compared in lower case."""

# A TextGrid is its free-standing numbers, strings and flags; all else, as `xmin =` and `[1]:`, is for people.
_TOKEN = re.compile(r'"((?:[^"]|"")*)"|(?<!\S)([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?%?)(?!\S)|(?<!\S)<(exists|absent)>')


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
    text = read_text(path, encoding, flag="--encoding")
    if path.suffix.lower() == ".textgrid":
        found: Iterator[Segment | DataError] = _textgrid(text, path, tier=tier, all_tiers=tiers_are_speakers)
    else:
        found = read_subtitles(text, path)
    return [each for each in found if isinstance(each, DataError) or each.text]


def _textgrid(text: str, path: Path, *, tier: str, all_tiers: bool) -> Iterator[Segment | DataError]:
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
    for name in tiers if all_tiers else [tier or next(iter(tiers))]:
        for interval in tiers[name]:
            speaker = name if all_tiers else None
            yield interval.fault(path) or replace(interval, speaker=speaker)
