"""The acoustic model: frontend, encoder and alphabet together, and its folder on disk.

A model folder contains `config.json` (format version, options of every part, alphabet, provenance) and
`weights.safetensors`. It is written under another name and then renamed, and its files are never unpickled.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from asr.acoustic.encoder import Encoder, EncoderOptions
from asr.acoustic.frontend import Frontend, FrontendOptions
from asr.decoding.options import DecodingOptions
from asr.errors import ConfigError, InputError
from asr.files.model_config import embedded_folders, read_model_config, write_model_config
from asr.files.model_folder import Stored, read_weights, stored_weights, write_model_folder
from asr.options import replace_options
from asr.text.alphabet import Alphabet
from asr.text.normalization import TextOptions

KIND: Final = "acoustic model"
DEFAULT_MODEL = "english"
MOST_VALUES = 1 << 24  # 64 MB; the embedded models have 1/64 of it


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything about a model except its weights: the content of config.json.

    Args:
        characters: the alphabet, from label 1 on.
        text: how transcripts were normalised before they became labels.
        frontend: definition of the features.
        encoder: shape of the recurrent stack.
        decoding: its default decoding options; their files are in its folder.
        name: its name for `asr.load`.
        description: its purpose, in a sentence, for `asr-transcribe --list-models`.
        provenance: data, licence, seed, versions and measured error rates, as JSON values.
    Raises:
        InputError: the characters are not an alphabet.
        ConfigError: a second of sound would become more than `MOST_VALUES` values in the encoder's first layer.
    """

    characters: tuple[str, ...]
    text: TextOptions = field(default_factory=TextOptions)
    frontend: FrontendOptions = field(default_factory=FrontendOptions)
    encoder: EncoderOptions = field(default_factory=EncoderOptions)
    decoding: DecodingOptions = field(default_factory=DecodingOptions)
    name: str = ""
    description: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        Alphabet(self.characters)
        channels = self.encoder.conv_channels if self.encoder.reduction == "conv" else 1
        values = self.frontend.sample_rate // self.frontend.hop_length * self.frontend.num_features * channels
        if values > MOST_VALUES:
            raise ConfigError(
                f"a second of sound must become at most {MOST_VALUES} values, but becomes {values}: frames a second x "
                "features x conv_channels; lower one of them"
            )


class AcousticModel(nn.Module):
    """Waveforms to log-probabilities of the labels; the content of a model folder.

    Args:
        config: its parts.
        initialize: give the encoder random weights; otherwise its weights stay on torch's meta device until
            `load_state_dict(..., assign=True)`, which is faster and does not change the random state.
    """

    def __init__(self, config: ModelConfig, *, initialize: bool = True):
        super().__init__()
        self.config = config
        self.alphabet = Alphabet(config.characters)
        self.frontend = Frontend(config.frontend)
        with torch.device("cpu" if initialize else "meta"):
            self.encoder = Encoder(
                config.encoder, num_features=config.frontend.num_features, num_labels=self.alphabet.size
            )

    @property
    def sample_rate(self) -> int:
        """Samples per second of the waveforms for `forward`."""
        return self.config.frontend.sample_rate

    @property
    def samples_per_frame(self) -> int:
        """Samples from one frame of log_probs to the next; times are exact multiples of it until they are printed."""
        return self.config.frontend.hop_length * self.config.encoder.time_reduction

    @property
    def frame_seconds(self) -> float:
        """Seconds from one frame of log_probs to the next."""
        return self.samples_per_frame / self.sample_rate

    def output_length(self, num_samples: int) -> int:
        """Frames of log_probs for a number of samples."""
        return self.config.encoder.output_length(self.config.frontend.num_frames(num_samples))

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of every label at every frame.

        Args:
            waveforms: (B, N) float32 in [-1, 1] at `sample_rate`.
            lengths: (B,) int64 samples.
        Returns:
            log_probs (B, T', V) float32, natural log, label 0 is Φ; lengths (B,) int64.
        """
        features, feature_lengths = self.frontend(waveforms, lengths)
        return self.encoder(features, feature_lengths)

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
        weights = stored_weights(self.state_dict(), stored, exact=lambda name: name.startswith("frontend."))
        files = own_files(self.config.decoding, files_from) if files_from else {}
        write_model_folder(folder, self.config, weights, kind=KIND, files=files)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> AcousticModel:
        """The model in `folder`, in evaluation mode on the CPU.

        Raises:
            DataError: there is no model, a newer format, an unknown or wrong option, a missing or extra tensor, a wrong
                shape, or a damaged file; the message says which.
        """
        model = cls(read_config(folder), initialize=False)
        model.load_state_dict(read_weights(folder, expected=model.state_dict()), assign=True)
        return model.eval()


def read_config(folder: str | os.PathLike[str]) -> ModelConfig:
    """The config.json of a model folder."""
    return read_model_config(folder, ModelConfig, kind=KIND)


def own_files(options: DecodingOptions, folder: str | os.PathLike[str]) -> dict[str, Path]:
    """The files and folders inside a model's folder that its options name, by these names."""
    names = sorted(set(options.files.values()))
    inside = (name for name in names if not Path(name).is_absolute() and ".." not in Path(name).parts)
    return {name: Path(folder) / name for name in inside if (Path(folder) / name).exists()}


def in_folder(options: DecodingOptions, folder: Path) -> DecodingOptions:
    """The options of a model with the paths of its own files, even missing ones; embedded models keep their names."""
    own, named = own_files(options, folder), embedded_folders("language model")
    paths = {name: str(folder / value) for name, value in options.files.items() if value in own or value not in named}
    return replace_options(options, **paths)


def out_of_folder(options: DecodingOptions, folder: Path) -> DecodingOptions:
    """The options with paths that are valid in any working directory: inside the folder relative to it, else absolute.

    Names of embedded models do not change. `in_folder` is the inverse.
    """
    folder = folder.resolve()
    named = embedded_folders("language model")
    paths = {
        name: Path(value).resolve()
        for name, value in options.files.items()
        if value not in named and Path(value).exists()
    }
    inside = {name: path.relative_to(folder) for name, path in paths.items() if folder in path.parents}
    return replace_options(options, **{name: str(path) for name, path in (paths | inside).items()})


def pad_waveforms(waveforms: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """(B, N) float32, zeros after each waveform, and lengths (B,) int64."""
    lengths = torch.tensor([len(waveform) for waveform in waveforms])
    return pad_sequence([torch.from_numpy(waveform).float() for waveform in waveforms], batch_first=True), lengths


def embedded_models() -> dict[str, Path]:
    """The models of the package: name to folder, sorted by name."""
    return embedded_folders(KIND)


def find_model(model: str | os.PathLike[str] | None = None) -> Path:
    """The folder of a model, given a folder, the name of an embedded one, or None for the default.

    Raises:
        InputError: it is neither a folder nor the name of an embedded model.
    """
    embedded = embedded_models()
    if model is None:
        model = DEFAULT_MODEL
    if str(model) in embedded:
        return embedded[str(model)]
    if Path(model).is_dir():
        return Path(model)
    names = ", ".join(embedded) or "none"
    raise InputError(f"no model {os.fspath(model)!r}: give a model folder, or one of the embedded models: {names}")


def write_config(folder: str | os.PathLike[str], config: ModelConfig) -> None:
    """Write only the config.json of an existing model folder."""
    write_model_config(folder, config, kind=KIND)
