"""Libraries of other projects that tests compare with, where they load."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

# What torchaudio calls an option, and Kaldi.
FRAME_OPTIONS = {
    "window_type": "window_type",
    "snip_edges": "snip_edges",
    "preemphasis_coefficient": "preemph_coeff",
    "remove_dc_offset": "remove_dc_offset",
    "frame_length": "frame_length_ms",
    "frame_shift": "frame_shift_ms",
    "sample_frequency": "samp_freq",
}
MEL_OPTIONS = {"num_mel_bins": "num_bins", "low_freq": "low_freq", "high_freq": "high_freq"}


def load_or_skip(name: str) -> Any:
    """The module of that name, or, where it does not load, the end of the test: skipped, with the reason.

    A library that was built beside other releases is there, and yet fails in ways of its own when it is loaded:
    torchaudio with an OSError for a missing symbol, others with an AttributeError or a RuntimeError.
    """
    module, reason = _load(name)
    if module is None:
        pytest.skip(reason)
    return module


@cache
def _load(name: str) -> tuple[Any, str]:
    try:
        return importlib.import_module(name), ""
    except Exception as error:
        first_line, *_ = str(error).split("\n")
        return None, f"{name}, an oracle, does not load: {type(error).__name__}: {first_line}"


class TorchaudioFeatures:
    """Kaldi's features by `torchaudio.compliance.kaldi`, a translation of Kaldi into PyTorch.

    Waveforms are (N,) in steps of 16 bits, results (T, M) float32.
    """

    def __init__(self) -> None:
        self._kaldi = load_or_skip("torchaudio.compliance.kaldi")

    def fbank(self, waveform: Tensor, **options: Any) -> Tensor:
        return self._kaldi.fbank(waveform[None], **options)

    def mfcc(self, waveform: Tensor, **options: Any) -> Tensor:
        return self._kaldi.mfcc(waveform[None], **options)


class NativeFeatures:
    """The same by kaldi-native-fbank, Kaldi's own C++ without the rest of Kaldi; options have torchaudio's names."""

    def __init__(self) -> None:
        self._library = load_or_skip("kaldi_native_fbank")

    def fbank(self, waveform: Tensor, **options: Any) -> Tensor:
        return self._compute(self._library.OnlineFbank, self._library.FbankOptions(), waveform, options)

    def mfcc(self, waveform: Tensor, **options: Any) -> Tensor:
        settings = self._library.MfccOptions()
        settings.use_energy = False
        return self._compute(self._library.OnlineMfcc, settings, waveform, options)

    def _compute(self, computer: Any, settings: Any, waveform: Tensor, options: dict[str, Any]) -> Tensor:
        settings.frame_opts.dither = 0.0
        for name, value in options.items():
            if name in FRAME_OPTIONS:
                setattr(settings.frame_opts, FRAME_OPTIONS[name], value)
            elif name in MEL_OPTIONS:
                setattr(settings.mel_opts, MEL_OPTIONS[name], value)
            else:
                setattr(settings, name, value)
        features = computer(settings)
        features.accept_waveform(settings.frame_opts.samp_freq, waveform.tolist())
        features.input_finished()
        return torch.stack([torch.tensor(features.get_frame(frame)) for frame in range(features.num_frames_ready)])
