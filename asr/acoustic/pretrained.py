"""Whisper's encoder, pretrained on far more speech, as a feature frontend.

    samples ─▶ log-mel ─▶ convolution ─▶ convolution ─▶ + positions ─▶ layer 1 … layer N ─▶ layer norm
    16 kHz     10 ms      10 ms          20 ms                          attention, MLP; each behind a layer norm

Whisper pads every recording to 30 s with zeros. Here an utterance keeps its own length: it has as many positions as
frames, and the padding of a batch reaches neither its convolutions nor its attention.

Source: Radford et al. 2022, "Robust speech recognition via large-scale weak supervision", section 2.2, and
https://github.com/openai/whisper (audio.py, model.py), MIT.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, pad, scaled_dot_product_attention

from asr.acoustic.encoder import valid
from asr.errors import ConfigError, DataError, InputError
from asr.files.reading import read_json
from asr.options import check_options, from_json, option, shown

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
SAMPLE_RATE = 16_000
FFT_LENGTH, HOP_LENGTH = 400, 160
FRAME_SAMPLES = 2 * HOP_LENGTH  # of a frame of the encoder's output
Length = TypeVar("Length", int, Tensor)
DYNAMIC_RANGE = 8.0  # powers of ten below the loudest, where the log-mel energies are cut off


@dataclass(frozen=True, kw_only=True)
class WhisperShape:
    """The shape of a Whisper encoder, by the names in Hugging Face's config.json."""

    num_mel_bins: int = option(80, least=1, most=1024)
    d_model: int = option(384, least=1, most=8192)
    encoder_layers: int = option(4, least=1, most=256)
    encoder_attention_heads: int = option(6, least=1, most=256)
    encoder_ffn_dim: int = option(1536, least=1, most=65536)
    max_source_positions: int = option(1500, least=1, most=65536)

    def __post_init__(self) -> None:
        check_options(self)
        if self.d_model % self.encoder_attention_heads:
            raise ConfigError(
                f"d_model must be a multiple of encoder_attention_heads, not {self.d_model} with "
                f"{self.encoder_attention_heads}"
            )

    @property
    def most_samples(self) -> int:
        """The longest utterance that has positions, in samples."""
        return self.max_source_positions * FRAME_SAMPLES


