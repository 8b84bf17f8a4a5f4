"""New times for the cues of subtitles, from the times of their words."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, groupby

from asr.text.aligned_text import AlignedText
from asr.text.cues import Cue, find_cues, with_times

_BETWEEN = "\n\n"  # cues are paragraphs
_SHORTEST = 1.0  # seconds of a cue, unless the next one or the end of the recording is earlier
_LEAST = 0.1  # seconds of a cue without words, which may be taken from the cue before

Times = list[tuple[float, float]]


def text_of_subtitles(subtitles: str) -> str:
    """The text of the cues of a subtitle file, to be aligned."""
    return _BETWEEN.join(cue.text for cue in find_cues(subtitles))


def retime(subtitles: str, aligned: AlignedText) -> str:
    """The subtitle file with the times of its aligned text: each cue lasts from its first word to its last one.

    Only times change. Cues stay in order and do not overlap. A short cue stays for a second if there is room. A cue
    without a timed word, such as [music], keeps its place between the cues beside it, in proportion to the old times.

    Args:
        subtitles: SubRip or WebVTT.
        aligned: of `text_of_subtitles`.
    """
    cues = find_cues(subtitles)
    offsets = list(accumulate((len(cue.text) + len(_BETWEEN) for cue in cues), initial=0))
    times: list[tuple[float, float] | None] = [None] * len(cues)
    for word in aligned.words:
        number = bisect_right(offsets, word.position) - 1
        before = times[number]
        times[number] = (before[0] if before else word.start), word.end
    duration = aligned.timeline.duration_seconds
    filled = _filled(cues, times, duration)
    starts = [*(start for start, _ in filled[1:]), duration]
    return with_times(
        subtitles,
        cues,
        [
            (_milliseconds(start), _milliseconds(max(end, min(start + _SHORTEST, limit))))
            for (start, end), limit in zip(filled, starts, strict=True)
        ],
    )


def _filled(cues: Sequence[Cue], times: Sequence[tuple[float, float] | None], duration: float) -> Times:
    """The times, with those of cues that have none."""
    filled: Times = []
    for is_timed, run in groupby(range(len(cues)), key=lambda number: times[number] is not None):
        numbers = list(run)
        if is_timed:
            filled += [pair for number in numbers if (pair := times[number])]
            continue
        old = [time for number in numbers for time in (cues[number].start, cues[number].end)]
        first, after, least = numbers[0], numbers[-1] + 1, _LEAST * len(numbers)
        old_start = cues[first - 1].end if filled else old[0]
        old_end = cues[after].start if after < len(cues) else old[-1]
        length = max(old_end - old_start, least)
        next_times = times[after] if after < len(cues) else None
        end = next_times[0] if next_times else min(duration, (filled[-1][1] if filled else 0.0) + length)
        start = max(end - length, 0.0)
        if filled:  # the cue before gives at most its second half
            start = min(filled[-1][1], max(sum(filled[-1]) / 2, end - least))
            filled[-1] = filled[-1][0], start
        filled += _spread(old, (old_start, old_end), (start, end))
    return filled


def _spread(old: Sequence[float], old_range: tuple[float, float], new_range: tuple[float, float]) -> Times:
    """The times between two others in proportion to the old ones; equal shares if those are not in order or empty."""
    in_order = [old_range[0], *old, old_range[1]]
    if in_order != sorted(in_order) or any(first == last for first, last in zip(old[::2], old[1::2], strict=True)):
        count = len(old) // 2
        old, old_range = [part for cue in range(count) for part in (cue, cue + 1)], (0, count)
    scale = (new_range[1] - new_range[0]) / (old_range[1] - old_range[0])
    placed = [new_range[0] + (time - old_range[0]) * scale for time in old]
    return list(zip(placed[::2], placed[1::2], strict=True))


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000 + 0.5)
