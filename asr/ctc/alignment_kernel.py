"""Forced alignment in compiled code: `asr/ctc/alignment.py` explains it, `asr/compute/machine_code.py` loads it."""

from __future__ import annotations

import numpy as np

from asr.compute.addresses import array_at as _array
from asr.compute.addresses import compiled as _compiled


@_compiled
def describe(states_at, path_scores_at, num_frames, tokens_at, num_tokens, blank, spans_at, token_scores_at):
    """Replace states (2u + 1 is token u, 2u the gap before it) by labels, write spans and scores; -> 0."""
    states, path_scores = _array(states_at, np.int64, (num_frames,)), _array(path_scores_at, np.float64, (num_frames,))
    tokens, spans = _array(tokens_at, np.int64, (num_tokens,)), _array(spans_at, np.int64, (num_tokens, 2))
    token_scores = _array(token_scores_at, np.float64, (num_tokens,))
    previous = np.int64(0)
    for t in range(num_frames):
        state = states[t]
        u = state // 2
        if state % 2:
            if state != previous:
                spans[u, 0] = t
                token_scores[u] = 0.0
            spans[u, 1] = t + 1
            token_scores[u] += path_scores[t]
        states[t] = tokens[u] if state % 2 else blank
        previous = state
    for u in range(num_tokens):
        token_scores[u] /= spans[u, 1] - spans[u, 0]
    return 0


@_compiled
def align(
    rows_at, num_rows, shapes_at, emissions_at, is_double, most_frames, num_labels, tokens_at, most_tokens, blank,
    floor_at, work_at, paths_at, spans_at, token_scores_at, scores_at,
):  # fmt: skip
    """Write path, spans, token scores and score of some rows of a batch; -> 0. Without a path, write the score alone.

    Each row of `shapes` has the numbers of frames and tokens and the length of a block. `work` has room for
    `alignment._work_size` numbers.
    """
    rows = _array(rows_at, np.int64, (num_rows,))
    for index in range(num_rows):
        row = rows[index]
        shape = _array(shapes_at + 24 * row, np.int64, (3,))
        _align_one(
            emissions_at + row * most_frames * num_labels * (8 if is_double else 4), is_double, shape[0], num_labels,
            tokens_at + 8 * row * most_tokens, shape[1], blank, floor_at, shape[2], work_at,
            paths_at + 8 * row * most_frames, spans_at + 16 * row * most_tokens,
            token_scores_at + 8 * row * most_tokens, scores_at + 8 * row,
        )  # fmt: skip
    return 0


