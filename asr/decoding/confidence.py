"""How sure a word is: the share of the hypotheses that have it, the posteriors of its characters, and of all others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from asr.text.metrics import align
from asr.text.transcript import find_words

UNCHANGED = (0.0, 1.0, 0.0)  # coefficients with which `calibrated` gives confidences as they are, but for 0 and 1
_SUREST = 1e-4  # log-odds of 0 and 1 are infinite
_NEWTON_STEPS, _SMALLEST_STEP = 25, 1e-9


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


def of_utterance(characters: np.ndarray) -> float:
    """The geometric mean over all characters of an utterance, (U,); 1 if there are none."""
    with np.errstate(divide="ignore"):
        return float(np.exp(np.log(characters).mean())) if len(characters) else 1.0


def evidence(confidences: np.ndarray, utterances: np.ndarray | float) -> np.ndarray:
    """(W, 3): 1, the log-odds of each word's confidence, and those of the utterance that it is in.

    In an utterance that a model can't follow, noisy or in another language, hypotheses agree on words that nobody said;
    the characters all over it tell.

    Args:
        confidences: (W,) in 0 .. 1.
        utterances: (W,) what `of_utterance` says of each word's, or one number for all.
    """
    ones = np.ones(len(confidences))
    return np.stack([ones, _log_odds(confidences), _log_odds(utterances) * ones], axis=1)


def calibrated(seen: np.ndarray, coefficients: Sequence[float] | np.ndarray) -> np.ndarray:
    """(W,) the probability that each word is right, by a logistic function of its `evidence`, (W, 3).

    Source: Platt 1999, "Probabilistic outputs for support vector machines".
    """
    return 1.0 / (1.0 + np.exp(-(seen @ np.asarray(coefficients))))


def fit_calibration(seen: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(3,) the coefficients of `calibrated` that make what is known to be right likeliest.

    A Gaussian prior of variance 1 around `UNCHANGED` keeps a few words from promising too much; and evidence for a word
    never counts against it: the second and third are at least 0.

    Args:
        seen: (W, 3) of W words, see `evidence`.
        right: (W,) whether each is.
    """
    free = np.ones(3, dtype=bool)
    while True:
        coefficients = _newton(seen[:, free], right, np.array(UNCHANGED)[free])
        found = np.zeros(3)
        found[free] = coefficients
        against = found < (-np.inf, 0.0, 0.0)
        if not against.any():
            return found
        free &= ~against


def _newton(seen: np.ndarray, right: np.ndarray, unchanged: np.ndarray) -> np.ndarray:
    """The likeliest coefficients, all of them free."""

    def loss(coefficients: np.ndarray) -> float:
        odds = seen @ coefficients
        return float(np.logaddexp(0.0, odds).sum() - odds @ right + 0.5 * ((coefficients - unchanged) ** 2).sum())

    coefficients = unchanged
    for _ in range(_NEWTON_STEPS):
        probabilities = calibrated(seen, coefficients)
        gradient = seen.T @ (right - probabilities) - (coefficients - unchanged)
        curvature = (seen.T * (probabilities * (1.0 - probabilities))) @ seen + np.eye(len(unchanged))
        step = np.linalg.solve(curvature, gradient)
        while loss(coefficients + step) > loss(coefficients) and np.abs(step).max() > _SMALLEST_STEP:
            step /= 2  # it went too far
        coefficients = coefficients + step
        if np.abs(step).max() <= _SMALLEST_STEP:
            break
    return coefficients


def _log_odds(probabilities: np.ndarray | float) -> np.ndarray:
    clipped = np.clip(probabilities, _SUREST, 1.0 - _SUREST)
    return np.log(clipped / (1.0 - clipped))
