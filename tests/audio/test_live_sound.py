"""Blocks of live sound against the sound as a whole."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.audio.live_sound import LiveSound
from asr.errors import InputError


def read(sound: LiveSound, blocks: list[np.ndarray], rate: int) -> np.ndarray:
    return np.concatenate([*(sound.read(*sound.checked(block, rate)) for block in blocks), sound.finish()])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 700), max_size=30), st.sampled_from([8_000, 16_000, 22_050, 48_000]))
def test_blocks_are_resampled_as_one_sound(sizes, rate):
    samples = np.random.default_rng(3).uniform(-1, 1, 6000).astype(np.float32)
    ends = np.cumsum(sizes)
    blocks = np.split(samples, ends[ends < len(samples)])
    expected = soxr.resample(samples, rate, 16_000, quality="HQ")
    np.testing.assert_allclose(read(LiveSound(16_000), blocks, rate), expected, atol=1e-6)


def test_samples_are_a_copy_and_int16_is_scaled():
    sound, samples = LiveSound(16_000), np.array([0.5, -1], np.float32)
    block, rate = sound.checked(samples)
    samples[:] = 9
    assert (block.tolist(), rate) == ([0.5, -1.0], 16_000)
    assert sound.checked(np.array([-(2**15), 2**14], np.int16))[0].tolist() == [-1.0, 0.5]
    assert sound.checked(np.array([2**14], ">i2"))[0].tolist() == [0.5]
    assert sound.checked(np.array([0.25]))[0].dtype == np.float32


@pytest.mark.parametrize(
    "samples, message",
    [
        (np.array([0, 1e300]), r"samples must be finite, full scale 1; samples\[1\] is 1e\+300"),
        ([0.0, np.nan], r"samples must be finite, full scale 1; samples\[1\] is nan"),
        ([[0.0], [0.0, 0.0]], r"samples must be an array; got list \(setting an array element"),
        (np.zeros((4, 1)), r"samples must be \(N,\), one channel; got shape \(4, 1\)"),
        ([1, 2], "samples must be floating with full scale 1, or int16; got int64"),
    ],
)
def test_what_is_no_block_is_one_sentence(samples, message):
    with pytest.raises(InputError, match=message):
        LiveSound(16_000).checked(samples)


def test_a_check_changes_nothing():
    sound = LiveSound(16_000)
    sound.checked(np.zeros(3), 8_000)
    sound.read(*sound.checked(np.zeros(3), 44_100))
    with pytest.raises(InputError, match="sample_rate must be 44100 Hz for all blocks of this stream; got 8000"):
        sound.checked(np.zeros(3), 8_000)
    assert sound.checked(np.zeros(3))[1] == sound.checked(np.zeros(3), 44_100.0)[1] == 44_100
    for rate in (0, 999, True, "16000", 16_000.5, np.nan, np.inf):
        with pytest.raises(InputError, match="sample_rate must be an integer, 1000 to 1000000 Hz; got"):
            sound.checked(np.zeros(3), rate)
