"""The acoustic model: frontend, encoder and alphabet together, and its folder on disk.

A model folder contains `config.json` (format version, options of every part, alphabet, provenance) and
`weights.safetensors`. It is written under another name and then renamed, and its files are never unpickled.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from asr.acoustic.config import Configured, ModelConfig, read_config
from asr.acoustic.encoder import Encoder
from asr.acoustic.folder import KIND, own_files
from asr.acoustic.frontend import Frontend
from asr.acoustic.pretrained import PretrainedFrontend
from asr.compute.cells import make_cell
from asr.compute.device import autocast, choose_precision, find_device
from asr.compute.runtime import Precision
from asr.files.model_folder import Stored, read_weights, stored_weights, write_model_folder
from asr.text.alphabet import Alphabet

STATISTICS = ("frontend.mean", "frontend.std")


class AcousticModel(Configured, nn.Module):
    """Waveforms to log-probabilities of the labels; the content of a model folder.

    Args:
        config: its parts.
        initialize: give the encoder random weights; otherwise its weights stay on torch's meta device until
            `load_state_dict(..., assign=True)`, which is faster and does not change the random state.
    """

    def __init__(self, config: ModelConfig, *, initialize: bool = True):
        super().__init__()
        self.config = config
        self._dtype = torch.float32
        self.alphabet = Alphabet(config.characters)
        shape = config.frontend.encoder_shape
        self.frontend: Frontend | PretrainedFrontend = (
            Frontend(config.frontend)
            if shape is None
            else PretrainedFrontend(shape, sum_layers=config.frontend.pretrained_sum, empty=not initialize)
        )
        with torch.device("cpu" if initialize else "meta"):
            self.encoder = Encoder(
                config.encoder, num_features=config.frontend.num_features, num_labels=self.alphabet.size
            )

    def features(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, T, D) of waveforms (B, N), or of the states of a pretrained encoder, and their lengths."""
        if inputs.ndim == 3 and isinstance(self.frontend, PretrainedFrontend):
            return self.frontend.from_states(inputs, lengths)
        return self.frontend(inputs, lengths)

    def forward(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of every label at every frame.

        Args:
            inputs: waveforms (B, N) float32 in [-1, 1] at `sample_rate`; or states (B, T, S) of a `PretrainedFrontend`.
            lengths: (B,) int64 samples, or frames.
        Returns:
            log_probs (B, T', V) float32, natural log, label 0 is Φ; lengths (B,) int64.
        """
        features, feature_lengths = self.features(inputs, lengths)
        return self.encoder(features, feature_lengths)

    def prepare(self, device: str, precision: Precision) -> tuple[torch.device, torch.dtype]:
        """Compute on this device from now on, in evaluation mode; see `CTCModel`.

        Raises:
            InputError: there is no such device.
            ConfigError: the device lacks the precision.
        """
        found = find_device(device)
        self.to(found).eval()
        cell = partial(make_cell, self.config.encoder.cell)
        self._dtype = choose_precision(precision, found, make_cell=cell, training=False)
        return found, self._dtype

    @torch.inference_mode()
    def log_probs(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Log-probabilities (T, V) of waveforms (N,), in one batch; see `CTCModel`."""
        device = next(self.parameters()).device
        padded, lengths = pad_inputs(waveforms)
        with autocast(self._dtype, device):
            log_probs, frames = self(padded.to(device), lengths.to(device))
        emissions = log_probs.cpu().numpy()
        return [emission[:count].copy() for emission, count in zip(emissions, frames.tolist(), strict=True)]

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        stored: Stored = "float32",
        files_from: str | os.PathLike[str] | None = None,
    ) -> None:
        """Write the model folder, completely or not at all; an older one is replaced.

        Args:
            folder: its path; missing parent folders are created.
            stored: format of the weights, which are float32 again when loaded: "float16" takes half the space, "int8" a
                quarter. The frontend's statistics, which are few and exact, stay float32.
            files_from: a model folder; copy the files in it that the decoding options name.
        Raises:
            InputError: a weight is not finite, or too large for float16.
            ConfigError: the path exists and is not a model folder.
        """
        state = {name: tensor.float().numpy(force=True) for name, tensor in self.state_dict().items()}
        weights = stored_weights(state, stored, exact=lambda name: name in STATISTICS)
        files = own_files(self.config.decoding, files_from) if files_from else {}
        config = replace(self.config, frontend=replace(self.config.frontend, pretrained=None))  # it is in the weights
        write_model_folder(folder, config, weights, kind=KIND, files=files)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> AcousticModel:
        """The model in `folder`, in evaluation mode on the CPU.

        Raises:
            DataError: there is no model, a newer format, an unknown or wrong option, a missing or extra tensor, a wrong
                shape, or a damaged file; the message says which.
        """
        model = cls(read_config(folder), initialize=False)
        weights = read_weights(folder, shapes={name: tuple(each.shape) for name, each in model.state_dict().items()})
        model.load_state_dict({name: torch.from_numpy(each) for name, each in weights.items()}, assign=True)
        return model.eval()


def pad_inputs(inputs: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Waveforms (N,) or features (T, D) as one float32 tensor, zeros after each, and lengths (B,) int64."""
    lengths = torch.tensor([len(sequence) for sequence in inputs])
    return pad_sequence([torch.from_numpy(sequence).float() for sequence in inputs], batch_first=True), lengths
