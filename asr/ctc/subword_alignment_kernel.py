"""Forced alignment of texts in compiled code: `asr/ctc/subword_alignment.py` explains it."""

from __future__ import annotations

import numpy as np

from asr.compute.addresses import array_at as _array
from asr.compute.addresses import compiled as _compiled


@_compiled
def align_text(
    emission_at, num_frames, num_labels, first_at, begins_at, labels_at, num_places, num_endings, blank, floor_at,
    longest, step, rows_at, checkpoints_at, wedge_at, tops_at, states_at, score_at,
):  # fmt: skip
    """Write the state of each frame and the score of the path; -> 0. Without a path, write the score alone.

    State u < num_places is Φ after u characters; state num_places + e is ending e.
    """
    emission = _array(emission_at, np.float64, (num_frames, num_labels))
    first = _array(first_at, np.int64, (num_places + 1,))
    begins, labels = _array(begins_at, np.int64, (num_endings,)), _array(labels_at, np.int64, (num_endings,))
    floor = _array(floor_at, np.float64, (num_places,))
    states, score = _array(states_at, np.int64, (num_frames,)), _array(score_at, np.float64, (1,))
    num_states, num_blocks = num_places + num_endings, (num_frames + step - 1) // step
    rows = _array(rows_at, np.float64, (2, num_states))
    checkpoints = _array(checkpoints_at, np.float64, (num_blocks, num_states))  # the first row of each block
    tops = _array(tops_at, np.float64, (3, num_places))
    for state in range(num_states):
        rows[0, state] = rows[1, state] = -np.inf
    rows[0, 0] = 0.0
    last = num_places - 1
    for t in range(num_frames):
        if t % step == 0:
            for state in range(num_states):
                checkpoints[t // step, state] = rows[t % 2, state]
        high = min(last, (t + 1) * longest)
        _step(emission[t], first, begins, labels, blank, floor, tops, rows[t % 2], rows[(t + 1) % 2], 0, high, last)

    end = rows[num_frames % 2]
    state = last
    for ending in range(first[last], first[last + 1]):
        if end[num_places + ending] > end[state] or (state == last and end[num_places + ending] == end[state]):
            state = num_places + ending
    score[0] = end[state]
    if score[0] == -np.inf:
        return 0
    for block in range(num_blocks - 1, -1, -1):
        begin, finish = block * step, min((block + 1) * step, num_frames)
        high = _place(state, first, num_places)
        base = max(high - (finish - begin) * longest, 0)  # lower places cannot reach the state in time
        width = high - base + 1 + first[high + 1] - first[base]
        wedge = _array(wedge_at, np.float64, (finish - begin + 1, width))
        for u in range(base, high + 1):
            wedge[0, u - base] = checkpoints[block, u]
        shift = high - base + 1 - first[base]  # the column of ending 0
        for ending in range(first[base], first[high + 1]):
            wedge[0, shift + ending] = checkpoints[block, num_places + ending]
        for t in range(begin, finish - 1):
            row = t - begin
            _step(emission[t], first, begins, labels, blank, floor, tops, wedge[row], wedge[row + 1], base, high, high)
        for t in range(finish - 1, begin - 1, -1):
            states[t] = state
            before = wedge[t - begin]
            if state < num_places:
                place, label, best = state, np.int64(-1), before[state - base]
            else:
                ending = state - num_places
                place, label, best = begins[ending], labels[ending], before[shift + ending]
                if place >= base and before[place - base] > best:
                    state, best = place, before[place - base]
            if place >= base:
                for other in range(first[place], first[place + 1]):
                    if labels[other] != label and before[shift + other] > best:
                        state, best = num_places + other, before[shift + other]
    return 0


@_compiled
def _place(state, first, num_places):
    """The characters before the end of a state."""
    if state < num_places:
        return state
    low, high = 0, num_places - 1
    while low < high:  # the last place whose first ending is not after this one
        middle = (low + high + 1) >> 1
        if first[middle] <= state - num_places:
            low = middle
        else:
            high = middle - 1
    return low


@_compiled
def _step(frame, first, begins, labels, blank, floor, tops, old, new, base, high, last):
    """The scores after a frame of the states at the places base .. high, in rows of the places base .. last."""
    shift = last - base + 1 - first[base]
    for u in range(base, high + 1):
        best, label, second = -np.inf, np.int64(-1), -np.inf  # the second best has another label
        for ending in range(first[u], first[u + 1]):
            score = old[shift + ending]
            if labels[ending] == label:
                best = max(best, score)
            elif score > best:
                best, label, second = score, labels[ending], best
            elif score > second:
                second = score
        tops[0, u], tops[1, u], tops[2, u] = best, second, label
        stay = old[u - base]
        new[u - base] = max(stay, best) + max(frame[blank], floor[u])
        for ending in range(first[u], first[u + 1]):
            begin, label = begins[ending], labels[ending]
            score = old[shift + ending]
            if begin >= base:
                before = tops[1, begin] if tops[2, begin] == label else tops[0, begin]
                score = max(score, max(before, old[begin - base]))
            new[shift + ending] = score + frame[label]


KERNELS = [align_text]
