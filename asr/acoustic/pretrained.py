"""The outputs of a pretrained encoder as features, in place of log-mel energies.

    waveform ─▶ frozen layers ─▶ states ─▶ trained layers ─▶ one layer, or a learnt sum of all ─▶ features
                                   │ what a cache of features keeps

Each frame of the features has mean 0 and deviation 1, whatever the scale of the encoder's layers.

Source of the sum: Yang et al. 2021, "SUPERB: Speech processing universal performance benchmark", section 3.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from asr.acoustic.folder import BUNDLE
from asr.acoustic.hugging_face import WEIGHTS_FILE, read_config
from asr.acoustic.padding import without_padding
from asr.acoustic.shapes import Wav2Vec2Shape, WhisperShape
from asr.acoustic.torchaudio_bundles import load_bundle
from asr.acoustic.wav2vec2 import MODELS, Wav2Vec2Encoder, load_wav2vec2
from asr.acoustic.whisper import WhisperEncoder, load_whisper
from asr.errors import DataError
from asr.options import check_limits, shown

PretrainedEncoder = WhisperEncoder | Wav2Vec2Encoder
ENCODERS: dict[type, Callable[[Any], PretrainedEncoder]] = {
    WhisperShape: WhisperEncoder,
    Wav2Vec2Shape: Wav2Vec2Encoder,
}
LOADERS: dict[str, Callable[..., PretrainedEncoder]] = {  # by model_type in config.json
    "whisper": load_whisper,
    **dict.fromkeys(MODELS, load_wav2vec2),
}


class PretrainedFrontend(nn.Module):
    """Features of an encoder, of which the last layers can be trained.

    Args:
        shape: of the encoder; its type says which encoder it is.
        sum_layers: sum all layers' outputs, with learnt weights; otherwise take the last layer's.
        empty: leave the encoder's weights on torch's meta device, for `load_state_dict(..., assign=True)`.
    """

    def __init__(self, shape: WhisperShape | Wav2Vec2Shape, *, sum_layers: bool = False, empty: bool = False):
        super().__init__()
        with torch.device("meta" if empty else "cpu"):
            self.encoder = ENCODERS[type(shape)](shape)
            # One for each layer's output, and one for the first layer's input; a softmax makes them shares.
            self.layer_weights = nn.Parameter(torch.zeros(len(self.encoder.layers) + 1)) if sum_layers else None
        self.tune(0)

    def tune(self, num_layers: int, *, trained: bool = True) -> None:
        """Take the last layers of the encoder out of the frozen ones.

        Args:
            num_layers: their number; 0: the whole encoder is frozen.
            trained: whether they have gradients now.
        Raises:
            ConfigError: the encoder has fewer layers.
        """
        layers = self.encoder.layers
        check_limits("tuning.layers", num_layers, least=0, most=len(layers))
        self.num_frozen = len(layers) - num_layers
        self.encoder.requires_grad_(False)
        if num_layers:
            for module in (*layers[self.num_frozen :], self.encoder.layer_norm):
                module.requires_grad_(trained)

    def frozen_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """The names and values that `states` depends on."""
        tuned = tuple(f"layers.{number}." for number in range(self.num_frozen, len(self.encoder.layers)))
        for name, parameter in self.encoder.named_parameters():
            if not (tuned and name.startswith((*tuned, "layer_norm."))):
                yield name, parameter.detach()

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, T, D) float32, zero from an utterance's length on, and their lengths; see the encoders."""
        return self.from_states(*self.states(waveforms, lengths))

    @torch.no_grad()
    def states(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The output of the frozen layers; for a sum of layers, the outputs of all of them side by side.

        Args:
            waveforms: (B, N) float in [-1, 1] at 16 kHz.
            lengths: (B,) int64 samples.
        Returns:
            states (B, T, S), zero from an utterance's length on, and their lengths (B,) int64.
        """
        frame_lengths = self.encoder.shape.num_frames(lengths)
        outputs = [self.encoder.embedded(waveforms, lengths)]
        outputs += self.encoder.layer_outputs(outputs[0], frame_lengths, layers=slice(self.num_frozen))
        states = torch.cat(outputs, dim=2) if self.layer_weights is not None else outputs[-1]
        return without_padding(states, frame_lengths), frame_lengths

    def from_states(self, states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, T, D) float32 of the output of `states`, and their lengths."""
        outputs = list(states.split(self.encoder.shape.width, dim=2))
        outputs += self.encoder.layer_outputs(outputs[-1], lengths, layers=slice(self.num_frozen, None))
        if self.layer_weights is None:
            features = self._normalized(outputs[-1])
        else:
            normalized = torch.stack([self._normalized(output) for output in outputs], dim=3)  # (B, T, D, layers + 1)
            features = self._normalized(normalized @ self.layer_weights.softmax(dim=0))
        return without_padding(features, lengths), lengths

    def _normalized(self, hidden: Tensor) -> Tensor:
        """(B, T, D) float32, each frame with mean 0 and deviation 1."""
        return layer_norm(hidden.float(), (self.encoder.shape.width,))

    @property
    def states_width(self) -> int:
        """Values of a frame of `states`, S."""
        return self.encoder.shape.width * (1 if self.layer_weights is None else self.num_frozen + 1)


def load_encoder(
    source: str | os.PathLike[str], *, layer: int | None = None
) -> tuple[PretrainedEncoder, dict[str, str]]:
    """A pretrained encoder, frozen, and its origin: name, licence and checksum of the weights.

    Args:
        source: a folder of Hugging Face's layout with a model of whisper, wav2vec2, hubert or wavlm; or `torchaudio:`
            and the name of a bundle.
        layer: leave out the layers above this one, and the normalisation behind the last layer; None: take all.
    Raises:
        InputError: there is no bundle of this name.
        DataError: a file is missing or damaged, of another kind of model, or weights and shape do not fit.
        ConfigError: the encoder has no such layer, or a package is not installed.
    """
    if str(source).startswith(BUNDLE):
        return load_bundle(str(source), layer=layer)
    kind = read_config(source).get("model_type")
    if kind not in LOADERS:
        raise DataError(f"must be a model of {', '.join(LOADERS)}, not {shown(kind)}", path=source)
    return LOADERS[kind](source, layer=layer), read_origin(source)


def read_origin(folder: str | os.PathLike[str]) -> dict[str, str]:
    """Name, licence and checksum of the weights in a folder of Hugging Face's layout, for the provenance of a model.

    The name is `_name_or_path` in config.json, else that of the folder. The licence is `license` in config.json, else
    in the head of README.md (a model card), else "unknown".

    Raises:
        DataError: a file cannot be read.
    """
    folder = Path(folder)
    config = read_config(folder)
    try:
        card = folder / "README.md"
        head = card.read_text(encoding="utf-8", errors="replace").split("---")[1:2] if card.is_file() else []
        licence = re.search(r"^license: *(\S+)", "".join(head), re.MULTILINE)
        with open(folder / WEIGHTS_FILE, "rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be used: {error}", path=folder) from None
    return {
        "name": str(config.get("_name_or_path") or folder.resolve().name),
        "licence": str(config.get("license") or (licence[1] if licence else "unknown")),
        "sha256": checksum,
    }
