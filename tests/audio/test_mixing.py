"""asr.audio.mixing: channels with a known relation, by themselves and through asr.audio.waveform."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.audio.mixing import Mixer
from asr.audio.waveform import read_audio, stream_audio
from asr.errors import ChoiceWarning, DataError

RATE = 16_000
SPEECH, _ = soundfile.read(Path(__file__).parent / "merchant.flac", dtype="float32")
CANCEL = r"the channels cancel each other at {}\.000 s; where they do, the louder one is used, channel {}: --channel"


def noise(level: float, rng: np.random.Generator) -> np.ndarray:
    return level * rng.standard_normal(len(SPEECH), dtype=np.float32)


def test_a_recording_with_one_channel_inverted() -> None:
    path = Path(__file__).parent / "right_channel_inverted.flac"
    with pytest.warns(ChoiceWarning, match=r"right_channel_inverted\.flac: " + CANCEL.format(0, 0)):
        np.testing.assert_array_equal(read_audio(path), SPEECH)


@pytest.mark.parametrize("gain", [1.0, 0.9, 0.7])
def test_the_louder_of_channels_that_cancel_is_heard(tmp_path: Path, gain: float) -> None:
    stereo = np.stack([SPEECH, -gain * SPEECH], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, RATE, subtype="FLOAT")
    for source, place in (((stereo, RATE), "^"), (tmp_path / "a.wav", r"a\.wav: ")):
        with pytest.warns(ChoiceWarning, match=place + CANCEL.format(0, 0)) as caught:
            np.testing.assert_array_equal(read_audio(source), SPEECH)
        assert len(caught) == 1
    if gain < 1:
        with pytest.warns(ChoiceWarning, match=CANCEL.format(0, 1)):
            np.testing.assert_array_equal(read_audio((stereo[:, ::-1], RATE)), SPEECH)


def test_noise_of_its_own_on_each_channel_does_not_hide_that_they_cancel(rng: np.random.Generator) -> None:
    stereo = np.stack([SPEECH + noise(0.003, rng), -0.9 * SPEECH + noise(0.003, rng)], axis=1)
    with pytest.warns(ChoiceWarning, match=CANCEL.format(1, 0)):  # in the first second nobody speaks
        waveform = read_audio((stereo, RATE))
    np.testing.assert_array_equal(waveform[RATE:], stereo[RATE:, 0])


def test_a_hum_of_opposite_phase_in_pauses_is_averaged(rng: np.random.Generator) -> None:
    hum = 0.003 * np.sin(2 * np.pi * 50 * np.arange(3 * RATE) / RATE, dtype=np.float32)
    left, right = (np.concatenate([SPEECH, part, SPEECH]) for part in (hum, -hum))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(read_audio((np.stack([left, right], axis=1), RATE)), (left + right) / 2)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "name",
    ["same", "panned", "one silent", "two speakers", "delayed", "noise", "offsets", "quiet", "silence"],
)
def test_other_stereo_is_averaged(rng: np.random.Generator, name: str) -> None:
    later, zeros = np.roll(SPEECH, 40_000), np.zeros_like(SPEECH)
    left, right = {
        "same": (SPEECH, SPEECH),
        "panned": (SPEECH, 0.2 * SPEECH),
        "one silent": (zeros, SPEECH),
        "two speakers": (SPEECH, -later),
        "delayed": (SPEECH, np.roll(SPEECH, 16)),  # a microphone 34 cm away
        "noise": (noise(0.1, rng), noise(0.1, rng)),
        "offsets": (SPEECH + np.float32(0.5), SPEECH - np.float32(0.5)),
        "quiet": (1e-5 * SPEECH, -1e-5 * SPEECH),
        "silence": (zeros, zeros),
    }[name]
    stereo = np.stack([left, right], axis=1)
    np.testing.assert_allclose(read_audio((stereo, RATE)), stereo.mean(axis=1), atol=1e-7)


def test_channels_that_cancel_in_a_part_only(rng: np.random.Generator) -> None:
    count = 3 * 2**17
    left = 0.1 * rng.standard_normal(count).astype(np.float32)
    right = np.concatenate([left[: 2**17], -left[2**17 : -(2**17)], left[-(2**17) :]])
    with pytest.warns(ChoiceWarning, match=r"at 8\.192 s; where they do"):
        np.testing.assert_allclose(read_audio((np.stack([left, right], axis=1), RATE)), left)


def test_a_short_end_is_mixed_as_what_is_before_it() -> None:
    mixer = Mixer(None)
    block = np.stack([SPEECH, -0.9 * SPEECH])
    with pytest.warns(ChoiceWarning):
        mixer.mixed(block, RATE, 0)
    end = np.array([[0.1, 0.2, 0.1], [0.1, 0.2, 0.2]], np.float32)
    np.testing.assert_array_equal(mixer.mixed(end, RATE, 75_264), end[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(Mixer(None).mixed(block[:, :100], RATE, 0), block[:, :100].mean(axis=0))


def test_more_channels_than_two(rng: np.random.Generator) -> None:
    six = np.stack([0.5 * SPEECH, -SPEECH, 0.5 * SPEECH, *np.zeros((3, len(SPEECH)), np.float32)], axis=1)
    with pytest.warns(ChoiceWarning, match=CANCEL.format(0, 1)):
        np.testing.assert_array_equal(read_audio((six, RATE)), -SPEECH)


def test_blocks_of_any_length_are_the_whole(rng: np.random.Generator) -> None:
    left = np.concatenate([SPEECH, noise(0.05, rng), SPEECH, SPEECH])
    right = np.concatenate([-SPEECH, noise(0.05, rng), -SPEECH, SPEECH])
    stereo = np.stack([left, right], axis=1)
    with pytest.warns(ChoiceWarning):
        whole = read_audio((stereo, 44_100))
        for block_seconds in (0.01, 0.7, 30):
            blocks = list(stream_audio((stereo, 44_100), block_seconds=block_seconds))
            np.testing.assert_array_equal(np.concatenate(blocks), whole)


def test_samples_that_are_not_finite_are_still_refused(tmp_path: Path) -> None:
    stereo = np.stack([SPEECH, -SPEECH], axis=1)
    stereo[1_000, 1] = np.nan
    soundfile.write(tmp_path / "a.wav", stereo, RATE, subtype="FLOAT")
    message = r"a\.wav: samples must be finite, full scale 1; the one at 0\.062 s is nan"
    with pytest.warns(ChoiceWarning), pytest.raises(DataError, match=message):
        read_audio(tmp_path / "a.wav")
