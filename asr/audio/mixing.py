"""Mix the channels of a recording: their mean, or the louder channel where they would cancel each other."""

from __future__ import annotations

import warnings

import numpy as np

from asr.audio.libsndfile import Waveform
from asr.errors import ChoiceWarning

# The mean of n uncorrelated channels has 1/n of their mean power. Channels cancel if it has less than a tenth of that,
# as two with a correlation below -0.9: one is inverted, and less than a tenth of each is its own noise.
CANCELLING = 0.1
STILL_CANCELLING = 0.5  # in the next second, which may hold less speech and more noise
_SHORTEST = 0.1  # seconds that can be judged
_QUIET = 0.01  # of the mean power so far: a pause, perhaps with a hum of opposite phase
_SILENCE = 1e-8  # inaudible mean power, full scale 1


class Mixer:
    """Mixes a recording block by block.

    Channels may cancel in a part of a recording only, so each second is judged separately. A second that is 20 dB
    quieter than the recording so far, or a rest of less than 0.1 s, is mixed like the second before it.

    Args:
        name: of the recording in warnings; None if it has none.
    """

    def __init__(self, name: str | None):
        self._name = name
        self._energy = np.zeros(0)  # (channels,), of all samples so far
        self._num_samples = 0
        self._cancelling = False
        self._warned = False

    def mixed(self, planar: Waveform, rate: int, position: int) -> Waveform:
        """(n,) float32 for samples (channels, n).

        Warns:
            ChoiceWarning: channels cancel; once per recording.
        """
        mono = np.mean(planar, axis=0)
        channels, count = planar.shape
        if channels == 1:
            return mono
        if len(self._energy) != channels:
            self._energy, self._num_samples = np.zeros(channels), 0
        for start in range(0, count, rate):
            second = slice(start, start + rate)
            self._judge(planar[:, second], mono[second], rate)
            if self._cancelling:
                louder = int(np.argmax(self._energy))
                mono[second] = planar[louder, second]
                self._warn(louder, (position + start) / rate)
        return mono

    def _judge(self, planar: Waveform, mean: Waveform, rate: int) -> None:
        channels, count = planar.shape
        powers = np.array([_power(channel) for channel in planar])
        self._energy += count * powers
        self._num_samples += count
        power = powers.mean()
        if count >= _SHORTEST * rate and power > max(_SILENCE, _QUIET * self._energy.mean() / self._num_samples):
            limit = STILL_CANCELLING if self._cancelling else CANCELLING
            self._cancelling = channels * _power(mean) < limit * power

    def _warn(self, louder: int, seconds: float) -> None:
        if not self._warned:
            self._warned = True
            prefix = "" if self._name is None else f"{self._name}: "
            message = f"the channels cancel each other at {seconds:.3f} s; where they do, the louder one is used"
            warnings.warn(ChoiceWarning(f"{prefix}{message}, channel {louder}: --channel takes another"), stacklevel=4)


def _power(waveform: Waveform) -> float:
    """The variance, several times as fast as `np.var`."""
    return float(waveform @ waveform) / len(waveform) - float(np.mean(waveform)) ** 2
