"""Layers that several parts of the graphs of our models have."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from asr.compute.onnx_graph import Graph, Make, Value
from asr.compute.recurrence import quantized

NORM_EPSILON = 1e-5  # of torch


def valid(graph: Graph, lengths: Value, num_frames: Value) -> Value:
    """(B, T) bool, true for the frames of the utterance."""
    return graph.count(num_frames) < lengths.expand_dims(1)


def layer_norm(graph: Graph, hidden: Value, name: str, width: int) -> Value:
    """The last axis with mean 0 and deviation 1, then scaled and moved by the tensors of a name, if there is one."""
    scale = graph.tensor(f"{name}.weight", width) if name else graph.constant(np.ones(width, dtype=np.float32))
    bias = graph.tensor(f"{name}.bias", width) if name else None
    return hidden.apply("LayerNormalization", scale, bias, axis=-1, epsilon=NORM_EPSILON)


def linear(graph: Graph, inputs: Value, name: str, shape: tuple[int, int], *, int8: bool = False) -> Value:
    """(N, in) -> (N, out) by the tensors of a name, whose weight has the shape (out, in)."""
    bias = graph.tensor(f"{name}.bias", shape[0])
    return product(graph, inputs, name, {f"{name}.weight": shape}, lambda matrix: matrix, bias, int8=int8)


def product(
    graph: Graph,
    inputs: Value,
    name: str,
    shapes: Mapping[str, tuple[int, ...]],
    make: Make,
    bias: Value,
    *,
    int8: bool = False,
) -> Value:
    """(N, in) -> (N, out) by a bias (out,) and a matrix (out, in), which is made from tensors of some shapes."""
    if not int8:
        return inputs.apply("Gemm", graph.weight(f"{name}.matrix", shapes, make), bias, transB=1)
    matrix = graph.weight(f"{name}.int8", shapes, lambda *tensors: quantized(make(*tensors))[0].T, dtype=np.int8)
    steps = graph.weight(f"{name}.steps", shapes, lambda *tensors: quantized(make(*tensors))[1])
    rounded, step, zero = graph.node("DynamicQuantizeLinear", inputs, outputs=3, dtype=np.uint8)
    products = rounded.apply("MatMulInteger", matrix, zero, dtype=np.int32).cast(np.float32)
    return products * (steps * Value(graph, step.name, np.dtype(np.float32))) + bias
