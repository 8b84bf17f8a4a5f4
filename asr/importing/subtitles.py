"""Segments of SRT and WebVTT subtitles, with each line of text once.

text ─▶ blocks between empty lines ─▶ cues, each from a line with times to the next ─▶ segments
                                             drop repeated lines of rolling captions ╯
                                             merge cues of the same time
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from asr.data.manifest import MOST_SECONDS
from asr.errors import DataError
from asr.text.cues import TIMING, plain_lines, seconds_of

_VOICE = re.compile(r"<v(?:\.[^\s<>]*)?\s([^<>]+)>")
_SAME = 0.1  # seconds by which cues may overlap, since times are often rounded
_SCROLL = 0.1  # longest duration of a cue that only scrolls the previous line
_PAUSE = 1.0  # a line repeated after more seconds was spoken again
_MOST_LINES = 10  # lines of a cue that the next cue may repeat


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A stretch of a recording and its text, with 0 <= start_seconds < end_seconds and its line in the file."""

    start_seconds: float
    end_seconds: float
    text: str
    line: int
    speaker: str | None = None

    def fault(self, path: Path) -> DataError | None:
        """The error in its times, if any."""
        if 0 <= self.start_seconds < self.end_seconds <= MOST_SECONDS:
            return None
        rule = f"within {MOST_SECONDS:g} s" if self.end_seconds > MOST_SECONDS else "after it begins"
        message = f"a segment must end {rule}, got {self.start_seconds:g} to {self.end_seconds:g} s"
        return DataError(message, path=path, line=self.line)


@dataclass(frozen=True, kw_only=True)
class Cue(Segment):
    """A cue of a file, with the words of each of its lines."""

    lines: tuple[tuple[str, ...], ...]


def read_subtitles(text: str, path: Path) -> Iterator[Segment | DataError]:
    """The segments of subtitles, and errors for the other cues, in the order of their lines.

    A cue begins with its times, with or without an empty line before. Rolling captions repeat a line above the next
    one; they are recognised by the number of repeated lines, and each line counts once, in its first cue. In other
    subtitles, cues that overlap by more than 0.1 s are merged; if half of all do, each ends where the next begins.

    Args:
        text: of the file.
        path: its suffix is the format; also used in messages.
    Raises:
        DataError: a .vtt file does not begin with WEBVTT.
    """
    items = list(read_cues(text, path))
    cues = [item for item in items if isinstance(item, Cue)]
    segments = _unrolled(cues) if _rolls(cues) else _without_overlaps([cue for cue in cues if cue.text])
    errors = [item for item in items if isinstance(item, DataError)]
    yield from sorted([*segments, *errors], key=lambda item: item.line or 0)


def read_cues(text: str, path: Path) -> Iterator[Cue | DataError]:
    """The cues of subtitles as they are, without markup, and errors for the others; see `read_subtitles`."""
    return _cues(text, path, is_vtt=path.suffix.lower() == ".vtt")


def _cues(text: str, path: Path, *, is_vtt: bool) -> Iterator[Cue | DataError]:
    """The cues in blocks of lines; the last cue of a block is delayed, since the next block may be its text."""
    pending: Cue | None = None
    numbered: bool | None = None  # whether a number precedes the times of the first cue
    for number, block in _blocks(text):
        if is_vtt and number == 1:
            if block[0].split()[0] != "WEBVTT":
                raise DataError(f"must begin with WEBVTT, got {block[0][:40]!r}", path=path, line=1)
            first = next((index for index, line in enumerate(block) if _has_times(line)), len(block))
            first -= block[first - 1].strip().isdecimal()
            number, block = number + first, block[first:]  # the first cue, if no empty line ends the header
        if not block or (is_vtt and block[0].split()[:1] in (["NOTE"], ["STYLE"], ["REGION"])):
            continue
        starts = [index for index, line in enumerate(block) if _has_times(line)]
        if numbered is None and starts:
            numbered = starts[0] > 0 and block[starts[0] - 1].strip().isdecimal()
        before = block[: max(starts[0] - 1, 0)] if starts else block
        if before and pending is not None and not pending.text and not any("->" in line for line in before):
            pending = _cue(before, pending, is_vtt=is_vtt)  # after an empty line below its times
        elif before:
            message = _no_times(before[0])
            if pending is not None and any("--" in line or "->" in line for line in before[:2]):  # a separate cue
                yield pending
            elif pending is not None:
                message += "; it may be a part of the one before, so both are left out"
            pending = None
            yield DataError(message, path=path, line=number)
        for start, end in pairwise([*starts, len(block)]):
            if pending is not None:
                yield pending
            pending = None
            if not (match := TIMING.fullmatch(block[start])):
                yield DataError(_no_times(block[start]), path=path, line=number + start)
                continue
            lines = block[start + 1 : end]
            if numbered and end < len(block) and lines and lines[-1].strip().isdecimal():
                lines.pop()  # the number of the next cue
            groups = match.groups()
            timed = Cue(
                start_seconds=seconds_of(groups[:4]), end_seconds=seconds_of(groups[4:]), text="", lines=(),
                line=number + start,
            )  # fmt: skip
            if fault := timed.fault(path):
                yield fault
            else:
                pending = _cue(lines, timed, is_vtt=is_vtt)
    if pending is not None:
        yield pending


