"""`CTCModel`: what a recogniser needs of an acoustic model, whoever made it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from asr.text.alphabet import Alphabet
from asr.text.normalization import TextOptions
from asr.text.subwords import Subwords

if TYPE_CHECKING:  # a model in another runtime needs no torch
    from asr.compute.runtime import Precision


class CTCModel(Protocol):
    """Waveforms to log-probabilities of labels.

    Attributes:
        name: for transcripts; may be empty.
        alphabet: the labels after Φ, which is label 0.
        text: how the texts of its training were written.
        sample_rate: samples per second of its waveforms.
        samples_per_frame: from one frame of log_probs to the next; times are exact multiples of it until they are
            printed.
    """

    @property
    def name(self) -> str: ...
    @property
    def alphabet(self) -> Alphabet | Subwords: ...
    @property
    def text(self) -> TextOptions: ...
    @property
    def sample_rate(self) -> int: ...
    @property
    def samples_per_frame(self) -> int: ...

    @property
    def frame_seconds(self) -> float:
        """Seconds from one frame of log_probs to the next."""
        ...

    def output_length(self, num_samples: int) -> int:
        """Frames of log_probs for a number of samples, to within one."""
        ...

    def prepare(self, device: str, precision: Precision) -> tuple[Any, Any]:
        """Compute on this device from now on.

        Args:
            device: "cpu", "cuda", "cuda:1", or "auto".
            precision: format of the matrix products; "auto" lets the model choose.
        Returns:
            The device and the torch format of the matrix products, for recurrent language models; the format is None
            for a model in another runtime.
        Raises:
            InputError: there is no such device.
            ConfigError: the model cannot compute in this precision.
        """
        ...

    def log_probs(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Log-probabilities of some waveforms, the same as of each alone; in batches where the model allows it.

        Args:
            waveforms: (N,) float32 in [-1, 1] at `sample_rate` each, N >= 1.
        Returns:
            (T, V) float32 natural log-probabilities for each, label 0 is Φ.
        """
        ...