@_compiled
def _align_one(
    emission_at, is_double, num_frames, num_labels, tokens_at, num_tokens, blank, floor_at, step, work_at, path_at,
    spans_at, token_scores_at, score_at,
):  # fmt: skip
    """Align one row of `align`.

    Gap j and the label before it, token j - 1, share the column j; there is no label 0. Row t is after t frames.
    """
    singles = _array(emission_at, np.float32, (num_frames, num_labels))
    doubles = _array(emission_at, np.float64, (num_frames, num_labels))
    emission = singles, doubles, is_double != 0
    tokens, floor = _array(tokens_at, np.int64, (num_tokens,)), _array(floor_at, np.float64, (num_tokens + 1,))
    states = _array(path_at, np.int64, (num_frames,))
    num_blocks = max((num_frames + step - 1) // step, 1)
    width = num_tokens + 1
    skip = _array(work_at, np.float64, (width,))  # cost of a step from the label before: infinite if it is the same
    label_scores = _array(work_at + 8 * width, np.float64, (width,))
    turns = _array(work_at + 16 * width, np.float64, (2, 2, width))  # of the frame before and of this one, in turns
    checkpoints = _array(work_at + 48 * width, np.float64, (num_blocks, 2, width))  # the first row of each block
    wedge_at = work_at + (48 + 16 * num_blocks) * width
    wedge = _array(wedge_at, np.float64, (step + 1, 2, min(step, num_tokens) + 1))
    path_scores_at = wedge_at + 16 * (step + 1) * (min(step, num_tokens) + 1)
    path_scores = _array(path_scores_at, np.float64, (num_frames,))  # the log-probability of the label of each frame
    for j in range(width):
        skip[j] = 0.0 if j > 1 and tokens[j - 1] != tokens[j - 2] else -np.inf
        for half in range(2):
            turns[0, half, j] = turns[1, half, j] = checkpoints[0, half, j] = -np.inf
    turns[0, 0, 0] = checkpoints[0, 0, 0] = 0.0
    base = max(num_tokens - num_frames, 0)
    for block in range(1, num_blocks):
        begin, end = (block - 1) * step, block * step
        _advance(emission, begin, end, tokens, num_tokens, num_frames, base, blank, floor, skip, label_scores, turns)
        for half in range(2):
            for j in range(width):
                checkpoints[block, half, j] = turns[0, half, j]

    j, in_gap = num_tokens, True
    for block in range(num_blocks - 1, -1, -1):
        begin, end = block * step, min((block + 1) * step, num_frames)
        base = max(j - (end - begin), 0)  # lower columns cannot reach j in time; column 0 of the wedge
        for half in range(2):
            for column in range(j - base + 1):
                wedge[0, half, column] = checkpoints[block, half, base + column]
        _advance(emission, begin, end, tokens, j, end, base, blank, floor, skip, label_scores, wedge)
        if block == num_blocks - 1:
            last = wedge[end - begin]
            in_gap = j == 0 or last[0, j - base] > last[1, j - base]
            score = last[0, j - base] if in_gap else last[1, j - base]
            _array(score_at, np.float64, (1,))[0] = score
            if score == -np.inf:
                return 0
        for t in range(end - 1, begin - 1, -1):
            before, column = wedge[t - begin], j - base
            label = blank if in_gap else tokens[j - 1]
            states[t] = 2 * j if in_gap else 2 * j - 1
            path_scores[t] = doubles[t, label] if is_double else singles[t, label]
            if in_gap:
                in_gap = not before[1, column] > before[0, column]
                continue
            stay, silence, change = before[1, column], before[0, column - 1], before[1, column - 1] + skip[j]
            if change > silence and change > stay:
                j -= 1
            elif silence > stay:
                j -= 1
                in_gap = True
    return describe(path_at, path_scores_at, num_frames, tokens_at, num_tokens, blank, spans_at, token_scores_at)


@_compiled
def _advance(emission, begin, end, tokens, target, deadline, base, blank, floor, skip, label_scores, rows):
    """Run the recursion over the frames `begin` .. `end` - 1. Frame t has row t - begin; two rows take turns.

    Column 0 is gap `base`. States that cannot reach `target` before frame `deadline` are left out.

    Loops without a branch over unsigned indices (a negative one would count from the end) become vector instructions.
    The look-up of the labels' scores cannot, so it has a loop of its own.
    """
    singles, doubles, is_double = emission
    one = np.uint64(1)
    for t in range(begin, end):
        old, new = rows[(t - begin) % len(rows)], rows[(t - begin + 1) % len(rows)]
        low, high = max(target - (deadline - t - 1), 0), min(t + 1, target)
        first, last, shift = np.uint64(low), np.uint64(high + 1), np.uint64(base)
        blank_score = doubles[t, blank] if is_double else np.float64(singles[t, blank])
        for j in range(first, last):
            i = j - shift
            best = old[0, i] if old[0, i] > old[1, i] else old[1, i]
            new[0, i] = best + (blank_score if blank_score > floor[j] else floor[j])
        first = np.uint64(max(low, 1))
        for j in range(first, last):
            label = np.uint64(tokens[j - one])
            label_scores[j] = doubles[t, label] if is_double else np.float64(singles[t, label])
        for j in range(first, last):
            i = j - shift
            best = old[1, i - one] + skip[j]
            best = old[0, i - one] if old[0, i - one] > best else best
            best = old[1, i] if old[1, i] > best else best
            new[1, i] = best + label_scores[j]
        new[1, 0] = -np.inf  # there is no label 0; and the next frame reads one column more
        if high < target:
            new[0, high + 1 - base] = new[1, high + 1 - base] = -np.inf


KERNELS = [align, describe]
