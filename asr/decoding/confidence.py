"""The confidence of a word: its share of the hypotheses, the posteriors of its characters and of the utterance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from asr.text.metrics import align_tokens
from asr.text.transcript import find_words

UNCHANGED = (0.0, 1.0, 0.0)  # coefficients with which `calibrated` changes no confidence but 0 and 1
_SUREST = 1e-4  # distance from 0 and 1, whose log-odds are infinite
_NEWTON_STEPS, _SMALLEST_STEP = 25, 1e-9


def agreements(hypotheses: Sequence[Sequence[str]]) -> np.ndarray:
    """The agreement of each hypothesis with the words of the first one.

    Args:
        hypotheses: the words of n hypotheses, the best first.
    Returns:
        (n, W) 1 where a shortest alignment pairs a word of the first hypothesis with the same word, else 0.
    """
    rows = []
    for words in hypotheses:
        aligned = (pair for pair in align_tokens(hypotheses[0], words) if pair.operation != "insertion")
        rows.append([pair.operation == "match" for pair in aligned])
    return np.array(rows, dtype=float).reshape(len(hypotheses), -1)


def word_shares(agreement: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(W,) in 0 .. 1, the share of probability of the hypotheses that have the word at its position.

    Args:
        agreement: (n, W), see `agreements`.
        scores: (n,) natural log-probabilities, up to a constant.
    """
    shares = np.exp(scores - scores.max())
    return np.minimum(shares / shares.sum() @ agreement, 1.0)


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
    """(W, 3): 1, the log-odds of each word's confidence, and the log-odds of its utterance.

    In a noisy utterance, or one in another language, hypotheses agree on words that nobody said, but the posteriors of
    all characters are low.

    Args:
        confidences: (W,) in 0 .. 1.
        utterances: (W,) `of_utterance` for the utterance of each word, or one number for all.
    """
    ones = np.ones(len(confidences))
    return np.stack([ones, _log_odds(confidences), _log_odds(utterances) * ones], axis=1)


def calibrated(features: np.ndarray, coefficients: Sequence[float] | np.ndarray) -> np.ndarray:
    """(W,) the probability that each word is right, by a logistic function of its `evidence`, (W, 3).

    Source: Platt 1999, "Probabilistic outputs for support vector machines".
    """
    return 1.0 / (1.0 + np.exp(-(features @ np.asarray(coefficients))))


def fit_calibration(features: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(3,) the coefficients of `calibrated` with the highest likelihood.

    A Gaussian prior of variance 1 around `UNCHANGED` prevents overconfidence with few words. The second and third
    coefficient are at least 0, so that evidence for a word never lowers its confidence.

    Args:
        features: (W, 3) of W words, see `evidence`.
        right: (W,) whether each word is right.
    """
    free = np.ones(3, dtype=bool)
    while True:
        coefficients = np.zeros(3)
        coefficients[free] = _newton(features[:, free], right, np.array(UNCHANGED)[free])
        negative = coefficients < (-np.inf, 0.0, 0.0)
        if not negative.any():
            return coefficients
        free &= ~negative


def _newton(features: np.ndarray, right: np.ndarray, unchanged: np.ndarray) -> np.ndarray:
    """The coefficients of highest likelihood, without limits."""

    def loss(coefficients: np.ndarray) -> float:
        odds = features @ coefficients
        return float(np.logaddexp(0.0, odds).sum() - odds @ right + 0.5 * ((coefficients - unchanged) ** 2).sum())

    coefficients = unchanged
    for _ in range(_NEWTON_STEPS):
        probabilities = calibrated(features, coefficients)
        gradient = features.T @ (right - probabilities) - (coefficients - unchanged)
        curvature = (features.T * (probabilities * (1.0 - probabilities))) @ features + np.eye(len(unchanged))
        step = np.linalg.solve(curvature, gradient)
        while loss(coefficients + step) > loss(coefficients) and np.abs(step).max() > _SMALLEST_STEP:
            step /= 2  # a shorter step
        coefficients = coefficients + step
        if np.abs(step).max() <= _SMALLEST_STEP:
            break
    return coefficients


def _log_odds(probabilities: np.ndarray | float) -> np.ndarray:
    clipped = np.clip(probabilities, _SUREST, 1.0 - _SUREST)
    return np.log(clipped / (1.0 - clipped))
