"""The frontend against Kaldi's features (of two makes), librosa, scipy, hand-worked tables, and itself in batches."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.fft
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.acoustic.frontend import Frontend
from asr.acoustic.options import FrontendOptions
from asr.acoustic.spectrum import mel_filterbank, window_function
from asr.errors import ConfigError, InputError
from tests.oracles import NativeFeatures, TorchaudioFeatures, load_or_skip

KALDI_FLOOR = torch.finfo(torch.float32).eps


def noise(num_samples: int, *, seed: int = 0) -> torch.Tensor:
    """Noise with a level that changes and an offset, which DC removal has to notice: (N,) within [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    envelope = 0.02 + 0.1 * torch.sin(torch.arange(num_samples) / 900).square()
    return (torch.randn(num_samples, generator=generator) * envelope + 0.01).clamp(-1, 1)


def features_of(waveform: torch.Tensor, **options) -> torch.Tensor:
    """(N,) -> (T, M), alone and unpadded."""
    features, lengths = Frontend(FrontendOptions(**options))(waveform[None], torch.tensor([len(waveform)]))
    assert lengths.tolist() == [features.shape[1]]
    return features[0]


def raw(waveform: torch.Tensor, **options) -> torch.Tensor:
    """Without normalisation, with Kaldi's floor."""
    return features_of(waveform, normalization="none", energy_floor=KALDI_FLOOR, **options)


# Kaldi


@pytest.fixture(scope="module", params=[TorchaudioFeatures, NativeFeatures])
def kaldi(request: pytest.FixtureRequest) -> TorchaudioFeatures | NativeFeatures:
    return request.param()


@pytest.mark.parametrize("window", ["povey", "hanning", "hamming", "rectangular"])
@pytest.mark.parametrize("snip_edges", [True, False])
@pytest.mark.parametrize("num_mel_bins, low, high", [(23, 20.0, 0.0), (40, 60.0, -400.0), (80, 20.0, 7600.0)])
def test_log_mel_is_kaldis(kaldi, window, snip_edges, num_mel_bins, low, high):
    waveform = noise(9000)
    ours = raw(
        waveform,
        window=window,
        snip_edges=snip_edges,
        num_mel_bins=num_mel_bins,
        low_frequency=low,
        high_frequency=high,
    )
    theirs = kaldi.fbank(
        waveform * 32768,
        window_type=window,
        snip_edges=snip_edges,
        num_mel_bins=num_mel_bins,
        low_freq=low,
        high_freq=high,
    )
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)  # a narrow filter's one small weight, in their float32
    assert (ours - theirs).abs().median() < 1e-5


@pytest.mark.parametrize(
    "ours, theirs",
    [
        ({"preemphasis": 0.0}, {"preemphasis_coefficient": 0.0}),
        ({"remove_dc_offset": False}, {"remove_dc_offset": False}),
        ({"frame_length_ms": 32.0, "frame_shift_ms": 8.0}, {"frame_length": 32.0, "frame_shift": 8.0}),
        ({"frame_length_ms": 5.0, "frame_shift_ms": 10.0}, {"frame_length": 5.0, "frame_shift": 10.0}),
        ({"sample_rate": 8000}, {"sample_frequency": 8000.0}),
    ],
)
@pytest.mark.parametrize("snip_edges", [True, False])
def test_each_option_is_kaldis(kaldi, ours, theirs, snip_edges):
    waveform = noise(5000)
    expected = kaldi.fbank(waveform * 32768, num_mel_bins=12, snip_edges=snip_edges, **theirs)
    torch.testing.assert_close(
        raw(waveform, num_mel_bins=12, snip_edges=snip_edges, **ours), expected, atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("lifter", [22.0, 0.0])
@pytest.mark.parametrize("num_mel_bins, num_ceps", [(23, 13), (40, 40)])
def test_mfcc_is_kaldis(kaldi, num_mel_bins, num_ceps, lifter):
    waveform = noise(9000)
    ours = raw(waveform, kind="mfcc", num_mel_bins=num_mel_bins, num_ceps=num_ceps, cepstral_lifter=lifter)
    theirs = kaldi.mfcc(
        waveform * 32768,
        num_mel_bins=num_mel_bins,
        num_ceps=num_ceps,
        cepstral_lifter=lifter,
        snip_edges=False,
    )
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)  # their cosines are float32, times up to 12


