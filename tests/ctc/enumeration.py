"""Oracle: what an emission says about every labelling, by walking through all V^T paths in Python's float64."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence


def merge_and_drop(path: Sequence[int], *, blank: int) -> tuple[int, ...]:
    """Tokens of a path, by a scan over its frames."""
    tokens: list[int] = []
    previous = blank
    for label in path:
        if label not in (blank, previous):
            tokens.append(label)
        previous = label
    return tuple(tokens)


def labelling_probabilities(log_probs: Sequence[Sequence[float]], *, blank: int) -> dict[tuple[int, ...], float]:
    """Probability of each labelling that T frames of V labels can have; tiny T and V only."""
    num_labels = len(log_probs[0]) if log_probs else 0
    terms: dict[tuple[int, ...], list[float]] = {}
    for path in itertools.product(range(num_labels), repeat=len(log_probs)):
        probability = math.prod(math.exp(row[label]) for row, label in zip(log_probs, path, strict=True))
        terms.setdefault(merge_and_drop(path, blank=blank), []).append(probability)
    return {tokens: math.fsum(probabilities) for tokens, probabilities in terms.items()}
