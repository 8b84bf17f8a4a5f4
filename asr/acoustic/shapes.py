"""The shapes of encoders of others that may be part of our models, by the names in their config.json; without torch.

A formula of lengths holds for an int, for a tensor of torch and for a `Value` of an ONNX graph.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from asr.errors import ConfigError
from asr.options import check_limits, check_options, option

if TYPE_CHECKING:
    from torch import Tensor

    from asr.compute.onnx_graph import Value

SAMPLE_RATE = 16_000  # of all these encoders
FFT_LENGTH, HOP_LENGTH = 400, 160  # of Whisper
DYNAMIC_RANGE = 8.0  # powers of ten below the loudest, where Whisper's log-mel energies are cut off
FRAME_SAMPLES = 2 * HOP_LENGTH  # of a frame of Whisper's output
MOST_VALUES = 1 << 24  # of a second of sound behind each convolution; the published models have 1/10 of it
MOST_CONVOLUTIONS = 32
Length = TypeVar("Length", int, "Tensor", "Value")


@dataclass(frozen=True, kw_only=True)
class WhisperShape:
    """The shape of a Whisper encoder, by the names in Hugging Face's config.json."""

    num_mel_bins: int = option(80, least=1, most=1024)
    d_model: int = option(384, least=1, most=8192)
    encoder_layers: int = option(4, least=1, most=256)
    encoder_attention_heads: int = option(6, least=1, most=256)
    encoder_ffn_dim: int = option(1536, least=1, most=65536)
    normalize_output: bool = True  # not in config.json; false if upper layers were left out

    def __post_init__(self) -> None:
        check_options(self)
        if self.d_model % 2:
            raise ConfigError(f"d_model must be even, not {self.d_model}")
        if self.d_model % self.encoder_attention_heads:
            raise ConfigError(
                f"d_model must be a multiple of encoder_attention_heads, not {self.d_model} with "
                f"{self.encoder_attention_heads}"
            )

    @property
    def width(self) -> int:
        """Values of a frame of its output, D."""
        return self.d_model

    @property
    def hop_length(self) -> int:
        """Samples from one frame to the next."""
        return FRAME_SAMPLES

    def num_frames(self, num_samples: Length) -> Length:
        """The number of 20 ms frames of a waveform; its last samples count from 10 ms on."""
        return divide_up(num_samples // HOP_LENGTH, 2)


@dataclass(frozen=True, kw_only=True)
class Wav2Vec2Shape:
    """The shape of an encoder, by the names and with the defaults of `transformers` in config.json."""

    model_type: Literal["wav2vec2", "hubert", "wavlm"] = "wav2vec2"
    hidden_size: int = option(768, least=1, most=8192)
    num_hidden_layers: int = option(12, least=1, most=256)
    num_attention_heads: int = option(12, least=1, most=256)
    intermediate_size: int = option(3072, least=1, most=65536)
    hidden_act: Literal["gelu"] = "gelu"
    layer_norm_eps: float = option(1e-5, above=0, most=1)
    feat_extract_norm: Literal["group", "layer"] = "group"
    feat_extract_activation: Literal["gelu"] = "gelu"
    feat_proj_layer_norm: bool = True  # of hubert
    conv_dim: tuple[int, ...] = (512,) * 7
    conv_kernel: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_stride: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    num_conv_pos_embeddings: int = option(128, least=1, most=4096)
    num_conv_pos_embedding_groups: int = option(16, least=1, most=8192)
    do_stable_layer_norm: bool = False
    num_buckets: int = option(320, least=4, most=65536)  # this and the next: of wavlm
    max_bucket_distance: int = option(800, least=1, most=1 << 20)
    normalize_waveform: bool = False  # not in config.json: `do_normalize` in preprocessor_config.json
    normalize_output: bool = True  # not in config.json; false if upper layers were left out

    def __post_init__(self) -> None:
        check_options(self)
        for name in ("num_attention_heads", "num_conv_pos_embedding_groups"):
            if self.hidden_size % getattr(self, name):
                raise ConfigError(
                    f"hidden_size must be a multiple of {name}, not {self.hidden_size} with {getattr(self, name)}"
                )
        if not 1 <= len(self.conv_dim) == len(self.conv_kernel) == len(self.conv_stride) <= MOST_CONVOLUTIONS:
            raise ConfigError(
                f"conv_dim, conv_kernel and conv_stride must have the same length, 1 to {MOST_CONVOLUTIONS}, not "
                f"{len(self.conv_dim)}, {len(self.conv_kernel)} and {len(self.conv_stride)}"
            )
        for name, most in (("conv_dim", 8192), ("conv_kernel", 1024), ("conv_stride", 1024)):
            for number in getattr(self, name):
                check_limits(name, number, least=1, most=most)
        for width, hop in zip(self.conv_dim, self._hops(), strict=True):
            if width * SAMPLE_RATE / hop > MOST_VALUES:
                raise ConfigError(
                    f"a second of sound must become at most {MOST_VALUES} values behind each convolution, not "
                    f"{width * SAMPLE_RATE / hop:.0f}: conv_dim {width} every {hop} samples"
                )
        if self.max_bucket_distance <= self.num_buckets // 4:
            raise ConfigError(
                f"max_bucket_distance must be more than a quarter of num_buckets, not {self.max_bucket_distance} "
                f"with {self.num_buckets}"
            )

    def _hops(self) -> list[int]:
        """Samples from one frame to the next behind each convolution."""
        return [math.prod(self.conv_stride[: number + 1]) for number in range(len(self.conv_stride))]

    @property
    def width(self) -> int:
        """Values of a frame of its output, D."""
        return self.hidden_size

    @property
    def hop_length(self) -> int:
        """Samples from one frame to the next."""
        return math.prod(self.conv_stride)

    @property
    def window_length(self) -> int:
        """Samples that a frame depends on, before its neighbours count."""
        return 1 + sum(
            (kernel - 1) * hop // stride
            for kernel, stride, hop in zip(self.conv_kernel, self.conv_stride, self._hops(), strict=True)
        )

    def num_frames(self, num_samples: Length) -> Length:
        """The number of frames of a waveform: of whole windows; a shorter waveform has none."""
        frames = num_samples
        for kernel, stride in zip(self.conv_kernel, self.conv_stride, strict=True):
            frames = (frames - kernel) // stride + 1
        return at_least_0(frames)


def divide_up(length: Length, divisor: int) -> Length:
    """ceil(length / divisor) for lengths of 0 or more; without negative numbers, which ONNX divides towards zero."""
    return (length + divisor - 1) // divisor


def at_least_0(length: Length) -> Length:
    """The length, 0 if it is negative."""
    return max(length, 0) if isinstance(length, int) else length.clamp(min=0)