def num_frames(num_samples: Length) -> Length:
    """The number of 20 ms frames of a waveform; its last samples count from 10 ms on."""
    return -(-(num_samples // HOP_LENGTH) // 2)


class WhisperEncoder(nn.Module):
    """Waveforms to the hidden states of Whisper's encoder; parameters are named as in Hugging Face's weights."""

    mel_filters: Tensor
    window: Tensor

    def __init__(self, shape: WhisperShape):
        super().__init__()
        self.shape = shape
        with torch.device("cpu"):  # they are not among the weights, which may be on the meta device
            self.register_buffer("mel_filters", mel_filters(shape.num_mel_bins), persistent=False)
            self.register_buffer("window", torch.hann_window(FFT_LENGTH), persistent=False)
        self.conv1 = nn.Conv1d(shape.num_mel_bins, shape.d_model, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(shape.d_model, shape.d_model, kernel_size=3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(shape.max_source_positions, shape.d_model)
        self.layers = nn.ModuleList(WhisperLayer(shape) for _ in range(shape.encoder_layers))
        self.layer_norm = nn.LayerNorm(shape.d_model)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The output of the last layer, and its lengths.

        Args:
            waveforms: (B, N) float in [-1, 1] at 16 kHz; samples past an utterance's length are ignored.
            lengths: (B,) int64 samples.
        Returns:
            hidden (B, T, D), zero from an utterance's length on; lengths (B,) int64, by `num_frames`.
        Raises:
            InputError: an utterance is longer than the encoder has positions for.
        """
        *_, hidden = self.hidden_states(waveforms, lengths)
        frame_lengths = num_frames(lengths)
        return _without_padding(hidden, frame_lengths), frame_lengths

    def hidden_states(self, waveforms: Tensor, lengths: Tensor) -> list[Tensor]:
        """The input of the first layer and the output of each, the last one normalised: (B, T, D) each."""
        if waveforms.shape[1] > self.shape.most_samples:
            raise InputError(
                f"waveforms must be at most {self.shape.most_samples / SAMPLE_RATE:g} s long for this encoder, "
                f"not {waveforms.shape[1] / SAMPLE_RATE:g} s"
            )
        mel, mel_lengths = self.log_mel(waveforms, lengths)
        hidden = gelu(self.conv1(mel))
        hidden = hidden.masked_fill(~valid(mel_lengths, hidden.shape[2])[:, None], 0.0)
        hidden = gelu(self.conv2(hidden)).transpose(1, 2)  # (B, D, T) -> (B, T, D)
        hidden = hidden + self.embed_positions.weight[: hidden.shape[1]]
        own = valid(-(-mel_lengths // 2), hidden.shape[1])
        attended = None if own.all() else own[:, None, None]  # (B, 1, 1, T)
        states = [hidden]
        for layer in self.layers:
            states.append(layer(states[-1], attended))
        states[-1] = self.layer_norm(states[-1])
        return states

    def log_mel(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Whisper's log-mel energies (B, M, T) of 10 ms, zero past an utterance's length, and the lengths (B,)."""
        lengths = lengths.to(waveforms.device)
        mel_lengths = lengths // HOP_LENGTH
        samples = waveforms.float().masked_fill(~valid(lengths, waveforms.shape[1]), 0.0)
        frames = max(1, int(mel_lengths.max()))
        half = FFT_LENGTH // 2
        start = samples[:, 1 : half + 1].flip(1)  # the beginning is reflected; behind the end are zeros
        extended = torch.cat([pad(start, (half - start.shape[1], 0)), samples], dim=1)
        extended = pad(extended, (0, max(0, (frames - 1) * HOP_LENGTH + FFT_LENGTH - extended.shape[1])))
        pieces = extended.unfold(1, FFT_LENGTH, HOP_LENGTH)[:, :frames]
        spectrum = torch.fft.rfft(pieces * self.window)
        power = spectrum.real.square() + spectrum.imag.square()
        log_mel = (power @ self.mel_filters).clamp(min=1e-10).log10().transpose(1, 2)  # (B, M, T)
        padding = ~valid(mel_lengths, frames)[:, None]
        loudest = log_mel.masked_fill(padding, -math.inf).amax(dim=(1, 2), keepdim=True)
        log_mel = (torch.maximum(log_mel, loudest - DYNAMIC_RANGE) + 4) / 4
        return log_mel.masked_fill(padding, 0.0), mel_lengths


class PretrainedFrontend(nn.Module):
    """The output of a pretrained encoder as features, each frame with mean 0 and deviation 1.

    The encoder is frozen: it has no gradients, and nothing in it depends on the training mode.

    Args:
        shape: of the encoder.
        empty: leave its weights on torch's meta device, for `load_state_dict(..., assign=True)`.
    """

    def __init__(self, shape: WhisperShape, *, empty: bool = False):
        super().__init__()
        with torch.device("meta" if empty else "cpu"):
            self.encoder = WhisperEncoder(shape)
        self.encoder.requires_grad_(False)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, T, D) float32, zero from an utterance's length on, and their lengths; see `WhisperEncoder`."""
        with torch.no_grad():
            hidden, frame_lengths = self.encoder(waveforms, lengths)
            features = layer_norm(hidden.float(), hidden.shape[2:])
        return _without_padding(features, frame_lengths), frame_lengths


class WhisperLayer(nn.Module):
    """Self-attention and an MLP, each behind a layer norm and added to its input."""

    def __init__(self, shape: WhisperShape):
        super().__init__()
        self.self_attn = WhisperAttention(shape)
        self.self_attn_layer_norm = nn.LayerNorm(shape.d_model)
        self.fc1 = nn.Linear(shape.d_model, shape.encoder_ffn_dim)
        self.fc2 = nn.Linear(shape.encoder_ffn_dim, shape.d_model)
        self.final_layer_norm = nn.LayerNorm(shape.d_model)

    def forward(self, hidden: Tensor, attended: Tensor | None) -> Tensor:
        hidden = hidden + self.self_attn(self.self_attn_layer_norm(hidden), attended)
        return hidden + self.fc2(gelu(self.fc1(self.final_layer_norm(hidden))))


class WhisperAttention(nn.Module):
    """Multi-head self-attention; keys have no bias."""

    def __init__(self, shape: WhisperShape):
        super().__init__()
        self.num_heads = shape.encoder_attention_heads
        self.q_proj = nn.Linear(shape.d_model, shape.d_model)
        self.k_proj = nn.Linear(shape.d_model, shape.d_model, bias=False)
        self.v_proj = nn.Linear(shape.d_model, shape.d_model)
        self.out_proj = nn.Linear(shape.d_model, shape.d_model)

    def forward(self, hidden: Tensor, attended: Tensor | None) -> Tensor:
        """(B, T, D) -> (B, T, D); `attended` (B, 1, 1, T) bool: the frames that all may look at."""
        query, key, value = (
            projection(hidden).unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (B, H, T, D / H)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        context = scaled_dot_product_attention(query, key, value, attn_mask=attended)
        return self.out_proj(context.transpose(1, 2).flatten(2))


def load_whisper(folder: str | os.PathLike[str]) -> WhisperEncoder:
    """The encoder in a folder of Hugging Face's layout (config.json, model.safetensors), frozen, in evaluation mode.

    Weights are float32 in memory; those of a decoder are left out.

    Raises:
        DataError: a file is missing or damaged, of another kind of model, or weights and shape do not fit.
    """
    folder = Path(folder)
    shape = _read_shape(folder / CONFIG_FILE)
    with torch.device("meta"):
        encoder = WhisperEncoder(shape)
    encoder.load_state_dict(_read_weights(folder / WEIGHTS_FILE, expected=encoder.state_dict()), assign=True)
    return encoder.eval().requires_grad_(False)


def _read_shape(path: Path) -> WhisperShape:
    try:
        values = read_json(path)
        if not isinstance(values, dict) or values.get("model_type") != "whisper":
            kind = values.get("model_type") if isinstance(values, dict) else values
            raise DataError(f"must be of a Whisper model, not {shown(kind)}", path=path)
        known = {entry.name for entry in fields(WhisperShape)}
        return from_json(WhisperShape, {name: value for name, value in values.items() if name in known})
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"cannot be used: {error}", path=path) from None


def _read_weights(path: Path, *, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's tensors, float32, of the shapes of `expected`; names may begin with model. and encoder."""
    try:
        with safe_open(path, framework="pt") as file:
            names = {name.rpartition("encoder.")[2]: name for name in file.keys() if "decoder." not in name}  # noqa: SIM118
            weights = {}
            for name, tensor in expected.items():
                if name not in names:
                    raise DataError(f"lacks the tensor {name!r}", path=path)
                shape = tuple(file.get_slice(names[name]).get_shape())
                if shape != tuple(tensor.shape):
                    raise DataError(f"tensor {name!r} must be {tuple(tensor.shape)}, not {shape}", path=path)
                weights[name] = file.get_tensor(names[name]).float()
            return weights
    except (OSError, SafetensorError) as error:
        raise DataError(f"must be a whole safetensors file: {error}", path=path) from None


def mel_filters(num_bins: int) -> Tensor:
    """Slaney's mel filters, (F, M) float32: triangles of area one on the hertz axis, up to 8 kHz.

    The mel axis is linear below 1 kHz, 3 mel for 200 Hz, and logarithmic above, 27 mel for a factor of 6.4.
    Source: Slaney 1998, "Auditory Toolbox"; the default of librosa.filters.mel.
    """
    step = math.log(6.4) / 27
    top = 15 + math.log(SAMPLE_RATE / 2 / 1000) / step
    mel = torch.linspace(0, top, num_bins + 2, dtype=torch.float64)
    edges = torch.where(mel < 15, mel * 200 / 3, 1000 * torch.exp(step * (mel - 15)))[:, None]
    frequencies = torch.linspace(0, SAMPLE_RATE / 2, FFT_LENGTH // 2 + 1, dtype=torch.float64)
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    triangles = torch.minimum(rising, falling).clamp(min=0) * 2 / (edges[2:] - edges[:-2])
    return triangles.T.float().contiguous()


def _without_padding(hidden: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, D) with zeros past the lengths."""
    return hidden.masked_fill(~valid(lengths.to(hidden.device), hidden.shape[1])[:, :, None], 0.0)
