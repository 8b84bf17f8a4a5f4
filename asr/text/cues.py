"""The cues of a subtitle file, SubRip or WebVTT: their times, their text as it is written, and new times for them."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

_TIME = r"(?:(\d{1,5}):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})"
TIMING = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?")
# No part of these patterns can match in two ways, and none runs past the next mark of its kind: time stays linear.
_MARKUP = re.compile(r"</?[a-zA-Z0-9][^<>]*>|\{\\[^{}]*\}")
_ENTITY = re.compile(r"&#?\w{1,10};")
_ONE_TIME = re.compile(r"(?:\d{1,5}:)?\d{1,2}:\d{1,2}[.,]\d{1,3}")


@dataclass(frozen=True)
class Cue:
    """A cue: the number of the line with its times, from 0; its times in seconds; its lines without markup."""

    line: int
    start: float
    end: float
    text: str


def find_cues(text: str) -> list[Cue]:
    """The cues of a subtitle file in their order, perhaps with an empty text.

    A cue begins with its times. Its text ends at an empty line, or before the number or the times of the next cue.
    """
    lines = text.splitlines()
    starts = [number for number, line in enumerate(lines) if TIMING.fullmatch(line)]
    return [_cue(lines, start, end) for start, end in pairwise([*starts, len(lines)])]


def _cue(lines: Sequence[str], start: int, end: int) -> Cue:
    match = TIMING.fullmatch(lines[start])
    assert match is not None
    groups = match.groups()
    first = start + 1
    last = next((number for number in range(first, end) if not lines[number].strip()), end)
    if last == end < len(lines) and last > first and lines[last - 1].strip().isdecimal():
        last -= 1  # the number of the next cue, without an empty line before it
    text = "\n".join(plain_lines(lines[first:last]))
    return Cue(start, seconds_of(groups[:4]), seconds_of(groups[4:]), text)


def plain_lines(lines: Sequence[str]) -> list[str]:
    """The lines of a cue without markup, which may span lines, and with the characters of its references."""
    plain = _MARKUP.sub("", "\n".join(lines))
    return [_ENTITY.sub(lambda match: html.unescape(match[0]), line) for line in plain.split("\n")]


def seconds_of(parts: Sequence[str | None]) -> float:
    """Seconds from hours, minutes, seconds and a fraction; hours may be None."""
    hours, minutes, seconds, fraction = (part or "0" for part in parts)
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + int(fraction) / 10 ** len(fraction)


def with_times(text: str, cues: Sequence[Cue], times: Sequence[tuple[int, int]]) -> str:
    """The subtitle file with other times, in milliseconds, and everything else as it is written."""
    lines = text.splitlines(keepends=True)
    for cue, pair in zip(cues, times, strict=True):
        lines[cue.line] = _with_times(lines[cue.line], pair)
    return "".join(lines)


def _with_times(line: str, pair: tuple[int, int]) -> str:
    times = iter(pair)
    return _ONE_TIME.sub(lambda match: _written(next(times), match[0]), line, count=2)


def _written(milliseconds: int, like: str) -> str:
    """A time with the same mark as another, and with hours if it has them or they are needed."""
    seconds, rest = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    front = f"{hours:02d}:" if hours or like.count(":") == 2 else ""
    return f"{front}{minutes:02d}:{seconds:02d}{',' if ',' in like else '.'}{rest:03d}"
