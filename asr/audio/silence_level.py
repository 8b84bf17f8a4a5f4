"""How loud silence is in a sound: learnt from parts in which a recogniser heard nothing."""

from __future__ import annotations

import numpy as np

from asr.audio.libsndfile import Waveform

_PART_SECONDS = 0.1  # the loudest part counts
_LOUDER = 1.5  # times the power: the same silence
_RISE = 4.0  # times the power that a new part may raise it, so that one slammed door does not hide speech
_LEAST = 1e-10  # power, full scale 1


class SilenceLevel:
    """The power of silence, unknown at first."""

    def __init__(self, sample_rate: int):
        self._size = max(1, int(_PART_SECONDS * sample_rate))
        self._power: float | None = None

    def note(self, samples: Waveform) -> None:
        """Learn from samples (N,) in which nobody speaks; N may be 0."""
        if len(samples):
            power = self._loudness(samples)
            self._power = power if self._power is None else min(power, _RISE * self._power + _LEAST)

    def covers(self, samples: Waveform) -> bool:
        """Whether samples (N,) are no louder than the silence so far."""
        return self._power is not None and self._loudness(samples) <= _LOUDER * self._power

    def _loudness(self, samples: Waveform) -> float:
        parts = np.split(samples, range(self._size, len(samples), self._size))
        return max((float(np.var(part)) for part in parts if len(part)), default=0.0)
