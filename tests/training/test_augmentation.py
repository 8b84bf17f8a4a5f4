"""Augmentation against direct convolution, measured ratios and frequencies, and bounds that hold for every draw."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from asr.errors import ConfigError, DataError, InputError
from asr.training.augmentation import (
    AugmentOptions,
    add_noise,
    add_pause,
    augment_waveform,
    background,
    change_speed,
    draw_masks,
    hide,
    mp3,
    random_gain,
    read_sounds,
    reverberate,
    telephone,
)

UNCHANGED = AugmentOptions(speeds=(1.0,), time_masks=0, frequency_masks=0)


def spec_augment(
    features: torch.Tensor, lengths: torch.Tensor, options: AugmentOptions, generator: torch.Generator
) -> torch.Tensor:
    return hide(features, *draw_masks(features, lengths, options, generator))


def sine(frequency: float, num_samples: int = 16000) -> NDArray[np.float32]:
    return (0.3 * np.sin(2 * np.pi * frequency / 16000 * np.arange(num_samples))).astype(np.float32)


def random_waveform(num_samples: int, seed: int = 0) -> NDArray[np.float32]:
    return (0.1 * np.random.default_rng(seed).standard_normal(num_samples)).astype(np.float32)


def energy(waveform: NDArray[np.floating]) -> float:
    return float(np.square(waveform, dtype=np.float64).sum())


# Speed


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.1, 1.5])
def test_speed_moves_frequency_and_length(factor):
    faster = change_speed(sine(1000), factor)
    assert faster.dtype == np.float32
    assert len(faster) == pytest.approx(16000 / factor, abs=1)
    spectrum = np.abs(np.fft.rfft(faster * np.hanning(len(faster))))
    assert spectrum.argmax() * 16000 / len(faster) == pytest.approx(1000 * factor, abs=1)
    assert np.abs(faster[200:-200]).max() == pytest.approx(0.3, rel=0.01)


def test_speed_folds_nothing_back():
    assert np.abs(change_speed(sine(7000), 1.5)[200:-200]).max() < 1e-3  # would lie at 10.5 kHz


def test_speed_of_one_and_of_very_little():
    waveform = random_waveform(100)
    assert change_speed(waveform, 1.0) is waveform
    for num_samples in (0, 1, 2):
        assert change_speed(waveform[:num_samples], 0.9).shape == (num_samples,)


# Noise


@pytest.mark.parametrize("noise_samples", [1, 300, 4000, 90_000])
@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 17.0])
def test_noise_has_the_ratio(snr_db, noise_samples):
    waveform = random_waveform(4000)
    noise = random_waveform(noise_samples, seed=1) + np.float32(0.05)
    noisy = add_noise(waveform, noise, snr_db, np.random.default_rng(2))
    assert noisy.dtype == np.float32
    assert noisy.shape == waveform.shape
    added = noisy.astype(np.float64) - waveform
    assert 10 * math.log10(energy(waveform) / energy(added)) == pytest.approx(snr_db, abs=1e-3)


def test_noise_is_a_random_stretch():
    """The noise is a ramp, so that what was added tells where it came from."""
    waveform, ramp = random_waveform(10), np.arange(1, 101, dtype=np.float32)
    rng = np.random.default_rng(0)
    starts = set()
    for _ in range(2000):
        added = add_noise(waveform, ramp, 0.0, rng) - waveform
        step = (added[-1] - added[0]) / 9
        starts.add(round(float(added[0] / step)))
        np.testing.assert_allclose(np.diff(added), step, rtol=1e-2)
    assert starts == set(range(1, 92))


def test_short_noise_is_looped():
    waveform, rng = random_waveform(50), np.random.default_rng(3)
    beginnings = set()
    for _ in range(100):
        added = add_noise(waveform, np.array([1, 2, 3], dtype=np.float32), 0.0, rng) - waveform
        np.testing.assert_allclose(added[3:], added[:-3], atol=1e-6)
        beginnings.add(tuple(int(value) for value in np.round(added[:3] / added[:3].min())))
    assert beginnings == {(1, 2, 3), (2, 3, 1), (3, 1, 2)}


def test_silence_stays_as_it_is():
    waveform, silence = random_waveform(100), np.zeros(100, dtype=np.float32)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(add_noise(waveform, silence, 10.0, rng), waveform)
    np.testing.assert_array_equal(add_noise(silence, waveform, 10.0, rng), silence)
    np.testing.assert_array_equal(reverberate(silence, waveform), silence)


# Rooms


@pytest.mark.parametrize("num_samples, response_samples", [(1, 1), (1, 50), (50, 1), (700, 90), (90, 700), (512, 513)])
def test_reverberation_is_convolution(num_samples, response_samples):
    waveform, response = random_waveform(num_samples), random_waveform(response_samples, seed=1)
    wet = reverberate(waveform, response)
    peak = np.abs(response).argmax()
    expected = np.convolve(waveform.astype(np.float64), response.astype(np.float64))[peak : peak + num_samples]
    expected *= math.sqrt(energy(waveform) / energy(expected))
    assert wet.dtype == np.float32
    np.testing.assert_allclose(wet, expected, atol=1e-6)
    assert energy(wet) == pytest.approx(energy(waveform), rel=1e-5)


def test_reverberation_moves_no_times():
    response = np.zeros(3000, dtype=np.float32)
    response[1200], response[2500] = -0.9, 0.2  # a negative direct sound, then an echo 1300 samples later
    click = np.zeros(5000, dtype=np.float32)
    click[700] = 0.5
    wet = reverberate(click, response)
    assert np.abs(wet).argmax() == 700
    assert set(np.flatnonzero(np.abs(wet) > 1e-4)) == {700, 2000}


# Level


def test_gain_is_drawn_from_the_range():
    rng = np.random.default_rng(0)
    waveform = random_waveform(1000)
    gains = [10 * math.log10(energy(random_gain(waveform, (-6.0, 3.0), rng)) / energy(waveform)) for _ in range(300)]
    assert -6.001 < min(gains) < -5.5
    assert 2.5 < max(gains) < 3.001
    assert random_gain(waveform, (0.0, 0.0), rng) is waveform


# Telephone and MP3


def mu_law_step(level: float) -> float:
    """The widest step of G.711's mu-law near a level, of its definition: eight segments that double, each of 16 steps.

    In units of full scale: 8159 is the largest input, 33 the bias; segment s holds |x| + 33 in [2^(s+5), 2^(s+6)).
    """
    segment = int(math.log2(abs(level) * 8159 + 33)) - 5
    return 2 ** (segment + 1) / 8159


@pytest.mark.parametrize("level", [0.9, 0.3, 0.01])
def test_a_telephone_line_keeps_the_band_and_quantises_in_steps(level):
    passed = np.float32(level / 0.3) * sine(997)  # which divides no rate: many different samples
    heard = telephone(passed, 16000)
    assert heard.dtype == np.float32
    assert heard.shape == passed.shape
    middle = slice(400, -400)  # where the resampler has both sides
    largest = mu_law_step(level) / 2
    wrong = np.abs(heard - passed)[middle]
    assert wrong.max() < 2.5 * largest  # between the samples of the line errors add up
    assert wrong.max() > 0.5 * largest
    assert np.abs(telephone(sine(6000), 16000)[middle]).max() < 1e-3


def test_a_telephone_line_of_another_rate():
    assert len(telephone(sine(1000, 4410), 44100)) == 4410
    with pytest.raises(InputError, match="a telephone line needs at least 8000 Hz, not 7999"):
        telephone(sine(100), 7999)


@pytest.mark.parametrize("num_samples", [0, 1, 2, 333, 1601])
def test_lines_and_files_keep_the_length(num_samples):
    waveform = random_waveform(num_samples)
    assert len(telephone(waveform, 16000)) == num_samples
    assert len(mp3(waveform, 16000, compression=0.9)) == num_samples


def test_mp3_stays_in_time_and_loses_more_where_it_is_smaller():
    waveform = random_waveform(16000) + sine(440)

    def ratio(compression: float) -> float:
        heard = mp3(waveform, 16000, compression=compression)
        assert heard.dtype == np.float32
        lags = np.fft.irfft(np.fft.rfft(heard) * np.fft.rfft(waveform).conj())
        assert lags.argmax() == 0
        return 10 * math.log10(energy(waveform) / energy(heard - waveform))

    assert 25 > ratio(0.0) > ratio(0.5) > ratio(0.99) > 3


def test_what_mp3_cannot_hold_is_refused():
    with pytest.raises(InputError, match=r"libsndfile .* cannot write MP3 of 16000 Hz at compression 1: "):
        mp3(sine(440), 16000, compression=1.0)
    with pytest.raises(InputError, match="MP3 of 12345 Hz"):
        mp3(sine(440), 12345, compression=0.5)


# Background


def slope(waveform: NDArray[np.floating]) -> float:
    """The power that the power falls with, between 50 Hz and 5 kHz."""
    power = np.abs(np.fft.rfft(waveform)) ** 2
    frequency = np.fft.rfftfreq(len(waveform), 1 / 16000)
    edges = np.geomspace(50, 5000, 9)
    bands = [power[(frequency >= low) & (frequency < high)].mean() for low, high in pairwise(edges)]
    return -float(np.polyfit(np.log(np.sqrt(edges[1:] * edges[:-1])), np.log(bands), 1)[0])


def test_background_has_every_level_and_colour(rng):
    made = [background(16000, [], rng) for _ in range(300)]
    assert all(noise.dtype == np.float32 and noise.shape == (16000,) for noise in made)
    levels = [10 * math.log10(energy(noise) / 16000) for noise in made]
    assert -90.01 <= min(levels) < -85
    assert -15 < max(levels) <= -9.99
    assert np.mean(levels) == pytest.approx(-50, abs=5)
    slopes = [slope(noise) for noise in made]
    assert -0.2 < min(slopes) < 0.2
    assert 1.8 < max(slopes) < 2.2
    assert np.mean(slopes) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("noise_samples", [3, 300, 90_000])
def test_half_of_the_background_is_one_of_the_noises(rng, noise_samples):
    noise = np.resize(np.array([0.1, -0.2, 0.3], dtype=np.float32), noise_samples)  # looped too, its period is 3
    noise.flags.writeable = False
    made = [background(4000, [noise], rng) for _ in range(200)]
    periodic = [np.array_equal(waveform[3:], waveform[:-3]) for waveform in made]
    assert np.mean(periodic) == pytest.approx(0.5, abs=0.12)
    levels = [10 * math.log10(energy(waveform) / 4000) for waveform in made]
    assert -90.01 <= min(levels) < -80
    assert -20 < max(levels) <= -9.99


def test_a_background_may_be_empty_or_a_sample(rng):
    noises = [random_waveform(50)]
    for _ in range(20):
        assert background(0, noises, rng).shape == (0,)
        assert np.isfinite(background(1, noises, rng)).all()


# All together

EVERYTHING = AugmentOptions(
    speeds=(0.9, 1.1),
    reverb_probability=0.7,
    noise_probability=0.7,
    noise_snr_db=(0.0, 20.0),
    gain_db=(-6.0, 6.0),
    telephone_probability=0.7,
    mp3_probability=0.2,
)


@pytest.mark.parametrize("num_samples", [0, 1, 2, 1000])
def test_equal_generators_give_equal_waveforms_and_inputs_stay(num_samples):
    waveform = random_waveform(num_samples)
    noises = [random_waveform(300, seed=1), random_waveform(5000, seed=2)]
    responses = [random_waveform(60, seed=3), random_waveform(2000, seed=4)]
    for array in (waveform, *noises, *responses):
        array.flags.writeable = False
    for seed in range(20):
        first, second = (
            augment_waveform(waveform, EVERYTHING, noises, responses, np.random.default_rng(seed)) for _ in range(2)
        )
        np.testing.assert_array_equal(first, second)
        assert first.dtype == np.float32
        assert np.isfinite(first).all()
        assert len(first) in (len(change_speed(waveform, 0.9)), len(change_speed(waveform, 1.1)))


def test_probabilities_are_those_of_the_options():
    waveform, sounds = random_waveform(50), [random_waveform(20, seed=1)]
    rng = np.random.default_rng(0)

    def share_changed(**changes) -> float:
        options = AugmentOptions(speeds=(1.0,), **changes)
        results = [augment_waveform(waveform, options, sounds, sounds, rng) for _ in range(2000)]
        return sum(not np.array_equal(result, waveform) for result in results) / 2000

    assert share_changed() == 0
    assert share_changed(noise_probability=1.0) == 1
    assert share_changed(noise_probability=0.3) == pytest.approx(0.3, abs=0.05)
    assert share_changed(reverb_probability=0.6) == pytest.approx(0.6, abs=0.05)
    assert share_changed(telephone_probability=0.4) == pytest.approx(0.4, abs=0.05)
    assert share_changed(mp3_probability=0.1) == pytest.approx(0.1, abs=0.03)
    lengths = {len(augment_waveform(waveform, AugmentOptions(), [], [], rng)) for _ in range(100)}
    assert lengths == {45, 50, 56}


def test_without_options_nothing_changes():
    waveform = random_waveform(50)
    assert augment_waveform(waveform, UNCHANGED, [], [], np.random.default_rng(0)) is waveform
    features = torch.ones(1, 5, 4)
    assert torch.equal(spec_augment(features, torch.tensor([5]), UNCHANGED, torch.Generator()), features)


# Masks


def runs(line: NDArray[np.bool_]) -> list[int]:
    """Lengths of the runs of true."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], line.astype(int), [0]))))
    return list(edges[1::2] - edges[::2])


