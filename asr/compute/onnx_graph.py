"""ONNX graphs, written node by node without torch and without the package onnx.

    graph = Graph()
    samples = graph.input("samples", np.float32, "B", "N")
    graph.output("log_energy", (samples * samples).apply("ReduceSum", np.array([1]), keepdims=0).apply("Log"))
    graph.to_bytes()                        # the content of a .onnx file

Operators of `Value` add nodes. A weight is named, with the shape that it must have in a model folder, before any folder
is read: the graph then tells which tensors a folder must hold, and how its own arrays are made from them.

Source: https://onnx.ai/onnx/intro/concepts.html; onnx/onnx.proto3 of ONNX 1.16, for the numbers of the fields.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

IR_VERSION, OPSET = 9, 20  # of onnxruntime 1.18
MICROSOFT = "com.microsoft"  # operations that only onnxruntime has
EXTERNAL_FROM = 1024  # bytes of a weight from which on `to_bytes(None)` leaves its values out

_DATA_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9}
_Array = np.ndarray | np.generic | float | int | bool
_Field = tuple[int, int | float | str | bytes]  # of a message of protobuf: its number and its value
Make = Callable[..., np.ndarray]


class Value:
    """An array of a graph, which is known when the graph is computed.

    Args:
        graph: its graph.
        name: its name in the graph.
        dtype: of its elements.
    """

    def __init__(self, graph: Graph, name: str, dtype: np.dtype):
        self.graph, self.name, self.dtype = graph, name, dtype

    def apply(self, kind: str, *others: Value | _Array | None, **attributes: Any) -> Value:
        """The first output of a node with this value as its first input."""
        return self.graph.node(kind, self, *others, **attributes)[0]

    def cast(self, dtype: Any) -> Value:
        """The values in another type."""
        return self.apply("Cast", dtype=dtype, to=_DATA_TYPES[np.dtype(dtype).name])

    def size(self, axis: int) -> Value:
        """The length of an axis, a number of int64."""
        return self.apply("Shape", dtype=np.int64, start=axis, end=axis + 1).apply("Squeeze", np.array([0]))

    def reshape(self, *shape: int | Value) -> Value:
        """Another shape; in it -1 is the rest, 0 the length of the same axis."""
        if all(isinstance(length, int) for length in shape):
            return self.apply("Reshape", np.array(shape, dtype=np.int64))
        parts = [
            length.reshape(1) if isinstance(length, Value) else self.graph.constant(np.array([length]))
            for length in shape
        ]
        return self.apply("Reshape", self.graph.concat(parts, axis=0))

    def transpose(self, *axes: int) -> Value:
        """The axes in another order."""
        return self.apply("Transpose", perm=axes)

    def expand_dims(self, *axes: int) -> Value:
        """Axes of length 1 at these places of the result."""
        return self.apply("Unsqueeze", np.array(axes))

    def slice(self, axis: int, start: int | Value, stop: int | Value | None = None) -> Value:
        """The part [start, stop) of an axis; None is its end."""
        bounds = [
            bound.reshape(1) if isinstance(bound, Value) else np.array([bound])
            for bound in (start, np.iinfo(np.int64).max if stop is None else stop)
        ]
        return self.apply("Slice", *bounds, np.array([axis]))

    def pad(self, axis: int, rank: int, before: int | Value, after: int | Value) -> Value:
        """Zeros before and after an axis of an array of so many axes."""
        zeros = self.graph.constant(np.zeros(1, dtype=np.int64))
        amounts = [zeros] * (2 * rank)
        for place, amount in ((axis, before), (rank + axis, after)):
            amounts[place] = self.graph.as_value(amount, np.int64).reshape(1)
        return self.apply("Pad", self.graph.concat(amounts, axis=0))

    def sum(self, *axes: int) -> Value:
        """The sum over axes, which stay with length 1."""
        return self.apply("ReduceSum", np.array(axes), keepdims=1)

    def where(self, condition: Value, otherwise: Value | _Array) -> Value:
        """This value where the condition is true."""
        other = self.graph.as_value(otherwise, self.dtype)
        return self.graph.node("Where", condition, self, other, dtype=self.dtype)[0]

    def __add__(self, other: Any) -> Value:
        return self.apply("Add", self.graph.as_value(other, self.dtype))

    def __sub__(self, other: Any) -> Value:
        return self.apply("Sub", self.graph.as_value(other, self.dtype))

    def __mul__(self, other: Any) -> Value:
        return self.apply("Mul", self.graph.as_value(other, self.dtype))

    def __truediv__(self, other: Any) -> Value:
        return self.apply("Div", self.graph.as_value(other, self.dtype))

    def __floordiv__(self, other: Any) -> Value:
        """Of integers of 0 or more: ONNX rounds towards zero."""
        return self.apply("Div", self.graph.as_value(other, self.dtype))

    def __mod__(self, other: Any) -> Value:
        """With the sign of the divisor, as in Python."""
        return self.apply("Mod", self.graph.as_value(other, self.dtype))

    def __matmul__(self, other: Any) -> Value:
        return self.apply("MatMul", self.graph.as_value(other, self.dtype))

    def __rsub__(self, other: Any) -> Value:
        return self.graph.as_value(other, self.dtype) - self

    def __lt__(self, other: Any) -> Value:
        return self.apply("Less", self.graph.as_value(other, self.dtype), dtype=np.bool_)

    def clamp(self, *, min: float) -> Value:
        """The values, at least `min`."""
        return self.maximum(min)

    def minimum(self, other: Value | _Array) -> Value:
        return self.apply("Min", self.graph.as_value(other, self.dtype))

    def maximum(self, other: Value | _Array) -> Value:
        return self.apply("Max", self.graph.as_value(other, self.dtype))


@dataclass(frozen=True)
class Weight:
    """An array of a graph that comes from a model folder.

    Args:
        shapes: of the tensors of the folder that it is made from, by name.
        make: makes it from these tensors, in this order.
    """

    shapes: Mapping[str, tuple[int, ...]]
    make: Make


class Graph:
    """Nodes in the order of their computation, with inputs, outputs, constants and weights."""

    def __init__(self) -> None:
        self.weights: dict[str, Weight] = {}
        self._constants: dict[str, np.ndarray] = {}
        self._nodes: list[bytes] = []
        self._inputs: list[bytes] = []
        self._outputs: list[bytes] = []
        self._domains = {"": OPSET}
        self._count = 0

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The tensors that a model folder must have for this graph, and their shapes."""
        return {name: shape for weight in self.weights.values() for name, shape in weight.shapes.items()}

    def input(self, name: str, dtype: Any, *shape: int | str) -> Value:
        """An input; names in its shape are lengths that may vary."""
        self._inputs.append(_value_info(name, np.dtype(dtype), shape))
        return Value(self, name, np.dtype(dtype))

    def output(self, name: str, value: Value, *shape: int | str) -> None:
        """Declare a value as an output with this name."""
        self._add_node("Identity", [value.name], [name], "", {})
        self._outputs.append(_value_info(name, value.dtype, shape))

    def weight(self, name: str, shapes: Mapping[str, tuple[int, ...]], make: Make, *, dtype: Any = np.float32) -> Value:
        """An array made from tensors of a model folder; see `Weight`."""
        self.weights[name] = Weight(shapes, make)
        return Value(self, name, np.dtype(dtype))

    def tensor(self, name: str, *shape: int) -> Value:
        """A tensor of a model folder, as it is."""
        return self.weight(name, {name: shape}, lambda tensor: tensor)

    def constant(self, array: _Array) -> Value:
        """A constant array."""
        name = f"constant_{len(self._constants)}"
        self._constants[name] = np.asarray(array)
        return Value(self, name, self._constants[name].dtype)

    def as_value(self, value: Value | _Array, dtype: Any) -> Value:
        """A value unchanged, or numbers as a constant of this type."""
        return value if isinstance(value, Value) else self.constant(np.asarray(value, dtype=dtype))

    def concat(self, values: Iterable[Value], *, axis: int) -> Value:
        """Values joined on an axis."""
        first, *others = values
        return first.apply("Concat", *others, axis=axis)

    def split(self, value: Value, parts: int, *, axis: int) -> list[Value]:
        """Equal parts of an axis."""
        return self.node("Split", value, outputs=parts, axis=axis, num_outputs=parts)

    def count(self, length: Value, *, start: int | Value = 0) -> Value:
        """The numbers from `start` on, so many, (length,) int64."""
        first = self.as_value(start, np.int64)
        return first.apply("Range", first + length, np.int64(1))

    def node(
        self,
        kind: str,
        *inputs: Value | _Array | None,
        outputs: int = 1,
        domain: str = "",
        dtype: Any = None,
        **attributes: Any,
    ) -> list[Value]:
        """The outputs of a new node.

        Args:
            kind: of operation, by its name in ONNX.
            inputs: None leaves out an optional one.
            outputs: how many it has.
            domain: of the operation.
            dtype: of the outputs; None: that of the first input.
            attributes: numbers, strings or sequences of them.
        """
        values = [entry if isinstance(entry, Value) or entry is None else self.constant(entry) for entry in inputs]
        while values and values[-1] is None:  # onnxruntime expects a name where there is an entry
            values.pop()
        names = [f"{kind}_{self._count}_{number}" if number else f"{kind}_{self._count}" for number in range(outputs)]
        self._count += 1
        self._add_node(kind, [value.name if value else "" for value in values], names, domain, attributes)
        if dtype is None:
            dtype = next(value.dtype for value in values if value)
        return [Value(self, name, np.dtype(dtype)) for name in names]

    def _add_node(
        self, kind: str, inputs: Sequence[str], outputs: Sequence[str], domain: str, attributes: Mapping[str, Any]
    ) -> None:
        if domain:
            self._domains[domain] = 1
        fields: list[_Field] = [*((1, name) for name in inputs), *((2, name) for name in outputs)]
        fields += [(3, outputs[0]), (4, kind)]
        fields += [(5, _attribute(name, value)) for name, value in attributes.items()] + [(7, domain)]
        self._nodes.append(_message(fields))

    def arrays(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The weights by name, made from the tensors of a folder; see `shapes`."""
        return {
            name: np.ascontiguousarray(weight.make(*map(tensors.__getitem__, weight.shapes)))
            for name, weight in self.weights.items()
        }

    def to_bytes(
        self, arrays: Mapping[str, np.ndarray], *, external: bool = False, metadata: Mapping[str, str] | None = None
    ) -> bytes:
        """The graph as the content of a .onnx file.

        Args:
            arrays: the weights, from `arrays`.
            external: leave out the values of large weights, which the session then gets as arrays.
            metadata: names and texts, for readers of the file.
        """
        tensors = [_tensor(name, array, external=False) for name, array in self._constants.items()]
        tensors += [_tensor(name, array, external=external) for name, array in arrays.items()]
        graph: list[_Field] = [(1, node) for node in self._nodes]
        graph += [(2, "graph"), *((5, tensor) for tensor in tensors)]
        graph += [(11, entry) for entry in self._inputs] + [(12, entry) for entry in self._outputs]
        model: list[_Field] = [(7, _message(graph))]
        model += [(8, _message([(1, domain), (2, version)])) for domain, version in self._domains.items()]
        model += [(14, _message([(1, key), (2, text)])) for key, text in (metadata or {}).items()]
        return HEADER + _message(model)


def is_ours(path: str | os.PathLike[str]) -> bool:
    """Whether `Graph.to_bytes` made a file."""
    with open(path, "rb") as file:
        return file.read(len(HEADER)) == HEADER


def is_external(array: np.ndarray) -> bool:
    """Whether `Graph.to_bytes` leaves out the values of this weight if it may."""
    return array.nbytes >= EXTERNAL_FROM


def _tensor(name: str, array: np.ndarray, *, external: bool) -> bytes:
    """TensorProto."""
    fields: list[_Field] = [(1, length) for length in array.shape]
    fields += [(2, _DATA_TYPES[array.dtype.name]), (8, name)]
    if external and is_external(array):
        return _message([*fields, (13, _message([(1, "location"), (2, "weights")])), (14, 1)])
    return _message([*fields, (9, array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())])


def _attribute(name: str, value: Any) -> bytes:
    """AttributeProto."""
    if isinstance(value, float):
        return _message([(1, name), (2, value), (20, 1)])
    if isinstance(value, int):
        return _message([(1, name), (3, value), (20, 2)])
    if isinstance(value, str):
        return _message([(1, name), (4, value), (20, 3)])
    if isinstance(value[0], str):
        return _message([(1, name), *((9, entry) for entry in value), (20, 8)])
    return _message([(1, name), *((8, entry) for entry in value), (20, 7)])


def _value_info(name: str, dtype: np.dtype, shape: Sequence[int | str]) -> bytes:
    """ValueInfoProto."""
    lengths = [_message([(1 if isinstance(length, int) else 2, length)]) for length in shape]
    tensor = _message([(1, _DATA_TYPES[dtype.name]), (2, _message([(1, length) for length in lengths]))])
    return _message([(1, name), (2, _message([(1, tensor)]))])


def _message(fields: Iterable[_Field]) -> bytes:
    """A message of protobuf, from the numbers and values of its fields.

    Source: https://protobuf.dev/programming-guides/encoding.
    """
    parts: list[bytes] = []
    for number, value in fields:
        if isinstance(value, float):
            parts += _varint(number << 3 | 5), struct.pack("<f", value)
        elif isinstance(value, int):
            parts += _varint(number << 3), _varint(value)
        else:
            content = value.encode() if isinstance(value, str) else value
            parts += _varint(number << 3 | 2), _varint(len(content)), content
    return b"".join(parts)


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; negative numbers as 64 bits."""
    number &= (1 << 64) - 1
    content = bytearray()
    while number >= 128:
        content.append(number & 127 | 128)
        number >>= 7
    return bytes([*content, number])


HEADER = _message([(1, IR_VERSION), (2, "asr")])  # of ModelProto: its version, and who made it
