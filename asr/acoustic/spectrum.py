"""The constants of the features, in NumPy: windows, mel filters, cosines; all that is linear in a frame as a kernel.

Dropping the mean, pre-emphasis, the window and the Fourier transform are linear in the samples of a frame. So their
matrix is the kernel of a convolution with a stride of a hop; ONNX has no exact FFT of any length.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from asr.acoustic.mel import kaldi_filters, slaney_filters
from asr.acoustic.shapes import FFT_LENGTH, SAMPLE_RATE

if TYPE_CHECKING:
    from asr.acoustic.options import FrontendOptions, Window

DELTA_WINDOW = 2  # frames on each side of a first-order delta; Kaldi's default


def window_function(name: Window, length: int) -> np.ndarray:
    """The window, (length,) float64, symmetric: its first and last values are equal.

    Args:
        name: "povey" (Hann to the power 0.85), "hanning", "hamming" or "rectangular".
        length: samples, 2 or more.
    """
    if name == "rectangular":
        return np.ones(length)
    if name == "hamming":
        return np.hamming(length)
    return np.hanning(length) ** (0.85 if name == "povey" else 1)


def mel_filterbank(options: FrontendOptions) -> np.ndarray:
    """Kaldi's mel filters, (fft_length / 2 + 1, num_mel_bins) float64."""
    low, high = options.frequency_range
    frequencies = np.arange(options.fft_length // 2 + 1) * options.sample_rate / options.fft_length
    return kaldi_filters(options.num_mel_bins, frequencies, low=low, high=high)


def cepstral_matrix(options: FrontendOptions) -> np.ndarray:
    """(num_mel_bins, num_ceps) float64: the orthonormal DCT-II, each column times its lifter."""
    bins, order = options.num_mel_bins, np.arange(options.num_ceps)
    centre = np.arange(bins)[:, None] + 0.5
    matrix = np.cos(math.pi / bins * centre * order) * math.sqrt(2 / bins)
    matrix[:, 0] = math.sqrt(1 / bins)
    if options.cepstral_lifter:
        matrix *= 1 + 0.5 * options.cepstral_lifter * np.sin(math.pi * order / options.cepstral_lifter)
    return matrix


def delta_filters(order: int) -> np.ndarray:
    """(taps, order) float64, a centred column for each order; the first is d[t] = sum_k k x[t + k] / sum_k k^2."""
    offsets = np.arange(-DELTA_WINDOW, DELTA_WINDOW + 1)
    first = offsets / np.square(offsets).sum()
    reach = DELTA_WINDOW * order
    filters = np.zeros((2 * reach + 1, order))
    column = np.ones(1)
    for index in range(order):
        column = np.convolve(column, first)  # the filter applied to itself
        margin = reach - len(column) // 2
        filters[margin : len(filters) - margin, index] = column
    return filters


def frame_spectra(options: FrontendOptions) -> np.ndarray:
    """The spectra (W, F) complex of W frames of W samples, which are 0 but for a sample of 1: a matrix for a frame."""
    frames = np.eye(options.window_length)
    if options.remove_dc_offset:
        frames -= frames.mean(axis=1, keepdims=True)
    if options.preemphasis:
        frames = frames - options.preemphasis * np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    return np.fft.rfft(frames * window_function(options.window, options.window_length), options.fft_length)


def whisper_window() -> np.ndarray:
    """Whisper's window, (400,) float64: Hann's, periodic."""
    return np.hanning(FFT_LENGTH + 1)[:-1]


def whisper_filters(num_bins: int) -> np.ndarray:
    """Slaney's mel filters up to 8 kHz, (F, M) float64."""
    frequencies = np.arange(FFT_LENGTH // 2 + 1) * SAMPLE_RATE / FFT_LENGTH
    return slaney_filters(num_bins, frequencies, high=SAMPLE_RATE / 2)


def spectrum_kernel(spectra: np.ndarray) -> np.ndarray:
    """The kernel (2 F, 1, W) float32 of a convolution: real parts, then imaginary ones, of spectra (W, F) complex."""
    return np.concatenate([spectra.real, spectra.imag], axis=1).T[:, None].astype(np.float32)
