"""The map B from paths to labellings, and the number of frames that it needs."""

from __future__ import annotations

from typing import Any

import numpy as np

from asr.errors import InputError


def collapse(path: Any, *, blank: int) -> list[int]:
    """Tokens of a CTC path: merge repeats, then drop blanks.

    A blank between two equal labels keeps both: with Φ the blank, [好 棒 棒] is 好棒 and [好 棒 Φ 棒] is 好棒棒.

    Args:
        path: (T,) integers, one label per frame: an array, a list, or a torch tensor on any device; T may be 0.
        blank: index of the blank label.
    Returns:
        Token indices, at most T of them.  [a a - a b b] -> [a a b]
    Raises:
        InputError: path is not one-dimensional, or does not hold integers.
    Source: Graves et al. 2006, section 3.1, the map B.
    """
    labels = _integers(path, name="path")
    keep = labels != blank
    keep[1:] &= labels[1:] != labels[:-1]
    return labels[keep].tolist()


def minimum_frames(tokens: Any) -> int:
    """The fewest frames in which a path can collapse to these tokens: U + the number of adjacent repeats.

    Two equal tokens in a row need a blank between them, so 好棒棒 takes four frames where 好棒 takes two.

    Args:
        tokens: (U,) integers without blanks: an array, a list, or a torch tensor; U may be 0.
    Raises:
        InputError: tokens is not one-dimensional, or does not hold integers.
    """
    labels = _integers(tokens, name="tokens")
    return len(labels) + int(np.count_nonzero(labels[1:] == labels[:-1]))


def _integers(values: Any, *, name: str) -> np.ndarray:
    try:
        array = np.asarray(values.tolist() if hasattr(values, "tolist") else values)
    except ValueError:  # a ragged nest of lists
        raise InputError(f"{name} must be one-dimensional; got nested lists of different lengths") from None
    if array.ndim != 1:
        raise InputError(f"{name} must be one-dimensional; got shape {array.shape}")
    if array.size and array.dtype.kind not in "iu":
        raise InputError(f"{name} must hold integers; got {array.dtype}")
    return array