def test_mfcc_is_the_orthonormal_cosine_transform():
    waveform = noise(4000)
    log_mel = raw(waveform, num_mel_bins=40).double().numpy()
    ours = raw(waveform, kind="mfcc", num_mel_bins=40, cepstral_lifter=0.0)
    expected = scipy.fft.dct(log_mel, type=2, norm="ortho", axis=1)[:, :13]
    np.testing.assert_allclose(ours.numpy(), expected, atol=5e-5)


def test_the_scale_is_that_of_16_bit_samples(kaldi):
    waveform = noise(4000)
    unscaled = kaldi.fbank(waveform, num_mel_bins=23, snip_edges=False)
    torch.testing.assert_close(
        raw(waveform, num_mel_bins=23) - unscaled, torch.full((25, 23), 2 * math.log(2**15)), atol=1e-4, rtol=0
    )


def test_digital_silence_is_the_floor():
    assert features_of(torch.zeros(1600), normalization="none").eq(0).all()  # ln 1
    quiet = features_of(torch.zeros(1600), normalization="none", energy_floor=0.25)
    torch.testing.assert_close(quiet, torch.full((10, 80), math.log(0.25)))
    assert features_of(torch.zeros(1600)).eq(0).all()  # and normalised no noise of rounding
    assert features_of(torch.full((1600,), 0.5)).eq(0).all()


def test_a_sine_lights_its_own_filter():
    librosa = load_or_skip("librosa")
    options = FrontendOptions(num_mel_bins=40, normalization="none")
    centres = librosa.mel_frequencies(42, fmin=20, fmax=8000, htk=True)[1:-1]
    for index in (5, 20, 35):
        sine = 0.5 * torch.sin(2 * math.pi * centres[index] * torch.arange(8000) / 16000)
        features, _ = Frontend(options)(sine[None].float(), torch.tensor([8000]))
        assert (features[0, 2:-2].argmax(dim=1) == index).all()


# The parts


@pytest.mark.parametrize(
    "num_mel_bins, low, high, rate", [(80, 20, 0, 16000), (23, 64, -200, 8000), (40, 0, 7000, 16000)]
)
def test_mel_filters_have_librosas_edges_and_straight_sides_in_mel(num_mel_bins, low, high, rate):
    librosa = load_or_skip("librosa")
    options = FrontendOptions(num_mel_bins=num_mel_bins, low_frequency=low, high_frequency=high, sample_rate=rate)
    ours = mel_filterbank(options).T
    top = high if high > 0 else rate / 2 + high
    in_hertz = librosa.filters.mel(
        sr=rate,
        n_fft=options.fft_length,
        n_mels=num_mel_bins,
        fmin=low,
        fmax=top,
        htk=True,
        norm=None,
        dtype=np.float64,
    )
    assert ours.shape == in_hertz.shape
    np.testing.assert_array_equal(ours > 1e-9, in_hertz > 1e-9)
    edges = librosa.hz_to_mel(librosa.mel_frequencies(num_mel_bins + 2, fmin=low, fmax=top, htk=True), htk=True)
    mel = librosa.hz_to_mel(librosa.fft_frequencies(sr=rate, n_fft=options.fft_length), htk=True)
    for index, row in enumerate(ours):
        np.testing.assert_allclose(row, np.interp(mel, edges[index : index + 3], [0, 1, 0]), atol=1e-9)


def test_windows():
    np.testing.assert_allclose(window_function("hanning", 25), scipy.signal.windows.hann(25), 0, 1e-7)
    np.testing.assert_allclose(window_function("hamming", 25), scipy.signal.windows.hamming(25), 0, 1e-7)
    np.testing.assert_array_equal(window_function("rectangular", 25), np.ones(25))
    np.testing.assert_allclose(window_function("povey", 25), scipy.signal.windows.hann(25) ** 0.85, 0, 1e-7)


