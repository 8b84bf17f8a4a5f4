"""How sure a word is: the share of the hypotheses that have it, and the posteriors of its characters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from asr.metrics import align
from asr.transcript import find_words


def agreements(readings: Sequence[Sequence[str]]) -> np.ndarray:
    """Which readings have which words of the first one.

    Args:
        readings: the words of n hypotheses, the best first.
    Returns:
        (n, W) 1 where a shortest alignment of the first reading with another pairs its word with the same word, else 0.
    """
    rows = []
    for reading in readings:
        aligned = (pair for pair in align(readings[0], reading) if pair.operation != "insertion")
        rows.append([pair.operation == "match" for pair in aligned])
    return np.array(rows, dtype=float).reshape(len(readings), -1)


def word_shares(agreed: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(W,) in 0 .. 1, the share of probability of the readings that have a word in its place.

    Args:
        agreed: (n, W), see `agreements`.
        scores: (n,) natural log-probabilities, up to a constant.
    """
    shares = np.exp(scores - scores.max())
    return np.minimum(shares / shares.sum() @ agreed, 1.0)


def of_words(spelled: str, confidences: np.ndarray) -> np.ndarray:
    """(W,) the geometric mean over the characters of each word; `confidences` has one for each character, (U,)."""
    with np.errstate(divide="ignore"):
        logs = np.log(confidences)
    return np.exp([logs[start:end].mean() for start, end in find_words(spelled)])
