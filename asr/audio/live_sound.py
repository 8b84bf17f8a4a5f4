"""Sound that arrives in blocks of any size: checked, and resampled to the model's rate across their borders."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
import soxr

from asr.audio.libsndfile import HIGHEST_SAMPLE_RATE, LOWEST_SAMPLE_RATE, Waveform, rate_range
from asr.audio.waveform import LARGEST_SAMPLE
from asr.errors import InputError


class LiveSound:
    """Turns blocks of one sound into samples at the rate of a model.

    Args:
        sample_rate: Hz of the result.
    """

    def __init__(self, sample_rate: int):
        self.sample_rate = sample_rate
        self._rate: int | None = None  # of the blocks, once known
        self._resampler: soxr.ResampleStream | None = None

    def checked(self, samples: Any, rate: int | None = None) -> tuple[Waveform, int]:
        """The block (N,) as float32 of its own, and its rate; for `read`.

        Args:
            samples: (N,) floating with full scale 1, or int16; N may be 0.
            rate: Hz, the same for all blocks; None means that of the first block, and `sample_rate` for the first.
        Raises:
            InputError: they are not as above.
        """
        return _checked(samples), self._checked_rate(rate)

    def read(self, block: Waveform, rate: int) -> Waveform:
        """(n,) float32 at `sample_rate`: what can be resampled so far, from the result of `checked`."""
        if self._rate is None:
            self._rate = rate
            if rate != self.sample_rate:
                self._resampler = soxr.ResampleStream(rate, self.sample_rate, 1, dtype="float32", quality="HQ")
        return block if self._resampler is None else self._resampler.resample_chunk(block)

    def finish(self) -> Waveform:
        """(n,) the rest, which waited for samples after it."""
        if self._resampler is None:
            return np.zeros(0, np.float32)
        return self._resampler.resample_chunk(np.zeros(0, np.float32), last=True)

    def _checked_rate(self, rate: int | None) -> int:
        if rate is None:
            return self._rate or self.sample_rate
        is_whole = isinstance(rate, numbers.Real) and float(rate).is_integer()  # sounddevice gives floats
        if not is_whole or not LOWEST_SAMPLE_RATE <= rate <= HIGHEST_SAMPLE_RATE:
            raise InputError(f"sample_rate must be an integer, {rate_range()}; got {rate!r}")
        if self._rate not in (None, rate):
            raise InputError(
                f"sample_rate must be {self._rate} Hz for all blocks of this stream; got {rate}: open another stream"
            )
        return int(rate)


def _checked(samples: Any) -> Waveform:
    """(N,) float32 of its own."""
    try:
        array = np.asarray(samples)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"samples must be an array; got {type(samples).__name__} ({error})") from error
    if array.ndim != 1:
        raise InputError(f"samples must be (N,), one channel; got shape {array.shape}")
    if array.dtype.name == "int16":  # of either byte order
        return array.astype(np.float32) / np.float32(2**15)
    if array.dtype.kind != "f" and array.size:  # [] is float64, but so may be an empty list of anything
        raise InputError(f"samples must be floating with full scale 1, or int16; got {array.dtype}")
    with np.errstate(over="ignore"):
        waveform = array.astype(np.float32)
    usable = np.abs(waveform) <= LARGEST_SAMPLE  # false for NaN
    if not usable.all():
        first = int(np.argmin(usable))
        raise InputError(f"samples must be finite, full scale 1; samples[{first}] is {array[first]}")
    return waveform
