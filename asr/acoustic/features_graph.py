"""The features of our models as nodes of an ONNX graph: Kaldi's energies and cepstra, and those of a Whisper encoder.

They are the same as those of `asr.acoustic.frontend` and `asr.acoustic.whisper`, where they are explained.
"""

from __future__ import annotations

import math

import numpy as np

from asr.acoustic.graph_layers import layer_norm, linear, product, valid
from asr.acoustic.options import SAMPLE_SCALE, SMALLEST_DEVIATION, FrontendOptions
from asr.acoustic.shapes import DYNAMIC_RANGE, FFT_LENGTH, HOP_LENGTH, WhisperShape
from asr.acoustic.spectrum import (
    cepstral_matrix,
    delta_filters,
    frame_spectra,
    mel_filterbank,
    spectrum_kernel,
    whisper_filters,
    whisper_window,
)
from asr.compute.onnx_graph import Graph, Value


def kaldi_features(graph: Graph, samples: Value, lengths: Value, options: FrontendOptions) -> Value:
    """Features (B, T, M) of samples (B, N) and their lengths; zero past an utterance's length."""
    if not options.snip_edges:
        samples = _reflected(graph, samples, lengths, options)
    kernel = spectrum_kernel(SAMPLE_SCALE * frame_spectra(options))
    power = _power(graph, samples, kernel, options.hop_length)
    energies = mel_filterbank(options).T.astype(np.float32)  # (M, F)
    features = (graph.constant(energies) @ power).maximum(np.float32(options.energy_floor)).apply("Log")
    features = features.transpose(0, 2, 1)  # (B, M, T) -> (B, T, M)
    if options.kind == "mfcc":
        features = features @ cepstral_matrix(options)
    feature_lengths = options.num_frames(lengths)
    if options.delta_order:
        features = _with_deltas(graph, features, feature_lengths, options.delta_order)
    mask = valid(graph, feature_lengths, features.size(1)).expand_dims(2)
    if options.normalization == "utterance":
        count = feature_lengths.clamp(min=1).cast(np.float32).expand_dims(1, 2)
        centred = features - features.where(mask, 0.0).sum(1) / count
        squares = centred.where(mask, 0.0)
        variance = (squares * squares).sum(1) / count
        features = centred / variance.apply("Sqrt").maximum(np.float32(SMALLEST_DEVIATION))
    elif options.normalization == "global":
        size = options.num_features
        features = (features - graph.tensor("frontend.mean", size)) / graph.tensor("frontend.std", size)
    return features.where(mask, 0.0)


def _power(graph: Graph, samples: Value, kernel: np.ndarray, hop: int) -> Value:
    """Power spectra (B, F, T) of the whole frames of samples (B, N), by a kernel of `spectrum_kernel`."""
    parts = samples.expand_dims(1).apply("Conv", kernel, strides=[hop])  # (B, 2 F, T)
    real, imaginary = graph.split(parts, 2, axis=1)
    return real * real + imaginary * imaginary


