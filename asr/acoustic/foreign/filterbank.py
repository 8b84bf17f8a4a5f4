"""Log-mel features of other toolkits, in NumPy: Kaldi's (icefall, WeNet) and NeMo's.

A foreign model needs the features that it was trained on, in every detail. Both functions give (T, M) float32 for one
waveform.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from asr.acoustic.mel import kaldi_filters, slaney_filters
from asr.acoustic.spectrum import window_function

SAMPLE_RATE = 16_000
WINDOW, HOP, FFT = 400, 160, 512  # samples: 25 ms, 10 ms
PREEMPHASIS = 0.97
_EPSILON = float(np.finfo(np.float32).eps)
_NEMO_GUARD = 2.0**-24  # added to energies before the logarithm
_NEMO_EPSILON = 1e-5  # added to deviations


def kaldi_features(
    waveform: np.ndarray,
    *,
    num_mel_bins: int = 80,
    high_frequency: float = -400.0,
    scale: float = 1.0,
    snip_edges: bool = False,
) -> np.ndarray:
    """Log-mel energies by Kaldi's definition, without dither.

    Args:
        waveform: (N,) float32 in [-1, 1] at 16 kHz; N >= 1.
        num_mel_bins: M.
        high_frequency: upper edge of the last filter in Hz; 0 or below: counted from 8 kHz. The lowest edge is 20 Hz.
        scale: multiplies the samples; 1 in Lhotse and icefall, 32768 in WeNet.
        snip_edges: use only frames inside the waveform; otherwise reflect its ends.
    Returns:
        (T, M) float32; T is 0 for a waveform shorter than half a hop, or than a window if `snip_edges`.
    Source: Kaldi, src/feat (feature-window.cc, mel-computations.cc); Lhotse, features/kaldi/layers.py.
    """
    samples = waveform * np.float32(scale)
    if snip_edges:
        num_frames = max(0, 1 + (len(samples) - WINDOW) // HOP)
    else:
        num_frames = (len(samples) + HOP // 2) // HOP
        left = (WINDOW - HOP) // 2
        right = max(0, (num_frames - 1) * HOP + WINDOW - left - len(samples))
        samples = np.pad(samples, (left, right), mode="symmetric")
    frames = _frames(samples, num_frames, WINDOW)
    frames = frames - frames.mean(axis=1, keepdims=True)
    frames[:, 1:] -= np.float32(PREEMPHASIS) * frames[:, :-1]  # the product is a new array, of unfiltered samples
    frames[:, 0] *= np.float32(1 - PREEMPHASIS)
    high = high_frequency if high_frequency > 0 else SAMPLE_RATE / 2 + high_frequency
    filters = _kaldi_filters(num_mel_bins, high)
    energies = _power(frames * window_function("povey", WINDOW).astype(np.float32)) @ filters
    return np.log(np.maximum(energies, _EPSILON)).astype(np.float32)


def nemo_features(waveform: np.ndarray, *, num_mel_bins: int = 80, normalized: bool = True) -> np.ndarray:
    """Log-mel energies by NeMo's definition, without dither.

    Args:
        waveform: (N,) float32 in [-1, 1] at 16 kHz.
        num_mel_bins: M.
        normalized: give each feature mean 0 and deviation 1 over the utterance (`per_feature`).
    Returns:
        (T, M) float32, T = N // 160.
    Source: NeMo, collections/asr/parts/preprocessing/features.py, FilterbankFeatures of release 2.
    """
    samples = np.append(waveform[:1], waveform[1:] - np.float32(PREEMPHASIS) * waveform[:-1])
    num_frames = len(waveform) // HOP
    frames = _frames(np.pad(samples, FFT // 2), num_frames, FFT)
    window = np.pad(window_function("hanning", WINDOW).astype(np.float32), (FFT - WINDOW) // 2)
    filters = _slaney_filters(num_mel_bins)
    features = np.log(_power(frames * window) @ filters + np.float32(_NEMO_GUARD))
    if normalized and num_frames:
        features -= features.mean(axis=0)
        deviation = np.sqrt(np.square(features).sum(axis=0) / max(1, num_frames - 1))
        features /= deviation + _NEMO_EPSILON
    return features.astype(np.float32)


def _frames(samples: np.ndarray, num_frames: int, length: int) -> np.ndarray:
    """(T, length): a frame every hop."""
    if not num_frames:
        return np.zeros((0, length), dtype=np.float32)
    return np.lib.stride_tricks.sliding_window_view(samples, length)[::HOP][:num_frames]


def _power(frames: np.ndarray) -> np.ndarray:
    """(T, FFT / 2 + 1) power spectrum."""
    spectrum = np.fft.rfft(frames, FFT)
    return np.square(spectrum.real) + np.square(spectrum.imag)


@lru_cache
def _kaldi_filters(num_bins: int, high: float) -> np.ndarray:
    return kaldi_filters(num_bins, _frequencies(), low=20.0, high=high).astype(np.float32)


@lru_cache
def _slaney_filters(num_bins: int) -> np.ndarray:
    return slaney_filters(num_bins, _frequencies(), high=SAMPLE_RATE / 2).astype(np.float32)


def _frequencies() -> np.ndarray:
    """(FFT / 2 + 1,) Hz."""
    return np.arange(FFT // 2 + 1) * SAMPLE_RATE / FFT
