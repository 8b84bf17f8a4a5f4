"""Best-path decoding: the most probable label of every frame, collapsed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from asr.errors import InputError


@dataclass(frozen=True, kw_only=True, eq=False)
class BestPath:
    """The most probable path through an emission of T frames, and the U tokens it collapses to.

    Args:
        path: (T,) int64, one label per frame, blanks included.
        tokens: (U,) int64, `collapse(path)`.
        spans: (U, 2) int64, the frames [start, end) of each token's run of equal labels; in order, without overlap.
        confidences: (U,) float64 in (0, 1], the geometric mean of the token's posteriors over its span.
        score: natural log-probability of the path, the sum of its T frames; 0 if there are none. It does not count
            other paths to the same tokens, so it is at most the log-probability of the tokens.
    """

    path: np.ndarray
    tokens: np.ndarray
    spans: np.ndarray
    confidences: np.ndarray
    score: float


def best_path(emission: np.ndarray, *, blank: int) -> BestPath:
    """The most probable path of an emission, with the frames and the confidence of each of its tokens.

    These need not be the most probable tokens, whose probability may be spread over many paths.

    Args:
        emission: (T, V) floating natural log-probabilities (not checked; without NaN); T may be 0.
        blank: index of the blank label, 0 <= blank < V.
    Returns:
        See `BestPath`. Of equally probable labels the lowest wins.
    Raises:
        InputError: emission is not two-dimensional, or blank is not one of its labels.
    Source: Graves et al. 2006, section 3.2, "best path decoding".
    """
    if emission.ndim != 2:
        raise InputError(f"emission must be (T, V); got shape {emission.shape}")
    num_frames, num_labels = emission.shape
    if not 0 <= blank < num_labels:
        raise InputError(f"blank must be one of the {num_labels} labels, 0 .. {num_labels - 1}; got {blank}")
    path = emission.argmax(axis=1)
    scores = np.take_along_axis(emission, path[:, None], axis=1)[:, 0].astype(np.float64)

    # The path is cut into runs of equal labels; run i is the frames edges[i] .. edges[i + 1] - 1.
    edges = np.flatnonzero(np.diff(path, prepend=-1, append=-1)) if num_frames else np.zeros(1, dtype=np.int64)
    starts, ends = edges[:-1], edges[1:]
    is_token = path[starts] != blank
    means = np.add.reduceat(scores, starts) / (ends - starts) if num_frames else scores
    return BestPath(
        path=path,
        tokens=path[starts][is_token],
        spans=np.stack([starts, ends], axis=1)[is_token],
        confidences=np.exp(np.minimum(means[is_token], 0.0)),  # log_softmax may round to a little above 0
        score=float(scores.sum()),
    )
