"""Our models as ONNX graphs: samples and their lengths to log_probs and theirs, features included; without torch.

    samples ─▶ ends reflected ─▶ convolution: all that is linear in a frame ─▶ power ─▶ mel ─▶ log ─▶ encoder
                                                                     a Whisper encoder, if there is one ─┘

The same computation as `asr.acoustic.model.AcousticModel`, of the same tensors. `asr.acoustic.features_graph` has the
features, and here is what follows them: time reduction, recurrent layers, output layer. Padding changes nothing.
"""

from __future__ import annotations

import numpy as np

from asr.acoustic.config import ModelConfig
from asr.acoustic.features_graph import kaldi_features, whisper_features
from asr.acoustic.graph_layers import layer_norm, linear, valid
from asr.acoustic.options import EncoderOptions
from asr.acoustic.shapes import divide_up
from asr.compute.onnx_graph import Graph, Value
from asr.compute.recurrence import recurrent_layer


def torch_only(config: ModelConfig) -> str:
    """The part of a model that only torch can compute; empty: none."""
    return f"an encoder of {config.frontend.wav2vec2.model_type}" if config.frontend.wav2vec2 else ""


def acoustic_graph(config: ModelConfig, *, int8: bool = False) -> Graph:
    """The graph of a model; its `shapes` are those of the model's tensors.

    Inputs: samples (B, N) float32 in [-1, 1], zeros or anything else past an utterance's length; lengths (B,) int64.
    Outputs: log_probs (B, T, V) float32, natural log, label 0 is Φ; frames (B,) int64.

    Args:
        config: of a model for which `torch_only` is empty.
        int8: multiply the matrices of the encoders in 8 bits.
    """
    graph = Graph()
    samples, lengths = graph.input("samples", np.float32, "B", "N"), graph.input("lengths", np.int64, "B")
    options = config.frontend
    shortest = options.window_length + options.hop_length  # long enough for a frame, without which layers fail
    samples = samples.pad(1, 2, 0, (shortest - samples.size(1)).clamp(min=0))
    if options.whisper:
        features = whisper_features(graph, samples, lengths, options.whisper, sums=options.pretrained_sum, int8=int8)
    else:
        features = kaldi_features(graph, samples, lengths, options)
    log_probs, frames = _encoder(
        graph,
        features,
        options.num_frames(lengths),
        config.encoder,
        num_features=options.num_features,
        num_labels=1 + len(config.characters),
        int8=int8,
    )
    log_probs = log_probs.slice(1, 0, frames.apply("ReduceMax", keepdims=0))
    graph.output("log_probs", log_probs, "B", "T", 1 + len(config.characters))
    graph.output("frames", frames, "B")
    return graph


def _encoder(
    graph: Graph,
    features: Value,
    lengths: Value,
    options: EncoderOptions,
    *,
    num_features: int,
    num_labels: int,
    int8: bool,
) -> tuple[Value, Value]:
    """log_probs (B, T', V) and lengths, from features (B, T, M), T at least 1, and lengths; see `encoder.Encoder`."""
    batch = lengths.size(0)
    reduce = _convolved if options.reduction == "conv" else _stacked
    hidden, lengths, width = reduce(graph, features, lengths, options, num_features)
    hidden = hidden.transpose(1, 0, 2)  # (B, T, D) -> (T, B, D), as the recurrent nodes take it
    for number in range(options.num_layers):
        hidden, width = _layer(graph, hidden, lengths, options, number, width, int8=int8)
        if number + 1 == options.pool_after_layer:
            hidden, lengths = _pooled(graph, hidden, lengths)
    logits = linear(graph, hidden.reshape(-1, width), "encoder.output", (num_labels, width))
    log_probs = logits.apply("LogSoftmax", axis=-1).reshape(-1, batch, num_labels)
    return log_probs.transpose(1, 0, 2), lengths


def _convolved(
    graph: Graph, features: Value, lengths: Value, options: EncoderOptions, bins: int
) -> tuple[Value, Value, int]:
    """Strided convolutions: (B, T', D), lengths, D; see `encoder.ConvReduction`."""
    hidden, channels = features.expand_dims(1), 1  # (B, 1, T, M)
    for number, stride in enumerate(options.time_strides):
        mask = valid(graph, lengths, hidden.size(2)).expand_dims(1, 3)
        name, filters = f"encoder.reduction.convolutions.{number}", options.conv_channels
        kernel = graph.tensor(f"{name}.weight", filters, channels, 3, 3)
        bias = graph.tensor(f"{name}.bias", filters)
        hidden = hidden.where(mask, 0.0).apply("Conv", kernel, bias, strides=[stride, 2], pads=[1, 1, 1, 1])
        hidden = hidden.apply("Relu")
        lengths, channels, bins = divide_up(lengths, stride), filters, divide_up(bins, 2)
    width = channels * bins
    return hidden.transpose(0, 2, 1, 3).reshape(0, 0, width), lengths, width


def _stacked(
    graph: Graph, features: Value, lengths: Value, options: EncoderOptions, bins: int
) -> tuple[Value, Value, int]:
    """Successive frames side by side: (B, T', D), lengths, D; see `encoder.StackReduction`."""
    (stride,) = options.time_strides
    frames = features.size(1)
    features = features.where(valid(graph, lengths, frames).expand_dims(2), 0.0)
    features = features.pad(1, 3, 0, divide_up(frames, stride) * stride - frames)
    return features.reshape(lengths.size(0), -1, bins * stride), divide_up(lengths, stride), bins * stride


def _layer(
    graph: Graph, hidden: Value, lengths: Value, options: EncoderOptions, number: int, width: int, *, int8: bool
) -> tuple[Value, int]:
    """The output (T, B, D') of a recurrent layer, and D'; see `encoder.RecurrentLayer`."""
    name, inputs = f"encoder.layers.{number}", hidden
    cells = ["forward_cell", "backward_cell"] if options.bidirectional else ["forward_cell"]
    outputs, *_ = recurrent_layer(
        graph,
        hidden,
        lengths.maximum(np.int64(1)).cast(np.int32),
        cell=options.cell,
        prefixes=tuple(f"{name}.{cell}" for cell in cells),
        width=width,
        hidden=options.hidden_size,
        int8=int8,
    )  # (T, directions, B, H)
    if options.bidirectional and options.merge == "concat":
        merged = 2 * options.hidden_size
        hidden = outputs.transpose(0, 2, 1, 3).reshape(0, 0, merged)
    else:
        merged = options.hidden_size
        hidden = outputs.apply("ReduceSum", np.array([1]), keepdims=0)
    if options.projection:
        batch = hidden.size(1)
        projected = linear(graph, hidden.reshape(-1, merged), f"{name}.projection", (options.projection, merged))
        merged = options.projection
        hidden = projected.reshape(-1, batch, merged)
    if options.residual and merged == width:
        hidden = hidden + inputs
    return layer_norm(graph, hidden, f"{name}.norm", merged) if options.layer_norm else hidden, merged


def _pooled(graph: Graph, hidden: Value, lengths: Value) -> tuple[Value, Value]:
    """The maximum of each pair of frames of (T, B, D), and the lengths; see `encoder.max_pool_time`."""
    hidden = hidden.pad(0, 3, 0, hidden.size(0) % 2)
    first, second = (
        hidden.apply("Slice", np.array([start]), np.array([np.iinfo(np.int64).max]), np.array([0]), np.array([2]))
        for start in (0, 1)
    )
    both = valid(graph, lengths // 2, first.size(0)).transpose(1, 0).expand_dims(2)
    return first.maximum(second).where(both, first), divide_up(lengths, 2)
