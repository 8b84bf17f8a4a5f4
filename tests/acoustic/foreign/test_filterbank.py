"""The features of Kaldi and of NeMo, beside the libraries that define them."""

from __future__ import annotations

import numpy as np
import pytest

from asr.acoustic.foreign.filterbank import SAMPLE_RATE, kaldi_features, nemo_features
from asr.acoustic.options import SAMPLE_SCALE

LENGTHS = (16_000, 33_333, 401, 201)


@pytest.fixture
def waveforms(rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.normal(0, 0.1, length).astype(np.float32) for length in LENGTHS]


def test_kaldi_features_are_those_of_kaldi_native_fbank(waveforms: list[np.ndarray]) -> None:
    """With the settings of icefall and of sherpa-onnx."""
    fbank = pytest.importorskip("kaldi_native_fbank")
    options = fbank.FbankOptions()
    options.frame_opts.dither, options.frame_opts.snip_edges = 0, False
    options.mel_opts.num_bins, options.mel_opts.low_freq, options.mel_opts.high_freq = 80, 20, -400
    for waveform in waveforms:
        computer = fbank.OnlineFbank(options)
        computer.accept_waveform(SAMPLE_RATE, waveform.tolist())
        computer.input_finished()
        expected = np.array([computer.get_frame(i) for i in range(computer.num_frames_ready)])
        np.testing.assert_allclose(kaldi_features(waveform), expected, atol=1e-3)  # logarithms, of energies in float32


def test_kaldi_features_are_those_of_wenet(waveforms: list[np.ndarray]) -> None:
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi")
    import torch

    options = {"num_mel_bins": 80, "dither": 0.0, "energy_floor": 0.0, "sample_frequency": SAMPLE_RATE}
    for waveform in waveforms[:3]:
        expected = kaldi.fbank(torch.from_numpy(waveform)[None] * SAMPLE_SCALE, **options).numpy()
        features = kaldi_features(waveform, scale=SAMPLE_SCALE, snip_edges=True, high_frequency=0.0)
        np.testing.assert_allclose(features, expected, atol=1e-3)
    assert kaldi_features(waveforms[3], snip_edges=True).shape == (0, 80)


@pytest.mark.parametrize("num_mel_bins", [80, 128])
def test_nemo_features_are_those_of_librosa(waveforms: list[np.ndarray], num_mel_bins: int) -> None:
    """The filters, the centred transform and the logarithm; pre-emphasis and normalisation written out."""
    librosa = pytest.importorskip("librosa")
    for waveform in waveforms:
        emphasized = np.append(waveform[:1], waveform[1:] - 0.97 * waveform[:-1])
        energies = librosa.feature.melspectrogram(
            y=emphasized,
            sr=SAMPLE_RATE,
            n_fft=512,
            hop_length=160,
            win_length=400,
            window=np.hanning(400),
            center=True,
            pad_mode="constant",
            n_mels=num_mel_bins,
        )
        expected = np.log(energies.T + 2**-24)[: len(waveform) // 160]
        plain = nemo_features(waveform, num_mel_bins=num_mel_bins, normalized=False)
        np.testing.assert_allclose(plain, expected, atol=1e-3)
        if len(expected) > 1:
            expected = (expected - expected.mean(axis=0)) / (expected.std(axis=0, ddof=1) + 1e-5)
            np.testing.assert_allclose(nemo_features(waveform, num_mel_bins=num_mel_bins), expected, atol=1e-3)


def test_nemo_features_are_those_of_the_parakeet_feature_extractor(waveforms: list[np.ndarray]) -> None:
    transformers = pytest.importorskip("transformers")
    if not hasattr(transformers, "ParakeetFeatureExtractor"):
        pytest.skip("this release of transformers lacks ParakeetFeatureExtractor, an oracle")
    extractor = transformers.ParakeetFeatureExtractor()
    for waveform in waveforms[:3]:
        expected = extractor([waveform], sampling_rate=SAMPLE_RATE, return_tensors="pt")
        count = int(expected["attention_mask"].sum())
        np.testing.assert_allclose(nemo_features(waveform), expected["input_features"][0][:count], atol=1e-3)


def test_the_waveform_is_not_changed(waveforms: list[np.ndarray]) -> None:
    before = waveforms[0].copy()
    kaldi_features(waveforms[0])
    nemo_features(waveforms[0])
    np.testing.assert_array_equal(waveforms[0], before)


def test_a_waveform_without_a_frame_has_no_features() -> None:
    assert kaldi_features(np.zeros(79, np.float32)).shape == (0, 80)
    assert nemo_features(np.zeros(159, np.float32)).shape == (0, 80)
