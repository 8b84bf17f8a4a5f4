"""`ModelConfig`: the content of the config.json of an acoustic model, without torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from asr.acoustic.folder import KIND
from asr.acoustic.options import EncoderOptions, FrontendOptions
from asr.decoding.options import DecodingOptions
from asr.errors import ConfigError
from asr.files.model_config import read_model_config, write_model_config
from asr.text.alphabet import Alphabet
from asr.text.normalization import TextOptions

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

    @property
    def sample_rate(self) -> int:
        """Samples per second of its waveforms."""
        return self.frontend.sample_rate

    @property
    def samples_per_frame(self) -> int:
        """Samples from one frame of log_probs to the next; times are exact multiples of it until they are printed."""
        return self.frontend.hop_length * self.encoder.time_reduction

    def output_length(self, num_samples: int) -> int:
        """Frames of log_probs for a number of samples."""
        return self.encoder.output_length(self.frontend.num_frames(num_samples))


class Configured:
    """What a model says of itself by its configuration: attributes of a `CTCModel`."""

    config: ModelConfig

    @property
    def name(self) -> str:
        """Its name for `asr.load`."""
        return self.config.name

    @property
    def text(self) -> TextOptions:
        """How its transcripts were normalised before they became labels."""
        return self.config.text

    @property
    def sample_rate(self) -> int:
        """Samples per second of its waveforms."""
        return self.config.sample_rate

    @property
    def samples_per_frame(self) -> int:
        """Samples from one frame of log_probs to the next; times are exact multiples of it until they are printed."""
        return self.config.samples_per_frame

    @property
    def frame_seconds(self) -> float:
        """Seconds from one frame of log_probs to the next."""
        return self.samples_per_frame / self.sample_rate

    def output_length(self, num_samples: int) -> int:
        """Frames of log_probs for a number of samples."""
        return self.config.output_length(num_samples)


def read_config(folder: str | os.PathLike[str]) -> ModelConfig:
    """The config.json of a model folder."""
    return read_model_config(folder, ModelConfig, kind=KIND)


def write_config(folder: str | os.PathLike[str], config: ModelConfig) -> None:
    """Write only the config.json of an existing model folder."""
    write_model_config(folder, config, kind=KIND)