def test_first_order_deltas_are_librosas():
    librosa = load_or_skip("librosa")
    statics = raw(noise(5000), num_mel_bins=23)
    ours = raw(noise(5000), num_mel_bins=23, delta_order=1)
    expected = librosa.feature.delta(statics.T.double().numpy(), width=5, order=1, mode="nearest").T
    torch.testing.assert_close(ours[:, :23], statics)
    np.testing.assert_allclose(ours[:, 23:].numpy(), expected, atol=1e-5)


def test_second_order_deltas_by_hand():
    """Kaldi's nine taps, 1/100 [4 4 1 -4 -10 -4 1 4 4], over static features whose ends are repeated."""
    taps = np.array([4, 4, 1, -4, -10, -4, 1, 4, 4]) / 100
    for num_samples in (160, 480, 5000):
        statics = raw(noise(num_samples), num_mel_bins=23).double().numpy()
        ours = raw(noise(num_samples), num_mel_bins=23, delta_order=2)
        repeated = np.pad(statics, ((4, 4), (0, 0)), mode="edge")
        expected = [(taps[:, None] * repeated[frame : frame + 9]).sum(axis=0) for frame in range(len(statics))]
        np.testing.assert_allclose(ours[:, 46:].numpy(), np.array(expected), atol=1e-5)


# Lengths


@pytest.mark.parametrize(
    "snip_edges, expected",
    [
        (True, {0: 0, 399: 0, 400: 1, 559: 1, 560: 2, 16000: 98}),
        (False, {0: 0, 79: 0, 80: 1, 239: 1, 240: 2, 400: 3, 16000: 100}),
    ],
)
def test_number_of_frames(snip_edges, expected):
    options = FrontendOptions(snip_edges=snip_edges)
    assert {n: options.num_frames(n) for n in expected} == expected
    counted = options.num_frames(torch.tensor([list(expected)]))
    assert counted.dtype == torch.int64
    assert counted.tolist() == [list(expected.values())]


@pytest.mark.parametrize("snip_edges", [True, False])
def test_number_of_frames_is_kaldis(kaldi, snip_edges):
    options = FrontendOptions(snip_edges=snip_edges, num_mel_bins=23)
    for num_samples in range(400, 1000, 7):
        theirs = kaldi.fbank(torch.zeros(num_samples), snip_edges=snip_edges)
        assert options.num_frames(num_samples) == len(theirs)


@pytest.mark.parametrize("num_samples", [80, 81, 100, 160, 399])
def test_clips_shorter_than_a_window_are_reflected_to_and_fro(num_samples):
    """As a longer recording of the same to and fro, of which the frame in question is an inner one."""
    waveform = noise(num_samples)
    there_and_back = torch.cat((waveform, waveform.flip(0)))
    long = there_and_back.repeat(12)  # starts at a multiple of twice the length, long enough for 400 samples each side
    period = 2 * num_samples
    start = -(-400 // period) * period
    options = {"kind": "log-mel", "num_mel_bins": 23}
    for frame, features in enumerate(raw(waveform, **options)):
        first = start + frame * 160 + 80 - 200
        inner = raw(long[first : first + 400], snip_edges=True, **options)[0]
        torch.testing.assert_close(features, inner, atol=1e-4, rtol=0)


def test_frames_that_skip_samples_ignore_the_padding():
    """A window shorter than the shift starts inside the waveform."""
    options = FrontendOptions(frame_length_ms=5.0, frame_shift_ms=10.0, num_mel_bins=12, normalization="none")
    padded = torch.full((1, 2000), math.nan)
    for num_samples in range(0, 600):
        padded[0, :num_samples] = noise(600)[:num_samples]
        features, lengths = Frontend(options)(padded, torch.tensor([num_samples]))
        assert lengths[0] == (num_samples + 80) // 160
        assert features.isfinite().all()


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 1000), min_size=1, max_size=4),
    extra=st.integers(0, 500),
    snip_edges=st.booleans(),
    kind=st.sampled_from(["log-mel", "mfcc"]),
    delta_order=st.integers(0, 2),
    normalization=st.sampled_from(["none", "utterance"]),
    garbage=st.sampled_from([0.0, 1e4, math.nan, -math.inf]),
)
def test_an_utterance_alone_is_the_same_in_a_batch(
    lengths, extra, snip_edges, kind, delta_order, normalization, garbage
):
    options = FrontendOptions(
        kind=kind, num_mel_bins=23, snip_edges=snip_edges, delta_order=delta_order, normalization=normalization
    )
    frontend = Frontend(options)
    batch = torch.full((len(lengths), max(lengths) + extra), garbage)
    for row, length in enumerate(lengths):
        batch[row, :length] = noise(length, seed=row)
    before = batch.clone()
    features, feature_lengths = frontend(batch, torch.tensor(lengths))
    assert torch.equal(batch.nan_to_num(), before.nan_to_num())
    assert features.shape == (len(lengths), options.num_frames(batch.shape[1]), options.num_features)
    assert feature_lengths.dtype == torch.int64
    for row, length in enumerate(lengths):
        alone, alone_lengths = frontend(batch[row : row + 1, :length], torch.tensor([length]))
        frames = options.num_frames(length)
        assert feature_lengths[row] == alone_lengths[0] == frames
        assert features[row].isfinite().all()
        # Rounding alone differs; a few frames may hardly vary, and normalisation then magnifies it.
        largest = float(alone.abs().amax()) if frames else 0.0
        tolerance = 1e-6 * largest if normalization == "none" else 2e-3
        torch.testing.assert_close(features[row, :frames], alone[0], atol=tolerance, rtol=0)
        assert features[row, frames:].eq(0).all()


