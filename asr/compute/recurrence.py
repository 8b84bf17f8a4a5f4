"""Recurrent layers as nodes of an ONNX graph, with the weights of torch's layers; see `asr.compute.cells`."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from asr.compute.onnx_graph import MICROSOFT, Graph, Make, Value

Cell = Literal["rnn-tanh", "rnn-relu", "gru", "lstm", "peephole-lstm"]

# The kind of node, and torch's gates in the order of ONNX: i f g o as i o f g; r z n as z r n.
_KINDS: dict[str, tuple[str, tuple[int, ...]]] = {
    "rnn-tanh": ("RNN", (0,)),
    "rnn-relu": ("RNN", (0,)),
    "gru": ("GRU", (1, 0, 2)),
    "lstm": ("LSTM", (0, 3, 1, 2)),
    "peephole-lstm": ("LSTM", (0, 3, 1, 2)),
}
_SEVEN_BITS = 63  # a processor without VNNI adds two products of 8 bits in 16, with saturation


def tensor_shapes(cell: Cell, prefix: str, *, width: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """The tensors of `asr.compute.cells.make_cell`, by name: input weights, recurrent weights, biases, peepholes."""
    rows = len(_KINDS[cell][1]) * hidden
    if cell == "peephole-lstm":
        return {
            f"{prefix}.inputs.weight": (rows, width),
            f"{prefix}.recurrent.weight": (rows, hidden),
            f"{prefix}.inputs.bias": (rows,),
            f"{prefix}.peepholes": (3, hidden),
        }
    return {
        f"{prefix}.weight_ih_l0": (rows, width),
        f"{prefix}.weight_hh_l0": (rows, hidden),
        f"{prefix}.bias_ih_l0": (rows,),
        f"{prefix}.bias_hh_l0": (rows,),
    }


def recurrent_layer(
    graph: Graph,
    inputs: Value,
    lengths: Value | None,
    *,
    cell: Cell,
    prefixes: tuple[str, ...],
    width: int,
    hidden: int,
    state: tuple[Value, ...] = (),
    int8: bool = False,
) -> list[Value]:
    """The outputs (T, D, B, H) of a layer in D directions, and its last states (D, B, H): one, or two for an LSTM.

    The second direction reads each sequence from its last frame. Outputs past a sequence's length are zeros.

    Args:
        inputs: (T, B, width), T at least 1.
        lengths: (B,) int32, 1 to T; None: all are T.
        cell: kind of the layer.
        prefixes: of the names of its tensors, for one direction or two.
        width: of the inputs.
        hidden: H.
        state: the first states; zeros without them.
        int8: compute an LSTM with 8-bit weights and inputs.
    """
    kind, order = _KINDS[cell]
    directions = [list(tensor_shapes(cell, prefix, width=width, hidden=hidden).items()) for prefix in prefixes]

    def weight(suffix: str, places: tuple[int, ...], make: Make, dtype: Any = np.float32) -> Value:
        """An array with an axis of directions, each made from the tensors in these places."""
        shapes = dict(direction[place] for direction in directions for place in places)

        def stack(*tensors: np.ndarray) -> np.ndarray:
            size = len(places)
            return np.stack([make(*tensors[start : start + size]) for start in range(0, len(tensors), size)])

        return graph.weight(f"{prefixes[0]}.{suffix}", shapes, stack, dtype=dtype)

    def gates(tensor: np.ndarray) -> np.ndarray:
        """A tensor (gates x H, ...) with its gates in the order of ONNX."""
        parts = np.split(tensor, len(order))
        return np.concatenate([parts[gate] for gate in order])

    def biases(inputs: np.ndarray, recurrent: np.ndarray | None = None) -> np.ndarray:
        """The biases of the inputs, then those of the recurrent weights."""
        return np.concatenate([gates(inputs), np.zeros_like(inputs) if recurrent is None else gates(recurrent)])

    attributes: dict[str, Any] = {"hidden_size": hidden}
    if len(prefixes) > 1:
        attributes["direction"] = "bidirectional"
    if kind == "GRU":
        attributes["linear_before_reset"] = 1
    if kind == "RNN":
        attributes["activations"] = ["Tanh" if cell == "rnn-tanh" else "Relu"] * len(prefixes)
    has_peepholes = cell == "peephole-lstm"
    bias = weight("biases", (2,) if has_peepholes else (2, 3), biases)
    outputs = 3 if kind == "LSTM" else 2
    others = [*state, *[None] * (outputs - 1 - len(state))]
    if int8 and cell == "lstm":
        matrices, steps = [], []
        for place, name in enumerate(("inputs", "recurrent")):
            matrices.append(weight(f"{name}.int8", (place,), lambda tensor: quantized(gates(tensor))[0].T, np.int8))
            steps.append(weight(f"{name}.steps", (place,), lambda tensor: quantized(gates(tensor))[1]))
        zeros = np.zeros((len(prefixes), len(order) * hidden), dtype=np.int8)
        return graph.node(
            "DynamicQuantizeLSTM",
            *(inputs, *matrices, bias, lengths, *others, None, steps[0], zeros, steps[1], zeros),
            outputs=outputs,
            domain=MICROSOFT,
            **attributes,
        )
    matrices = [weight(name, (place,), gates) for place, name in enumerate(("inputs", "recurrent"))]
    if has_peepholes:  # of the input, output and forget gate
        others.append(weight("peepholes", (3,), lambda tensor: tensor[[0, 2, 1]].ravel()))
    return graph.node(kind, inputs, *matrices, bias, lengths, *others, outputs=outputs, **attributes)


def quantized(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a matrix (R, C) in steps of seven bits, int8, and the step of each row (R,) float32."""
    steps = np.maximum(np.abs(matrix).max(axis=1), np.finfo(np.float32).tiny) / np.float32(_SEVEN_BITS)
    return np.rint(matrix / steps[:, None]).astype(np.int8), steps.astype(np.float32)