def test_runs():
    assert runs(np.array([1, 1, 0, 1, 0, 0, 1, 1, 1], dtype=bool)) == [2, 1, 3]
    assert runs(np.zeros(3, dtype=bool)) == []


@settings(max_examples=80, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=4),
    padding=st.integers(0, 9),
    num_bins=st.integers(1, 12),
    time_masks=st.integers(0, 3),
    max_frames=st.integers(0, 30),
    fraction=st.floats(0, 1),
    frequency_masks=st.integers(0, 3),
    max_bins=st.integers(0, 15),
    seed=st.integers(0, 2**30),
)
def test_masks_are_bounded(
    lengths, padding, num_bins, time_masks, max_frames, fraction, frequency_masks, max_bins, seed
):
    options = AugmentOptions(
        time_masks=time_masks,
        time_mask_max_frames=max_frames,
        time_mask_max_fraction=fraction,
        frequency_masks=frequency_masks,
        frequency_mask_max_bins=max_bins,
    )
    features = torch.arange(len(lengths) * (max(lengths) + padding) * num_bins).float() + 1
    features = features.reshape(len(lengths), -1, num_bins)
    before = features.clone()
    masked = spec_augment(features, torch.tensor(lengths), options, torch.Generator().manual_seed(seed))
    assert torch.equal(features, before)
    assert ((masked == features) | (masked == 0)).all()
    for row, length in enumerate(lengths):
        hidden = masked[row].eq(0).numpy()
        bands = np.asarray(hidden.all(axis=0) & bool(hidden.size))
        stretches = np.asarray(hidden[:, ~bands].any(axis=1))
        if bands.all():
            continue  # everything is hidden behind bands, so stretches cannot be told
        assert (hidden[:, ~bands] == stretches[:, None]).all()  # whole frames, whole bins
        assert not stretches[length:].any()
        if hidden.size and not stretches.all():
            assert bands.sum() <= frequency_masks * max_bins
            assert len(runs(bands)) <= frequency_masks
        assert stretches.sum() <= min(time_masks * max_frames, fraction * length + 1e-3)
        assert len(runs(stretches)) <= time_masks
        assert max(runs(stretches), default=0) <= time_masks * max_frames