def test_many_utterances_are_the_same_as_one_at_a_time():
    """More frames than go through the FFT together, in blocks that end anywhere."""
    frontend = Frontend(FrontendOptions())
    batch = torch.stack([noise(50_000, seed=row) for row in range(7)])
    lengths = torch.tensor([50_000, 49_999, 16_000, 401, 80, 79, 0])
    features, feature_lengths = frontend(batch, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone, _ = frontend(batch[row : row + 1, :length], torch.tensor([length]))
        torch.testing.assert_close(features[row, : feature_lengths[row]], alone[0], atol=1e-5, rtol=1e-5)


def test_an_empty_batch():
    features, lengths = Frontend(FrontendOptions())(torch.zeros(0, 1600), torch.zeros(0, dtype=torch.int64))
    assert features.shape == (0, 10, 80)
    assert lengths.shape == (0,)


# Normalisation


def test_utterance_normalisation():
    waveform = noise(16000)
    plain = features_of(waveform, normalization="none").double().numpy()
    ours = features_of(waveform).numpy()
    np.testing.assert_allclose(ours, (plain - plain.mean(axis=0)) / plain.std(axis=0), atol=1e-4)
    assert features_of(waveform[:100]).eq(0).all()  # one frame is its own mean
    louder = features_of(waveform * 3)
    np.testing.assert_allclose(louder.numpy(), ours, atol=1e-3)


def test_rounding_errors_are_not_magnified():
    """Frames that are all alike: what is left after the mean is rounding, and stays small."""
    alike = features_of(noise(160).repeat(63), snip_edges=True)
    assert len(alike) == 61
    assert alike.abs().max() < 1e-3


def test_global_normalisation_is_fitted_saved_and_loaded():
    options = FrontendOptions(normalization="global", num_mel_bins=23)
    frontend = Frontend(options)
    batches = [(torch.stack([noise(4000, seed=1), noise(4000, seed=2)]), torch.tensor([4000, 1600]))]
    batches.append((noise(3000, seed=3)[None], torch.tensor([3000])))
    frontend.fit_normalization(batches)
    waveforms = (noise(4000, seed=1), noise(4000, seed=2)[:1600], noise(3000, seed=3))
    plain = [features_of(waveform, normalization="none", num_mel_bins=23) for waveform in waveforms]
    frames = torch.cat(plain).double().numpy()
    np.testing.assert_allclose(frontend.mean.numpy(), frames.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(frontend.std.numpy(), frames.std(axis=0), rtol=1e-4)

    restored = Frontend(options)
    restored.load_state_dict(frontend.state_dict())
    features, _ = restored(*batches[1])
    torch.testing.assert_close(features[0], (plain[2] - frontend.mean) / frontend.std)


def test_only_global_statistics_are_weights():
    assert not Frontend(FrontendOptions(kind="mfcc", delta_order=2)).state_dict()
    assert set(Frontend(FrontendOptions(normalization="global")).state_dict()) == {"mean", "std"}


def test_a_constant_feature_is_not_divided_by_nothing():
    frontend = Frontend(FrontendOptions(normalization="global"))
    frontend.set_statistics(torch.zeros(80), torch.zeros(80))
    assert frontend(noise(1600)[None], torch.tensor([1600]))[0].isfinite().all()


def test_global_statistics_are_required_and_checked():
    frontend = Frontend(FrontendOptions(normalization="global"))
    batch = (noise(1600)[None], torch.tensor([1600]))
    with pytest.raises(ConfigError, match="global normalisation needs statistics: call fit_normalization"):
        frontend(*batch)
    with pytest.raises(InputError, match="mean must be 80 finite numbers, one for each feature"):
        frontend.set_statistics(torch.zeros(3), torch.ones(80))
    with pytest.raises(InputError, match="std must be 80 finite numbers"):
        frontend.set_statistics(torch.zeros(80), torch.full((80,), math.inf))
    with pytest.raises(InputError, match="at least one frame to estimate"):
        frontend.fit_normalization([(torch.zeros(1, 50), torch.tensor([50]))])
    with pytest.raises(ConfigError, match="statistics need normalization 'global', but it is 'utterance'"):
        Frontend(FrontendOptions()).set_statistics(torch.zeros(80), torch.ones(80))


# Modes


def test_autocast_changes_nothing():
    frontend = Frontend(FrontendOptions(kind="mfcc", delta_order=1))
    batch = (noise(8000)[None], torch.tensor([8000]))
    expected, _ = frontend(*batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features, _ = frontend(*batch)
    assert features.dtype == torch.float32
    assert torch.equal(features, expected)


def test_dither_is_for_training_only(kaldi):
    batch = (torch.zeros(1, 16000), torch.tensor([16000]))
    frontend = Frontend(FrontendOptions(dither=1.0, normalization="none"))
    assert frontend.eval()(*batch)[0].eq(0).all()
    torch.manual_seed(1)
    dithered, _ = frontend.train()(*batch)
    torch.manual_seed(1)
    assert torch.equal(frontend(*batch)[0], dithered)
    expected = kaldi.fbank(torch.randn(16000), num_mel_bins=80)  # noise of one step
    torch.testing.assert_close(dithered[0, :, 20:].mean(), expected[:, 20:].mean(), atol=0.05, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("options", [{}, {"snip_edges": True}, {"kind": "mfcc", "delta_order": 2}])
def test_gpu_is_cpu(options):
    frontend = Frontend(FrontendOptions(**options))
    waveforms = torch.stack([noise(16000, seed=seed) for seed in range(3)])
    lengths = torch.tensor([16000, 9999, 120])
    expected, expected_lengths = frontend(waveforms, lengths)
    frontend.cuda()
    for where in (lengths, lengths.cuda()):
        features, feature_lengths = frontend(waveforms.cuda(), where)
        assert features.is_cuda
        assert feature_lengths.device == where.device
        torch.testing.assert_close(features.cpu(), expected, atol=2e-4, rtol=1e-4)
        assert torch.equal(feature_lengths.cpu(), expected_lengths)


# Refusals


@pytest.mark.parametrize(
    "options, message",
    [
        ({"kind": "plp"}, "kind must be one of log-mel, mfcc, not 'plp'"),
        ({"window": "hann"}, "window must be one of povey, hanning, hamming, rectangular, not 'hann'"),
        ({"normalization": "speaker"}, "normalization must be one of utterance, global, none"),
        ({"sample_rate": 0}, "sample_rate must be between 1 and 1000000, not 0"),
        ({"sample_rate": 22050}, "frame_shift_ms must be a whole number of samples.*at 22050 Hz is 220.5"),
        ({"frame_shift_ms": 0.0}, "frame_shift_ms must be a whole number of samples, at least one"),
        ({"frame_shift_ms": math.nan}, "frame_shift_ms must be between 0 and 1000, not nan"),
        ({"frame_length_ms": 0.1}, "frame_length_ms must be 2 samples or more, but 0.1 ms is fewer"),
        ({"num_mel_bins": 0}, "num_mel_bins must be between 1 and 10000, not 0"),
        ({"num_mel_bins": 200}, "each mel filter must cover a frequency of the FFT.*lower num_mel_bins"),
        ({"kind": "mfcc", "num_ceps": 81}, "num_ceps must be between 1 and 80, not 81"),
        ({"cepstral_lifter": -1}, "cepstral_lifter must be between 0 and 10000, not -1"),
        ({"low_frequency": -1.0}, "mel filters must lie within 0 to 8000 Hz .Nyquist., not -1 to 8000 Hz"),
        ({"high_frequency": 9000}, "mel filters must lie within 0 to 8000 Hz .Nyquist., not 20 to 9000 Hz"),
        ({"high_frequency": -7990}, "not 20 to 10 Hz"),
        ({"preemphasis": 1.5}, "preemphasis must be between 0 and 1, not 1.5"),
        ({"dither": -1}, "dither must be between 0 and 32768, not -1"),
        ({"dither": math.inf}, "dither must be between 0 and 32768, not inf"),
        ({"cepstral_lifter": math.inf}, "cepstral_lifter must be between 0 and 10000, not inf"),
        ({"energy_floor": 1e-300}, r"energy_floor must be between 1e-30 and 1e\+30, not 1e-300"),
        ({"energy_floor": math.inf}, r"energy_floor must be between 1e-30 and 1e\+30, not inf"),
        ({"num_ceps": 10**12}, "num_ceps must be between 1 and 10000, not 1000000000000"),
        (
            {"num_mel_bins": 10_000, "frame_length_ms": 1000.0},
            "the mel filters must be at most 8388608 numbers, but are 163840000 with frames of 16384 points every 160 "
            "samples and 10000 mel filters; lower num_mel_bins, shorten the frames or shift them further",
        ),
        (
            {"kind": "mfcc", "num_mel_bins": 4000, "num_ceps": 4000, "frame_length_ms": 60.0},
            "the cosines must be at most 8388608 numbers, but are 16000000",
        ),
        (
            {"frame_length_ms": 1000.0, "frame_shift_ms": 1000 / 16000},
            "the frames of a second must be at most 16777216 numbers, but are 262144000",
        ),
        (
            {"sample_rate": 1_000_000, "frame_length_ms": 100.0, "frame_shift_ms": 100.0, "num_mel_bins": 9},
            "a frame must be at most 65536 numbers, but are 131072",
        ),
        ({"energy_floor": 0.0}, r"energy_floor must be between 1e-30 and 1e\+30, not 0.0"),
        ({"delta_order": 3}, "delta_order must be between 0 and 2, not 3"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        FrontendOptions(**options)


@pytest.mark.parametrize(
    "waveforms, lengths, message",
    [
        (torch.zeros(100), torch.tensor([100]), r"waveforms must be \(batch, samples\) floating point"),
        (torch.zeros(1, 100, dtype=torch.int16), torch.tensor([100]), r"in \[-1, 1\], not \(1, 100\) torch.int16"),
        (torch.zeros(2, 100), torch.tensor([100]), r"lengths must be \(2,\) int64, not \(1,\) torch.int64"),
        (torch.zeros(1, 100), torch.tensor([100.0]), r"lengths must be \(1,\) int64, not \(1,\) torch.float32"),
        (torch.zeros(1, 100), torch.tensor([101]), r"lengths must be between 0 and 100 samples, not \[101\]"),
        (torch.zeros(1, 100), torch.tensor([-1]), r"lengths must be between 0 and 100 samples, not \[-1\]"),
    ],
)
def test_bad_batches_are_refused(waveforms, lengths, message):
    with pytest.raises(InputError, match=message):
        Frontend(FrontendOptions())(waveforms, lengths)
