from __future__ import annotations

import numpy as np

from asr.audio.silence_level import SilenceLevel


def test_silence_is_what_is_no_louder_than_what_was_noted(rng):
    level, noise = SilenceLevel(8000), rng.standard_normal(8000).astype(np.float32)
    assert not level.covers(np.zeros(100, np.float32))  # nothing is known
    level.note(0.01 * noise[:0])
    assert not level.covers(np.zeros(100, np.float32))
    level.note(0.01 * noise)
    assert level.covers(0.01 * noise[::-1])
    assert level.covers(5 + 0.01 * noise)  # a constant offset is not heard
    assert not level.covers(0.013 * noise)
    burst = 0.005 * noise
    burst[4000:4400] *= 10
    assert not level.covers(burst)


def test_one_loud_noise_raises_the_level_little_and_silence_lowers_it(rng):
    level, noise = SilenceLevel(8000), rng.standard_normal(8000).astype(np.float32)
    level.note(0.01 * noise)
    level.note(noise)
    assert level.covers(0.02 * noise)
    assert not level.covers(0.03 * noise)
    level.note(0 * noise)
    assert not level.covers(0.01 * noise)
    assert level.covers(0 * noise)