def test_masks_reach_their_bounds_evenly():
    """One mask of 0 to 3 frames in 5: each width is as likely, and each place for a width."""
    options = AugmentOptions(
        time_masks=1, time_mask_max_frames=3, time_mask_max_fraction=1.0, frequency_masks=0, frequency_mask_max_bins=0
    )
    lengths = torch.full((60_000,), 5)
    masked = spec_augment(torch.ones(60_000, 6, 1), lengths, options, torch.Generator().manual_seed(0))[:, :, 0]
    patterns, counts = np.unique(masked.numpy(), axis=0, return_counts=True)
    shares = {tuple(map(int, pattern)): count / 60_000 for pattern, count in zip(patterns, counts, strict=True)}
    expected = {
        tuple(0 if start <= frame < start + width else 1 for frame in range(6)): 1 / 4 / (6 - width)
        for width in (1, 2, 3)
        for start in range(6 - width)
    }
    expected[(1,) * 6] = 1 / 4
    assert shares.keys() == expected.keys()
    for pattern, share in expected.items():
        assert shares[pattern] == pytest.approx(share, abs=0.01)


def test_masks_are_each_utterances_own_and_repeatable():
    features, lengths = torch.ones(8, 200, 80), torch.full((8,), 200)
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    first, second = (spec_augment(features, lengths, AugmentOptions(), generator) for generator in generators)
    assert torch.equal(first, second)
    assert len({tuple(row.flatten().tolist()) for row in first}) == 8
    assert not torch.equal(spec_augment(features, lengths, AugmentOptions(), generators[0]), first)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_masks_on_a_gpu_are_those_of_the_cpu():
    features, lengths = torch.ones(4, 200, 80), torch.tensor([200, 100, 3, 0])
    expected = spec_augment(features, lengths, AugmentOptions(), torch.Generator().manual_seed(5))
    for where in (lengths, lengths.cuda()):
        masked = spec_augment(features.cuda(), where, AugmentOptions(), torch.Generator().manual_seed(5))
        assert torch.equal(masked.cpu(), expected)


