"""The network of marks and case as an ONNX graph; see `asr.readable.network` for a drawing."""

from __future__ import annotations

import numpy as np

from asr.compute.onnx_graph import Graph, Value
from asr.compute.recurrence import recurrent_layer
from asr.readable.features import ReadableConfig
from asr.readable.marked_text import CASES, MARKS


def make_graph(config: ReadableConfig) -> Graph:
    """From words (T,), grams (T, P) and pauses (T, 2) to marks (T, 5) and cases (T, 5, 3), all scores.

    The cases are those after each possible mark before the word.
    """
    graph, shape = Graph(), config.network
    width, hidden, inner = shape.embedding_size, shape.hidden_size, shape.case_size
    words = graph.input("words", np.int64, "T")
    grams = graph.input("grams", np.int64, "T", "P")
    pauses = graph.input("pauses", np.float32, "T", 2)
    own = graph.tensor("words.weight", len(config.entries) + 1, width).apply("Gather", words)
    rows = graph.tensor("grams.weight", shape.buckets + 1, width).apply("Gather", grams)  # (T, P, D); row 0 is zeros
    is_gram = grams.minimum(np.int64(1)).cast(np.float32)
    mean = rows.sum(1).apply("Squeeze", np.array([1])) / is_gram.sum(1).maximum(np.float32(1))
    values = graph.concat([own + mean, pauses], axis=1).expand_dims(1)  # (T, B = 1, D)
    for number in range(shape.num_layers):
        outputs, *_ = recurrent_layer(
            graph,
            values,
            None,
            cell="lstm",
            prefixes=(f"layers.{number}", f"layers.{number}.backward"),
            width=width + 2 if number == 0 else 2 * hidden,
            hidden=hidden,
        )
        values = outputs.transpose(0, 2, 1, 3).reshape(0, 0, 2 * hidden)  # (T, directions, B, H) -> (T, B, 2 H)
    values = values.apply("Squeeze", np.array([1]))
    graph.output("marks", _linear(graph, values, "marks", 2 * hidden, len(MARKS)), "T", len(MARKS))
    before = graph.tensor("before.weight", len(MARKS), inner)
    vectors = (_linear(graph, values, "inner", 2 * hidden, inner).expand_dims(1) + before).apply("Tanh")  # (T, 5, D)
    cases = vectors @ graph.tensor("cases.weight", len(CASES), inner).transpose(1, 0)
    graph.output("cases", cases + graph.tensor("cases.bias", len(CASES)), "T", len(MARKS), len(CASES))
    return graph


def _linear(graph: Graph, values: Value, name: str, inputs: int, outputs: int) -> Value:
    matrix = graph.tensor(f"{name}.weight", outputs, inputs).transpose(1, 0)
    return values @ matrix + graph.tensor(f"{name}.bias", outputs)
