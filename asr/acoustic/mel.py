"""Triangular mel filters by the two definitions in use, in NumPy: Kaldi's and Slaney's."""

from __future__ import annotations

import math

import numpy as np

_SLANEY_STEP = 200 / 3  # Hz a mel, below 1 kHz
_SLANEY_LOG_STEP = math.log(6.4) / 27  # of the frequency's logarithm a mel, above


def kaldi_filters(num_bins: int, frequencies: np.ndarray, *, low: float, high: float) -> np.ndarray:
    """(F, M) float64: triangles of height 1 on the axis 1127 ln(1 + f / 700); each ends at its neighbours' centres.

    Args:
        num_bins: M.
        frequencies: (F,) of the spectrum, in Hz.
        low, high: outer edges of the first and the last filter, in Hz.
    Source: Kaldi, src/feat/mel-computations.cc.
    """
    corners = np.linspace(1127.0 * math.log1p(low / 700.0), 1127.0 * math.log1p(high / 700.0), num_bins + 2)
    return _triangles(1127.0 * np.log1p(frequencies / 700.0), corners)


def slaney_filters(num_bins: int, frequencies: np.ndarray, *, high: float) -> np.ndarray:
    """(F, M) float64: triangles of area 1 in hertz, from 0 Hz on.

    Their corners are equidistant in mel: linear below 1 kHz, 3 mel for 200 Hz, and logarithmic above, 27 mel for a
    factor of 6.4.

    Args:
        num_bins: M.
        frequencies: (F,) of the spectrum, in Hz.
        high: outer edge of the last filter in Hz, 1 kHz or more.
    Source: Slaney 1998, "Auditory Toolbox"; the default of librosa.filters.mel.
    """
    linear = 1000 / _SLANEY_STEP
    mel = np.linspace(0.0, linear + math.log(high / 1000) / _SLANEY_LOG_STEP, num_bins + 2)
    corners = np.where(mel < linear, mel * _SLANEY_STEP, 1000 * np.exp(_SLANEY_LOG_STEP * (mel - linear)))
    return _triangles(frequencies, corners) * 2 / (corners[2:] - corners[:-2])


def _triangles(axis: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """(F, M) of height 1 over the points of an axis (F,), between corners (M + 2,)."""
    rising = (axis[:, None] - corners[:-2]) / np.diff(corners)[:-1]
    falling = (corners[2:] - axis[:, None]) / np.diff(corners)[1:]
    return np.maximum(0, np.minimum(rising, falling))
