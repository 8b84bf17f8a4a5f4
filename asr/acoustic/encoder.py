"""The encoder: features (B, T, M) -> log_probs (B, T', V) through a deep, usually bidirectional, recurrent stack.

    features ─▶ time reduction ─▶ layer 1 ─▶ halve ─▶ layer 2 … layer N ─▶ linear ─▶ log-softmax
                conv or stack               (max pool)     residual, layer norm, dropout

The backward direction reads the sequence reversed *within its own length*: padding stays after the last frame in both
directions, so an utterance gives the same output alone and in any batch. Packed sequences are exact, too, but cannot
use the fast CPU kernels: with them an LSTM trains 2 to 3 times slower (`tests/benchmarks/bench_encoder.py`).

Every reduction by s turns n frames into ceil(n / s); `EncoderOptions.output_length` is the only formula for lengths.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asr.acoustic.options import EncoderOptions
from asr.acoustic.shapes import divide_up
from asr.compute.cells import make_cell


class Encoder(nn.Module):
    """A deep recurrent encoder with a linear output layer over the labels."""

    def __init__(self, options: EncoderOptions, *, num_features: int, num_labels: int):
        super().__init__()
        self.options = options
        reduction = ConvReduction if options.reduction == "conv" else StackReduction
        self.reduction = reduction(num_features, options)
        layers = [RecurrentLayer(self.reduction.width, options)]
        while len(layers) < options.num_layers:
            layers.append(RecurrentLayer(layers[-1].width, options))
        self.layers = nn.ModuleList(layers)
        self.width = layers[-1].width  # of every layer
        self.output = nn.Linear(self.width, num_labels)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of every label at every output frame.

        Args:
            features: (B, T, M) float; frames past an utterance's length are ignored.
            lengths: (B,) int64, 0 <= lengths[b] <= T.
        Returns:
            log_probs (B, T', V) float32, natural log, also under autocast; frames past an utterance's length are
            undefined. Lengths (B,) int64, by `EncoderOptions.output_length`.
        """
        log_probs, output_lengths, _ = self.forward_with_layers(features, lengths)
        return log_probs, output_lengths

    def forward_with_layers(
        self, features: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
        """As `forward`, and also the output (B, T_k, D) and lengths of each recurrent layer, for an auxiliary loss."""
        num_frames = self.options.output_length(features.shape[1])
        if num_frames == 0:  # the recurrent kernels refuse an empty sequence
            features = nn.functional.pad(features, (0, 0, 0, 1))
        outputs = []
        hidden, lengths = self.reduction(features, lengths)
        order = reversal(lengths, hidden.shape[1])
        for number, layer in enumerate(self.layers, start=1):
            hidden = layer(hidden, order)
            if number == self.options.pool_after_layer:
                hidden, lengths = max_pool_time(hidden, lengths)
                order = reversal(lengths, hidden.shape[1])
            outputs.append((hidden, lengths))
        logits = self.output(hidden[:, :num_frames])
        return logits.float().log_softmax(dim=-1), lengths, outputs


class ConvReduction(nn.Module):
    """3 x 3 convolutions, each halving the mel axis and striding over time; padding frames stay zero."""

    def __init__(self, num_features: int, options: EncoderOptions):
        super().__init__()
        self.strides = options.time_strides
        self.convolutions = nn.ModuleList()
        channels, bins = 1, num_features
        for stride in self.strides:
            self.convolutions.append(
                nn.Conv2d(channels, options.conv_channels, kernel_size=3, stride=(stride, 2), padding=1)
            )
            channels, bins = options.conv_channels, -(-bins // 2)
        self.width = channels * bins
        self.dropout = nn.Dropout(options.dropout)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        hidden = features.unsqueeze(1)  # (B, T, M) -> (B, 1, T, M)
        for stride, convolution in zip(self.strides, self.convolutions, strict=True):
            hidden = hidden.masked_fill(~valid(lengths, hidden.shape[2])[:, None, :, None], 0.0)
            hidden = torch.relu(convolution(hidden))
            lengths = divide_up(lengths, stride)
        hidden = hidden.transpose(1, 2).flatten(2)  # (B, C, T', M') -> (B, T', C * M')
        return self.dropout(hidden), lengths


class StackReduction(nn.Module):
    """Stack s successive frames into one; the last one is filled with zeros."""

    def __init__(self, num_features: int, options: EncoderOptions):
        super().__init__()
        (self.stride,) = options.time_strides
        self.width = num_features * self.stride

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        features = features.masked_fill(~valid(lengths, features.shape[1])[:, :, None], 0.0)
        features = nn.functional.pad(features, (0, 0, 0, -features.shape[1] % self.stride))
        batch, frames, bins = features.shape
        return features.reshape(batch, frames // self.stride, bins * self.stride), divide_up(lengths, self.stride)


class RecurrentLayer(nn.Module):
    """One recurrent layer in one or two directions, with projection, residual, layer norm and dropout."""

    def __init__(self, width: int, options: EncoderOptions):
        super().__init__()
        hidden = options.hidden_size
        self.forward_cell = make_cell(options.cell, width, hidden)
        self.backward_cell = make_cell(options.cell, width, hidden) if options.bidirectional else None
        self.concat = options.bidirectional and options.merge == "concat"
        merged = 2 * hidden if self.concat else hidden
        self.projection = nn.Linear(merged, options.projection) if options.projection else nn.Identity()
        self.width = options.projection or merged
        self.residual = options.residual and self.width == width
        self.norm = nn.LayerNorm(self.width) if options.layer_norm else nn.Identity()
        self.dropout = nn.Dropout(options.dropout)

    def forward(self, inputs: Tensor, order: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D'); `order` comes from `reversal`."""
        hidden, _ = self.forward_cell(inputs)
        if self.backward_cell is not None:
            backward, _ = self.backward_cell(permute_frames(inputs, order))
            backward = permute_frames(backward, order)
            hidden = torch.cat((hidden, backward), dim=-1) if self.concat else hidden + backward
        hidden = self.projection(hidden)
        if self.residual:
            hidden = hidden + inputs
        return self.dropout(self.norm(hidden))


def valid(lengths: Tensor, num_frames: int) -> Tensor:
    """(B, T) bool, true for the frames of the utterance."""
    return torch.arange(num_frames, device=lengths.device) < lengths[:, None]


def reversal(lengths: Tensor, num_frames: int) -> Tensor:
    """(B * T,) int64: for each flat frame its mirror within the utterance's length; padding frames do not move."""
    frames = torch.arange(num_frames, device=lengths.device)
    mirrored = torch.where(frames < lengths[:, None], lengths[:, None] - 1 - frames, frames)
    rows = torch.arange(lengths.shape[0], device=lengths.device)[:, None] * num_frames
    return (rows + mirrored).flatten()


def permute_frames(hidden: Tensor, order: Tensor) -> Tensor:
    """(B, T, D) with its frames in the flat `order` (B * T,)."""
    return hidden.flatten(0, 1).index_select(0, order).view_as(hidden)


def max_pool_time(hidden: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Maximum over each pair of frames; an odd last frame does not change. (B, T, D) -> (B, ceil(T / 2), D)."""
    hidden = nn.functional.pad(hidden, (0, 0, 0, hidden.shape[1] % 2))
    first, second = hidden[:, 0::2], hidden[:, 1::2]
    both = valid(lengths // 2, first.shape[1])[:, :, None]
    return torch.where(both, torch.maximum(first, second), first), divide_up(lengths, 2)
