"""Times of words that their labels do not give: where their sound begins and ends, and of words without labels."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace

from asr.text.aligned_text import Segment
from asr.text.transcript import Word

# Of the edges of words, in seconds: see docs/alignment.md and tests/benchmarks/bench_alignment.py.
_CLOSE = 0.16  # between the labels of words without a pause
_SHARE = 0.35  # of the way between their labels
_BEFORE, _AFTER = 0.02, 0.04  # of sound beside a pause


def left_times(
    unread: set[int], timed: Mapping[int, Segment], heard: Sequence[Word], num_frames: int
) -> dict[int, tuple[int, int]]:
    """Frames for words that are not aligned: equal parts of what is heard between the words beside them.

    Where nothing is heard they share the whole gap, but not before the first word or after the last one. Words without
    room get no frames.
    """
    places: dict[int, tuple[int, int]] = {}
    runs = [list(run) for _, run in itertools.groupby(sorted({*unread, *timed}), key=unread.__contains__)]
    starts, ends = [item.start_frame for item in heard], [item.end_frame for item in heard]
    for before, run, after in zip([[], *runs], runs, [*runs[1:], []], strict=False):
        if run[0] not in unread:
            continue
        start = timed[before[-1]].end_frame if before else 0
        end = timed[after[0]].start_frame if after else num_frames
        inside = heard[bisect_right(ends, start) : bisect_left(starts, end)]
        if inside:
            start, end = max(start, inside[0].start_frame), min(end, inside[-1].end_frame)
        if end - start >= len(run) and (inside or (before and after)):
            bounds = [start + (end - start) * part // len(run) for part in range(len(run) + 1)]
            places |= dict(zip(run, itertools.pairwise(bounds), strict=True))
    return places


def with_edges(words: Sequence[Segment]) -> list[Segment]:
    """The words with an estimate of where their sound begins and ends.

    Between two words that follow each other closely, the border is at a fixed share of the way from the middle of the
    last label to the middle of the next one. Beside a pause, the sound lasts a little longer than the labels.
    """
    starts, ends = [word.start for word in words], [word.end for word in words]
    for index, word in enumerate(words):
        if word.parts and (index == 0 or words[index - 1].end + _CLOSE < word.start):
            starts[index] = max(word.start - _BEFORE, 0.0)
        if word.parts and (index + 1 == len(words) or word.end + _CLOSE < words[index + 1].start):
            ends[index] = min(word.end + _AFTER, word.timeline.duration_seconds)
        elif word.parts and words[index + 1].parts:
            last, following = (_middle(part) for part in (word.parts[-1], words[index + 1].parts[0]))
            ends[index] = starts[index + 1] = last + _SHARE * (following - last)
    return [
        replace(word, edges=(start, end)) if start < end else word
        for word, start, end in zip(words, starts, ends, strict=True)
    ]


def _middle(label: Segment) -> float:
    return (label.start + label.end) / 2