def _reflected(graph: Graph, samples: Value, lengths: Value, options: FrontendOptions) -> Value:
    """(B, N) -> the samples that all frames need, the ends of each utterance reflected."""
    window, hop = options.window_length, options.hop_length
    first = hop // 2 - window // 2
    num_frames = (samples.size(1) + hop // 2) // hop
    positions = graph.count((num_frames - 1) * hop + window, start=first)
    last = lengths.clamp(min=1).expand_dims(1) * 2  # an empty utterance has no frame that uses them
    phases = positions % last
    return samples.apply("GatherElements", phases.minimum(last - 1 - phases), axis=1)


def _with_deltas(graph: Graph, features: Value, lengths: Value, order: int) -> Value:
    """(B, T, M) -> (B, T, M (1 + order)); the first and last frame of each utterance are repeated without end."""
    filters = delta_filters(order).astype(np.float32)  # (taps, order)
    reach = len(filters) // 2
    batch, num_frames, width = features.size(0), features.size(1), features.size(2)
    positions = graph.count(num_frames + 2 * reach, start=-reach).clamp(min=0)
    positions = positions.minimum((lengths - 1).clamp(min=0).expand_dims(1))  # (B, T + 2 reach)
    rows = graph.count(batch).expand_dims(1) * num_frames
    repeated = features.reshape(-1, width).apply("Gather", rows + positions, axis=0)  # (B, T + 2 reach, M)
    channels = repeated.transpose(0, 2, 1).reshape(-1, 1, num_frames + 2 * reach)
    deltas = channels.apply("Conv", filters.T[:, None])  # (B M, order, T)
    deltas = deltas.reshape(batch, width, order, num_frames).transpose(0, 3, 2, 1)  # (B, T, order, M)
    return graph.concat([features, deltas.reshape(batch, num_frames, width * order)], axis=2)


def whisper_features(
    graph: Graph, samples: Value, lengths: Value, shape: WhisperShape, *, sums: bool, int8: bool
) -> Value:
    """Features (B, T, D) of a Whisper encoder of samples (B, N), N at least a window, and their lengths.

    Args:
        sums: take the weighted sum of all layers; see `asr.acoustic.pretrained.PretrainedFrontend`.
        int8: compute the products of the layers in 8 bits.
    """
    width, batch = shape.d_model, lengths.size(0)
    frame_lengths = shape.num_frames(lengths)
    embedded = _embedded(graph, samples, lengths, shape)
    num_frames = embedded.size(1)
    mask = valid(graph, frame_lengths.clamp(min=1), num_frames)
    zeros = graph.constant(np.float32(0))
    attended = zeros.where(mask, -math.inf).expand_dims(1, 2)  # (B, 1, 1, T), added to scores
    hidden = embedded.reshape(-1, width)  # (B T, D)
    outputs = [hidden]
    for number in range(shape.encoder_layers):
        hidden = _whisper_layer(graph, hidden, attended, shape, number, batch, int8=int8)
        outputs.append(hidden)
    if shape.normalize_output:
        outputs[-1] = layer_norm(graph, hidden, "frontend.encoder.layer_norm", width)
    features = layer_norm(graph, outputs[-1], "", width)
    if sums:
        shares = graph.tensor("frontend.layer_weights", len(outputs)).apply("Softmax", axis=0)
        normalized = [layer_norm(graph, output, "", width).expand_dims(2) for output in outputs]
        features = layer_norm(graph, graph.concat(normalized, axis=2) @ shares, "", width)
    features = features.reshape(batch, num_frames, width)
    return features.where(valid(graph, frame_lengths, num_frames).expand_dims(2), 0.0)


def _embedded(graph: Graph, samples: Value, lengths: Value, shape: WhisperShape) -> Value:
    """The input (B, T, D) of the first layer."""
    name, width, bins = "frontend.encoder", shape.d_model, shape.num_mel_bins
    half = FFT_LENGTH // 2
    samples = samples.where(valid(graph, lengths, samples.size(1)), 0.0)
    # The beginning is reflected; behind the end are zeros, enough for N // HOP_LENGTH frames.
    begin = samples.apply("Slice", np.array([half]), np.array([0]), np.array([1]), np.array([-1]))
    samples = graph.concat([begin, samples.pad(1, 2, 0, half - HOP_LENGTH)], axis=1)
    kernel = spectrum_kernel(np.fft.rfft(np.diag(whisper_window())))
    energies = graph.constant(whisper_filters(bins).T.astype(np.float32)) @ _power(graph, samples, kernel, HOP_LENGTH)
    log_mel = energies.maximum(np.float32(1e-10)).apply("Log") * (1 / math.log(10))  # (B, M, T)
    mel_lengths = lengths // HOP_LENGTH
    mask = valid(graph, mel_lengths, log_mel.size(2)).expand_dims(1)
    loudest = log_mel.where(mask, -math.inf).apply("ReduceMax", np.array([1, 2]), keepdims=1)
    log_mel = ((log_mel.maximum(loudest - DYNAMIC_RANGE) + 4) / 4).where(mask, 0.0)
    kernels = [
        (graph.tensor(f"{name}.conv1.weight", width, bins, 3), graph.tensor(f"{name}.conv1.bias", width)),
        (graph.tensor(f"{name}.conv2.weight", width, width, 3), graph.tensor(f"{name}.conv2.bias", width)),
    ]
    hidden = log_mel.apply("Conv", *kernels[0], pads=[1, 1]).apply("Gelu").where(mask, 0.0)
    hidden = hidden.apply("Conv", *kernels[1], pads=[1, 1], strides=[2]).apply("Gelu").transpose(0, 2, 1)
    frequencies = np.exp(-math.log(10_000) * np.arange(width // 2) / max(width // 2 - 1, 1)).astype(np.float32)
    phases = graph.count(hidden.size(1)).cast(np.float32).expand_dims(1) * frequencies
    return hidden + graph.concat([phases.apply("Sin"), phases.apply("Cos")], axis=1)


def _whisper_layer(
    graph: Graph, hidden: Value, attended: Value, shape: WhisperShape, number: int, batch: Value, *, int8: bool
) -> Value:
    """(B T, D) -> (B T, D): self-attention and an MLP, each behind a layer norm and added to its input."""
    name, width = f"frontend.encoder.layers.{number}", shape.d_model
    heads = shape.encoder_attention_heads
    normed = layer_norm(graph, hidden, f"{name}.self_attn_layer_norm", width)
    projections = [f"{name}.self_attn.{each}_proj" for each in "qkv"]
    bias = graph.weight(
        f"{name}.self_attn.biases",
        {f"{projections[0]}.bias": (width,), f"{projections[2]}.bias": (width,)},  # keys have none
        lambda query, value: np.concatenate([query, np.zeros_like(query), value]),
    )
    shapes = {f"{projection}.weight": (width, width) for projection in projections}
    projected = product(
        graph, normed, f"{name}.self_attn", shapes, lambda *parts: np.concatenate(parts), bias, int8=int8
    )
    parts = projected.reshape(batch, -1, 3, heads, width // heads).transpose(2, 0, 3, 1, 4)  # (3, B, H, T, D / H)
    query, key, value = (part.apply("Squeeze", np.array([0])) for part in graph.split(parts, 3, axis=0))
    scores = (query @ key.transpose(0, 1, 3, 2)) * (width // heads) ** -0.5 + attended
    context = (scores.apply("Softmax", axis=-1) @ value).transpose(0, 2, 1, 3).reshape(-1, width)
    hidden = hidden + linear(graph, context, f"{name}.self_attn.out_proj", (width, width), int8=int8)
    inner = layer_norm(graph, hidden, f"{name}.final_layer_norm", width)
    inner = linear(graph, inner, f"{name}.fc1", (shape.encoder_ffn_dim, width), int8=int8).apply("Gelu")
    return hidden + linear(graph, inner, f"{name}.fc2", (width, shape.encoder_ffn_dim))
