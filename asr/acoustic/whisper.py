"""Whisper's encoder, pretrained on far more speech, as a feature frontend.

    samples ─▶ log-mel ─▶ convolution ─▶ convolution ─▶ + positions ─▶ layer 1 … layer N ─▶ layer norm
    16 kHz     10 ms      10 ms          20 ms                          attention, MLP; each behind a layer norm

Whisper pads every recording to 30 s with zeros. Here an utterance keeps its own length: it has as many positions as
frames, and the padding of a batch reaches neither its convolutions nor its attention. Positions are sinusoids, so an
utterance can also be longer than 30 s, but Whisper has not been trained on longer ones.

Source: Radford et al. 2022, "Robust speech recognition via large-scale weak supervision", section 2.2, and
https://github.com/openai/whisper (audio.py, model.py), MIT.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, pad, scaled_dot_product_attention

from asr.acoustic.encoder import valid
from asr.acoustic.hugging_face import CONFIG_FILE, WEIGHTS_FILE, read_config, read_tensors, shape_from
from asr.acoustic.padding import attended_frames, on_device, without_padding
from asr.acoustic.shapes import DYNAMIC_RANGE, FFT_LENGTH, HOP_LENGTH, WhisperShape
from asr.acoustic.spectrum import whisper_filters, whisper_window
from asr.errors import DataError
from asr.options import check_limits, shown

POSITIONS = "embed_positions.weight"


class WhisperEncoder(nn.Module):
    """Waveforms to the hidden states of Whisper's encoder; parameters are named as in Hugging Face's weights."""

    mel_filters: Tensor
    window: Tensor

    def __init__(self, shape: WhisperShape):
        super().__init__()
        self.shape = shape
        with torch.device("cpu"):  # they are not among the weights, which may be on the meta device
            filters, window = whisper_filters(shape.num_mel_bins), whisper_window()
            self.register_buffer("mel_filters", torch.from_numpy(filters).float(), persistent=False)
            self.register_buffer("window", torch.from_numpy(window).float(), persistent=False)
        self.conv1 = nn.Conv1d(shape.num_mel_bins, shape.d_model, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(shape.d_model, shape.d_model, kernel_size=3, stride=2, padding=1)
        self.layers = nn.ModuleList(WhisperLayer(shape) for _ in range(shape.encoder_layers))
        self.layer_norm = nn.LayerNorm(shape.d_model) if shape.normalize_output else nn.Identity()

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The output of the last layer, and its lengths.

        Args:
            waveforms: (B, N) float in [-1, 1] at 16 kHz; samples past an utterance's length are ignored.
            lengths: (B,) int64 samples.
        Returns:
            hidden (B, T, D), zero from an utterance's length on; lengths (B,) int64, by `WhisperShape.num_frames`.
        """
        frame_lengths = self.shape.num_frames(lengths)
        *_, hidden = self.layer_outputs(self.embedded(waveforms, lengths), frame_lengths)
        return without_padding(hidden, frame_lengths), frame_lengths

    def embedded(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """The input (B, T, D) of the first layer; frames past an utterance's length are undefined. See `forward`."""
        mel, mel_lengths = self.log_mel(waveforms, lengths)
        hidden = gelu(self.conv1(mel))
        hidden = hidden.masked_fill(~valid(mel_lengths, hidden.shape[2])[:, None], 0.0)
        hidden = gelu(self.conv2(hidden)).transpose(1, 2)  # (B, D, T) -> (B, T, D)
        return hidden + sinusoids(hidden.shape[1], self.shape.d_model, device=hidden.device)

    def layer_outputs(self, hidden: Tensor, lengths: Tensor, *, layers: slice = slice(None)) -> Iterator[Tensor]:
        """The output (B, T, D) of each of some layers, one after the other; that of the last layer is normalised.

        Args:
            hidden: (B, T, D), the input of the first of these layers.
            lengths: (B,) int64 frames; frames past them are not attended to.
        """
        attended = attended_frames(lengths, hidden)
        for layer in self.layers[layers]:
            hidden = layer(hidden, attended)
            yield self.layer_norm(hidden) if layer is self.layers[-1] else hidden

    def log_mel(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Whisper's log-mel energies (B, M, T) of 10 ms, zero past an utterance's length, and the lengths (B,)."""
        half = FFT_LENGTH // 2
        padded_length = waveforms.shape[1]
        lengths = on_device(lengths, waveforms)
        mel_lengths = lengths // HOP_LENGTH
        samples = waveforms.float().masked_fill(~valid(lengths, padded_length), 0.0)
        # The beginning is reflected; behind the end are zeros, enough for N // HOP_LENGTH frames and for one frame.
        samples = pad(samples, (0, max(half - HOP_LENGTH, half + 1 - padded_length)))
        samples = torch.cat([samples[:, 1 : half + 1].flip(1), samples], dim=1)
        spectrum = torch.fft.rfft(samples.unfold(1, FFT_LENGTH, HOP_LENGTH) * self.window)
        power = spectrum.real.square() + spectrum.imag.square()  # (B, T, F)
        log_mel = (power @ self.mel_filters).clamp(min=1e-10).log10().transpose(1, 2)  # (B, M, T)
        padding = ~valid(mel_lengths, log_mel.shape[2])[:, None]
        loudest = log_mel.masked_fill(padding, -math.inf).amax(dim=(1, 2), keepdim=True)
        log_mel = (torch.maximum(log_mel, loudest - DYNAMIC_RANGE) + 4) / 4
        return log_mel.masked_fill(padding, 0.0), mel_lengths


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


def load_whisper(folder: str | os.PathLike[str], *, layer: int | None = None) -> WhisperEncoder:
    """The encoder in a folder of Hugging Face's layout (config.json, model.safetensors), frozen, in evaluation mode.

    Weights are float32 in memory; those of a decoder are left out.

    Args:
        folder: its path.
        layer: leave out the layers above this one, and the normalisation behind the last layer; None: take all.
    Raises:
        DataError: a file is missing or damaged, of another kind of model, or weights and shape do not fit.
        ConfigError: the encoder has no such layer.
    """
    shape = read_shape(folder)
    if layer is not None:
        check_limits("pretrained_layer", layer, least=1, most=shape.encoder_layers)
        shape = replace(shape, encoder_layers=layer, normalize_output=layer == shape.encoder_layers)
    with torch.device("meta"):
        encoder = WhisperEncoder(shape)
    expected = encoder.state_dict()
    prefixes = ("model.encoder.", "encoder.", "")
    names = {name: tuple(f"{prefix}{name}" for prefix in prefixes) for name in (*expected, POSITIONS)}
    weights = read_tensors(folder, expected=expected, names=names, optional=(POSITIONS,))
    positions = weights.pop(POSITIONS, None)
    if positions is not None and not _are_sinusoids(positions):
        path = Path(folder) / WEIGHTS_FILE
        raise DataError(f"tensor {POSITIONS!r} must hold the sinusoids of Whisper's positions", path=path)
    encoder.load_state_dict(weights, assign=True)
    return encoder.eval().requires_grad_(False)


def read_shape(folder: str | os.PathLike[str]) -> WhisperShape:
    """The shape of the encoder in a folder of Hugging Face's layout.

    Raises:
        DataError: config.json is missing or damaged, or of another kind of model.
    """
    values, path = read_config(folder), Path(folder) / CONFIG_FILE
    if values.get("model_type") != "whisper":
        raise DataError(f"must be of a Whisper model, not {shown(values.get('model_type'))}", path=path)
    return shape_from(WhisperShape, values, path=path)


def _are_sinusoids(positions: Tensor) -> bool:
    """Whether positions (T, D), D even, are Whisper's, but for rounding."""
    if positions.ndim != 2 or positions.shape[1] % 2:
        return False
    return torch.allclose(positions, sinusoids(*positions.shape), rtol=0, atol=1e-2)


def sinusoids(num_frames: int, width: int, *, device: torch.device | None = None) -> Tensor:
    """Whisper's positions (T, D) float32: sines, then cosines, of wavelengths from 2 pi to 20,000 pi frames."""
    half = width // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=device) / max(half - 1, 1))
    phases = torch.arange(num_frames, device=device)[:, None] * frequencies
    return torch.cat([phases.sin(), phases.cos()], dim=1)