def _has_times(line: str) -> bool:
    """Whether a line has times, right or wrong."""
    return "-->" in line and re.search(r"\d[:.,]\d", line) is not None


def _no_times(line: str) -> str:
    return f"a subtitle must have times, 00:00:00,000 --> 00:00:00,000, got {line[:40]!r}"


def _cue(lines: Sequence[str], timed: Cue, *, is_vtt: bool) -> Cue:
    """A cue with the lines below its times."""
    voices = {voice.strip() for line in lines for voice in _VOICE.findall(line)} if is_vtt else set()
    words = [tuple(line.split()) for line in plain_lines(lines)]
    return replace(
        timed,
        lines=tuple(line for line in words if line),
        text=" ".join(word for line in words for word in line),
        speaker=voices.pop() if len(voices) == 1 else None,
    )


def _blocks(text: str) -> Iterator[tuple[int, list[str]]]:
    """Runs of non-empty lines, each with the number of its first line; a line of spaces does not end a run."""
    block: list[str] = []
    number = 0
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() or (line and block):
            block.append(line)
        elif block:
            yield number - len(block), block
            block = []
    if block:
        yield number + 1 - len(block), block


def _num_repeated(before: Cue, cue: Cue) -> int:
    """The number of words at the beginning of a cue that repeat the last lines of the cue before."""
    if cue.start_seconds > before.end_seconds + _PAUSE:
        return 0
    shown = before.lines[-_MOST_LINES:]
    words = tuple(cue.text.split())
    for first in range(len(shown)):
        tail = tuple(word for line in shown[first:] for word in line)
        if words[: len(tail)] == tail:
            return len(tail)
    return 0


def _rolls(cues: Sequence[Cue]) -> bool:
    """Whether at least half of the cues repeat words, and either add new ones or are very short."""
    rolling = 0
    for before, cue in pairwise(cues):
        repeated = _num_repeated(before, cue)
        is_short = cue.end_seconds - cue.start_seconds <= _SCROLL
        rolling += repeated > 0 and (repeated < len(cue.text.split()) or is_short)
    return rolling > 1 and 2 * rolling >= len(cues) - 1


def _unrolled(cues: Sequence[Cue]) -> Iterator[Segment]:
    """Segments of the new words of each cue."""
    for before, cue in zip([None, *cues], cues, strict=False):
        repeated = _num_repeated(before, cue) if before is not None else 0
        if new := " ".join(cue.text.split()[repeated:]):
            yield _segment(cue, text=new)


def _without_overlaps(cues: Sequence[Cue]) -> list[Segment]:
    """Segments of the cues, with overlapping ones merged or shortened."""
    ordered = sorted(cues, key=lambda cue: cue.start_seconds)
    overlaps = sum(cue.end_seconds > after.start_seconds + _SAME for cue, after in pairwise(ordered))
    lingering = len(ordered) > 3 and 2 * overlaps >= len(ordered) - 1  # each cue lasts into the next one
    segments: list[Segment] = []
    for cue in ordered:
        last = segments[-1] if segments else None
        if last is None or last.end_seconds <= cue.start_seconds + _SAME:
            segments.append(_segment(cue))
        elif lingering and cue.start_seconds > last.start_seconds + _SAME:
            segments[-1] = replace(last, end_seconds=cue.start_seconds)
            segments.append(_segment(cue))
        else:
            segments[-1] = replace(
                last,
                end_seconds=max(last.end_seconds, cue.end_seconds),
                text=last.text if last.text == cue.text else f"{last.text} {cue.text}",
                speaker=last.speaker if last.speaker == cue.speaker else None,
            )
    return segments


def _segment(cue: Cue, *, text: str | None = None) -> Segment:
    return Segment(
        start_seconds=cue.start_seconds,
        end_seconds=cue.end_seconds,
        text=cue.text if text is None else text,
        line=cue.line,
        speaker=cue.speaker,
    )