# Files


def test_sounds_of_a_folder(tmp_path):
    (tmp_path / "inner").mkdir()
    soundfile.write(tmp_path / "b.wav", random_waveform(160), 16000)
    soundfile.write(tmp_path / "inner" / "a.FLAC", sine(100, 400), 8000)
    (tmp_path / "README.md").write_text("no sound")
    first, second = read_sounds(tmp_path, 16000)
    np.testing.assert_allclose(first, random_waveform(160), atol=1e-4)
    assert len(second) == 800
    assert read_sounds("", 16000) == []


def test_bad_folders_are_refused(tmp_path):
    with pytest.raises(DataError, match="nowhere: must be a folder of sound files, but is not a folder"):
        read_sounds(tmp_path / "nowhere", 16000)
    with pytest.raises(DataError, match=r"the folder must hold sound files \(.wav, .*\), but holds none"):
        read_sounds(tmp_path, 16000)
    soundfile.write(tmp_path / "silent.wav", np.zeros(100, dtype=np.float32), 16000)
    with pytest.raises(DataError, match=r"silent.wav: a noise or impulse response must not be silent or empty"):
        read_sounds(tmp_path, 16000)


# Refusals


@pytest.mark.parametrize(
    "options, message",
    [
        ({"speeds": ()}, r"speeds must be at least one factor, not \(\)"),
        ({"speeds": (1.0, 0.0)}, "speeds must be between 0.1 and 10, not 0.0"),
        ({"noise_probability": 1.5}, "noise_probability must be between 0 and 1, not 1.5"),
        ({"reverb_probability": math.nan}, "reverb_probability must be between 0 and 1, not nan"),
        ({"telephone_probability": 2}, "telephone_probability must be between 0 and 1, not 2"),
        ({"mp3_probability": -1}, "mp3_probability must be between 0 and 1, not -1"),
        ({"background_probability": 1.1}, "background_probability must be between 0 and 1, not 1.1"),
        ({"time_mask_max_fraction": -0.1}, "time_mask_max_fraction must be between 0 and 1, not -0.1"),
        ({"noise_snr_db": (20.0, 5.0)}, "noise_snr_db must be a lower and a higher finite number, not 20.0 and 5.0"),
        ({"gain_db": (0.0, math.inf)}, "gain_db must be a lower and a higher finite number"),
        ({"time_masks": -1}, "time_masks must be at least 0, not -1"),
        ({"frequency_mask_max_bins": -1}, "frequency_mask_max_bins must be at least 0, not -1"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        AugmentOptions(**options)


def test_probabilities_need_sounds():
    rng = np.random.default_rng(0)
    with pytest.raises(ConfigError, match=r"noise_probability is 0\.5, so there must be sounds to draw from"):
        augment_waveform(sine(100), AugmentOptions(noise_probability=0.5), [], [sine(100)], rng)
    with pytest.raises(ConfigError, match=r"reverb_probability is 0\.5, so there must be sounds to draw from"):
        augment_waveform(sine(100), AugmentOptions(reverb_probability=0.5), [sine(100)], [], rng)


def test_bad_arrays_are_refused():
    waveform, empty, rng = sine(100, 50), np.zeros(0, dtype=np.float32), np.random.default_rng(0)
    with pytest.raises(InputError, match=r"waveform must be \(samples,\) floating point, not \(1, 50\) float32"):
        change_speed(waveform[None], 1.1)
    with pytest.raises(InputError, match=r"waveform must be \(samples,\) floating point, not \(50,\) int16"):
        random_gain(waveform.astype(np.int16), (0.0, 1.0), rng)
    with pytest.raises(InputError, match="a speed must be above 0, not 0"):
        change_speed(waveform, 0)
    with pytest.raises(InputError, match="noise must hold at least one sample, but it is empty"):
        add_noise(waveform, empty, 10.0, rng)
    with pytest.raises(InputError, match="impulse_response must hold at least one sample, but it is empty"):
        reverberate(waveform, empty)
    with pytest.raises(InputError, match="an impulse response must not be silent"):
        reverberate(waveform, np.zeros(9, dtype=np.float32))
    with pytest.raises(InputError, match=r"features must be \(batch, frames, bins\) with one length each"):
        spec_augment(torch.zeros(2, 5, 3), torch.tensor([5]), AugmentOptions(), torch.Generator())


def test_a_pause_is_put_before_or_after_and_is_silent_or_faint(rng):
    waveform = sine(500)
    places, levels = set(), []
    for _ in range(300):
        longer = add_pause(waveform, 100, rng)
        added = len(longer) - len(waveform)
        assert 0 <= added <= 100
        before = np.array_equal(longer[added:], waveform)
        assert before or np.array_equal(longer[: len(waveform)], waveform)
        assert longer.dtype == np.float32
        if added > 50:
            places.add(before)
            levels.append(np.abs(longer[:added] if before else longer[len(waveform) :]).max())
    assert places == {True, False}
    assert 0.3 < np.mean(np.array(levels) == 0) < 0.7
    assert max(levels) < 5 * 10 ** (-50 / 20)
    assert add_pause(waveform, 0, rng) is waveform


def test_a_negative_pause_is_refused():
    with pytest.raises(ConfigError, match="pause_seconds must be between 0 and 3600, not -1"):
        AugmentOptions(pause_seconds=-1)
