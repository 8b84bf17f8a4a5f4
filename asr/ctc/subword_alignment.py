"""Forced alignment of a text over labels that spell several characters: the best path of all segmentations.

The Viterbi recursion in float64. After u characters the path is in Φ, or in one of the labels that end there:

    blank[t, u]    = max(blank[t-1, u], label[t-1, c, u] of all c) + log p(Φ at t)
    label[t, c, u] = max(label[t-1, c, u], blank[t-1, v], label[t-1, d, v] of all d but c) + log p(c at t)

where label c begins after v characters. As in `asr.ctc.alignment`, only the scores of every k-th frame are stored, k =
√T, and the frames between are computed again on the way back, for the places that can lead to the known state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asr import ctc
from asr.compute.machine_code import Kernels
from asr.ctc.alignment import checked_gaps, checked_log_probs
from asr.ctc.spellings import Spellings
from asr.errors import InputError


def _compiled_functions() -> Sequence[Any]:
    from asr.ctc.subword_alignment_kernel import KERNELS

    return KERNELS


_kernels = Kernels(_compiled_functions, room=ctc)


@dataclass(frozen=True, kw_only=True, eq=False)
class TextAlignment:
    """The most probable path of T frames that spells a text of U characters, with W labels.

    Args:
        labels: (W,) int64, the segmentation.
        lengths: (W,) int64, the number of characters of each label; their sum is U.
        label_spans: (W, 2) int64, the frames [start, end) of each label.
        label_scores: (W,) float64, the mean natural log-probability of each label over its span.
        score: natural log-probability of the path, the sum over its T frames; 0 if there are none.
    """

    labels: np.ndarray
    lengths: np.ndarray
    label_spans: np.ndarray
    label_scores: np.ndarray
    score: float

    @property
    def spans(self) -> np.ndarray:
        """(U, 2) int64, for each character the frames [start, end) of its label."""
        return np.repeat(self.label_spans, self.lengths, axis=0)

    @property
    def token_scores(self) -> np.ndarray:
        """(U,) float64, for each character the mean natural log-probability of its label."""
        return np.repeat(self.label_scores, self.lengths)

    @property
    def confidences(self) -> np.ndarray:
        """(U,) in 0 .. 1, for each character the geometric mean of its label's posteriors."""
        return np.exp(np.minimum(self.token_scores, 0.0))


def align_text(
    log_probs: Any, text: Sequence[int], spellings: Spellings, *, gaps: Any = (), gap_score: float = -1.0
) -> TextAlignment:
    """The most probable path that spells the text, over all its segmentations into labels.

    Ties are broken from the end backwards: stay in the state if possible; otherwise come from Φ.

    Args:
        log_probs: (T, V) floating natural log-probabilities: a NumPy array or a torch tensor; T may be 0.
        text: U characters; U may be 0.
        spellings: of the V labels.
        gaps: positions, in characters 0 .. U, where sound without text may occur; see `asr.ctc.alignment.align`.
        gap_score: natural log-probability, at most 0, of a frame of a gap.
    Raises:
        InputError: a shape, dtype or gap is not as above; log_probs holds NaN or a positive number; the labels cannot
            spell the text, or need more frames than there are; or every path has a log-probability of -inf.
    """
    emission = checked_log_probs(log_probs)
    num_frames, num_labels = emission.shape
    if num_labels != spellings.num_labels:
        raise InputError(
            f"log_probs must have a column for each of the {spellings.num_labels} labels; got {num_labels}"
        )
    first, begins, labels = spellings.endings(text)
    needed = _minimum_frames(first, begins, labels)
    if needed is None:
        raise InputError("the labels must spell the text; no segmentation of it exists")
    if needed > num_frames:
        raise InputError(f"the text needs at least {needed} frames but log_probs has {num_frames}")
    num_places, num_endings = len(first) - 1, len(labels)
    floor = np.full(num_places, -np.inf)
    if len(gaps):
        floor[checked_gaps(gaps, gap_score, num_places - 1)] = gap_score
    longest = int(spellings.lengths.max())
    step = math.isqrt(num_frames) + 1
    num_blocks = -(-num_frames // step)
    num_states = num_places + num_endings
    width = min(num_states, (step * longest + 1) * (1 + spellings.most_endings))
    rows, checkpoints = np.empty((2, num_states)), np.empty((num_blocks, num_states))
    wedge, tops = np.empty((step + 1, width)), np.empty((3, num_places))
    states, score = np.empty(num_frames, dtype=np.int64), np.zeros(1)
    _kernels["align_text"](
        emission.ctypes.data, num_frames, num_labels, first.ctypes.data, begins.ctypes.data, labels.ctypes.data,
        num_places, num_endings, spellings.blank, floor.ctypes.data, longest, step, rows.ctypes.data,
        checkpoints.ctypes.data, wedge.ctypes.data, tops.ctypes.data, states.ctypes.data, score.ctypes.data,
    )  # fmt: skip
    if score[0] == -np.inf:
        raise InputError("log_probs must allow a path that spells the text; every path has a log-probability of -inf")
    edges = np.flatnonzero(np.diff(states, prepend=-1, append=-1))
    spans = np.stack([edges[:-1], edges[1:]], axis=1)  # of each state
    spans = spans[states[spans[:, 0]] >= num_places]
    labels = labels[states[spans[:, 0]] - num_places]
    scores = [emission[start:end, label].mean() for (start, end), label in zip(spans.tolist(), labels, strict=True)]
    return TextAlignment(
        labels=labels,
        lengths=spellings.lengths[labels],
        label_spans=spans,
        label_scores=np.array(scores, dtype=np.float64),
        score=float(score[0]),
    )


def minimum_frames_of_text(text: Sequence[int], spellings: Spellings) -> int | None:
    """The fewest frames of a path that spells a text; None if no segmentation of it exists."""
    return _minimum_frames(*spellings.endings(text))


def _minimum_frames(first: np.ndarray, begins: np.ndarray, labels: np.ndarray) -> int | None:
    places = first.tolist()
    costs: list[float] = []
    for begin, label in zip(begins.tolist(), labels.tolist(), strict=True):
        inner = range(places[begin], places[begin + 1])
        before = [costs[other] + (labels[other] == label) for other in inner] if begin else [0]
        costs.append(1 + min(before, default=math.inf))
    if len(places) == 2:
        return 0
    needed = min(costs[places[-2] :], default=math.inf)
    return None if needed == math.inf else int(needed)


def warm_up(on_compile: Callable[[], object] | None = None) -> None:
    """Load the compiled aligner, compiling it if necessary: see `asr.ctc.beam.warm_up`."""
    _kernels.load(on_compile=on_compile)
