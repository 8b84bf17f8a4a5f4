"""`OnnxModel`: one of our models in onnxruntime, without torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np

from asr.acoustic.config import Configured, ModelConfig, read_config
from asr.acoustic.graph import acoustic_graph
from asr.compute.onnx_session import open_graph
from asr.compute.runtime import Precision
from asr.files.model_folder import read_weights
from asr.text.alphabet import Alphabet


class OnnxModel(Configured):
    """Waveforms to log-probabilities of the labels, in float32 on the processor; a `CTCModel`.

    Args:
        config: its parts.
        compute: computes the graph of the model; see `asr.compute.onnx_session.open_graph`.
    """

    def __init__(self, config: ModelConfig, compute: Callable[[dict[str, np.ndarray]], list[np.ndarray]]):
        self.config, self._compute = config, compute
        self.alphabet = Alphabet(config.characters)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> OnnxModel:
        """The model in `folder`.

        Raises:
            DataError: as for `AcousticModel.load`.
        """
        config = read_config(folder)
        graph = acoustic_graph(config)
        return cls(config, open_graph(graph, read_weights(folder, shapes=graph.shapes)))

    def prepare(self, device: str, precision: Precision) -> tuple[str, None]:
        """See `CTCModel.prepare`; `asr.compute.runtime.choose_runtime` has checked both."""
        return "cpu", None

    def log_probs(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Log-probabilities (T, V) of waveforms (N,), in one batch; see `CTCModel`."""
        lengths = np.array([len(waveform) for waveform in waveforms], dtype=np.int64)
        padded = np.zeros((len(waveforms), lengths.max()), dtype=np.float32)
        for row, waveform in zip(padded, waveforms, strict=True):
            row[: len(waveform)] = waveform
        log_probs, frames = self._compute({"samples": padded, "lengths": lengths})
        return [emission[:count].copy() for emission, count in zip(log_probs, frames.tolist(), strict=True)]
