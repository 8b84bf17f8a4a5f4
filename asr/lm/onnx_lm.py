"""`OnnxLanguageModel`: a recurrent language model in onnxruntime, without torch; see `asr.lm.rnn`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from asr.compute.onnx_graph import Graph, Value
from asr.compute.onnx_session import open_graph
from asr.compute.recurrence import recurrent_layer
from asr.files.model_config import read_model_config
from asr.files.model_folder import read_weights
from asr.lm.recurrent import KIND, LanguageModelConfig, NetworkOptions, TokenScores
from asr.lm.vocabulary import NUM_SPECIAL, Vocabulary

NORM_EPSILON = 1e-5  # of torch


class OnnxLanguageModel(TokenScores):
    """A recurrent language model in float32 on the processor.

    Args:
        config: its parts.
        tensors: of its folder; see `tensor_shapes`.
    """

    def __init__(self, config: LanguageModelConfig, tensors: dict[str, np.ndarray]):
        self.config = config
        self.vocabulary = Vocabulary(config.unit, config.entries)
        graphs = _graphs(config.network, self.vocabulary.size)
        self._advance, self._score = (open_graph(graph, tensors) for graph in graphs)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> OnnxLanguageModel:
        """The language model in `folder`.

        Raises:
            DataError: as for `asr.lm.rnn.LanguageModel.load`.
        """
        config = read_model_config(folder, LanguageModelConfig, kind=KIND)
        shapes = tensor_shapes(config.network, len(config.entries) + NUM_SPECIAL[config.unit])
        return cls(config, read_weights(folder, shapes=shapes))

    def start_state(self, batch: int) -> np.ndarray:
        """See `TokenScores.start_state`."""
        network = self.config.network
        width = network.hidden_size * (2 if network.cell == "lstm" else 1)
        return np.zeros((batch, network.num_layers, width), dtype=np.float32)

    def advance(self, tokens: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `TokenScores.advance`."""
        hidden, state = self._advance({"tokens": tokens, "state": state})
        return hidden, state

    def target_scores(self, hidden: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """See `TokenScores.target_scores`."""
        if not len(targets):
            return np.zeros(0)
        (scores,) = self._score({"hidden": hidden, "targets": targets})
        return scores.astype(np.float64)

    def join(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """See `TokenScores.join`."""
        return np.concatenate(parts)


def tensor_shapes(network: NetworkOptions, num_tokens: int) -> dict[str, tuple[int, ...]]:
    """The names and shapes of the tensors of a language model with so many tokens."""
    return {name: shape for graph in _graphs(network, num_tokens) for name, shape in graph.shapes.items()}


def _graphs(network: NetworkOptions, num_tokens: int) -> tuple[Graph, Graph]:
    return _advance_graph(network, num_tokens), _score_graph(network, num_tokens)


def _advance_graph(network: NetworkOptions, num_tokens: int) -> Graph:
    """From tokens (B, T) and state to hidden (B, T, D) and state."""
    graph = Graph()
    layers, size = network.num_layers, network.hidden_size
    num_states = 2 if network.cell == "lstm" else 1
    tokens = graph.input("tokens", np.int64, "B", "T")
    before = graph.input("state", np.float32, "B", layers, num_states * size)
    hidden, width = _embedded(graph, tokens.transpose(1, 0), network, num_tokens), network.embedding_size  # (T, B, D)
    before = before.transpose(1, 0, 2)  # (layers, B, S)
    states = []
    for number in range(layers):
        own = before.slice(0, number, number + 1)  # (1, B, S)
        outputs, *after = recurrent_layer(
            graph,
            hidden,
            None,
            cell=network.cell,
            prefixes=(f"cells.{number}",),
            width=width,
            hidden=size,
            state=tuple(graph.split(own, num_states, axis=2)) if num_states > 1 else (own,),
        )
        hidden, width = outputs.apply("Squeeze", np.array([1])), size
        states.append(graph.concat(after, axis=2))
        if network.layer_norm:
            scale, bias = graph.tensor(f"norms.{number}.weight", size), graph.tensor(f"norms.{number}.bias", size)
            hidden = hidden.apply("LayerNormalization", scale, bias, axis=-1, epsilon=NORM_EPSILON)
    if size != network.embedding_size:
        matrix = graph.tensor("projection.weight", network.embedding_size, size).transpose(1, 0)
        hidden = hidden @ matrix + graph.tensor("projection.bias", network.embedding_size)
    graph.output("hidden", hidden.transpose(1, 0, 2), "B", "T", network.embedding_size)
    graph.output("next_state", graph.concat(states, axis=0).transpose(1, 0, 2), "B", layers, num_states * size)
    return graph


def _embedded(graph: Graph, tokens: Value, network: NetworkOptions, num_tokens: int) -> Value:
    """Embeddings (..., D) of tokens; see `rnn.FullSoftmax.embed` and `rnn.AdaptiveSoftmax.embed`."""
    width = network.embedding_size
    if not network.tied:
        return graph.tensor("embedding.weight", num_tokens, width).apply("Gather", tokens)
    cutoffs = network.clusters(num_tokens)
    if not cutoffs:
        return graph.tensor("softmax.linear.weight", num_tokens, width).apply("Gather", tokens) * width**0.5
    head = graph.tensor("softmax.clusters.head.weight", cutoffs[0] + len(cutoffs), width)
    embedded = head.apply("Gather", tokens.minimum(np.int64(cutoffs[0] - 1)))
    for low, high, into, out in _clusters(graph, network, cutoffs, num_tokens):
        rare = out.apply("Gather", (tokens - low).clamp(min=0).minimum(np.int64(high - low - 1))) @ into
        embedded = embedded.where((tokens < low).expand_dims(-1), rare)
    return embedded * width**0.5


def _score_graph(network: NetworkOptions, num_tokens: int) -> Graph:
    """From hidden (N, D) and targets (N,) to their scores (N,)."""
    graph = Graph()
    width = network.embedding_size
    hidden = graph.input("hidden", np.float32, "N", width)
    targets = graph.input("targets", np.int64, "N")
    cutoffs = network.clusters(num_tokens)
    if not cutoffs:
        matrix = graph.tensor("softmax.linear.weight", num_tokens, width)
        bias = graph.tensor("softmax.linear.bias", num_tokens)
        scores = _picked(hidden.apply("Gemm", matrix, bias, transB=1), targets)
    else:
        head = graph.tensor("softmax.clusters.head.weight", cutoffs[0] + len(cutoffs), width)
        clusters = _clusters(graph, network, cutoffs, num_tokens)
        # The column of the first softmax: a frequent token, or the cluster of a rare one.
        columns = targets
        for number, (low, *_) in enumerate(clusters):
            columns = columns.where(targets < low, np.int64(cutoffs[0] + number))
        scores = _picked(hidden.apply("Gemm", head, transB=1), columns)
        for low, high, into, out in clusters:
            inside = (targets < high).apply("And", (targets < low).apply("Not"))
            rows = inside.apply("NonZero", dtype=np.int64).reshape(-1)
            logits = hidden.apply("Gather", rows).apply("Gemm", into, transB=1).apply("Gemm", out, transB=1)
            inner = _picked(logits, targets.apply("Gather", rows) - low)
            scores = scores.apply("ScatterElements", rows, scores.apply("Gather", rows) + inner, axis=0)
    graph.output("scores", scores, "N")
    return graph


def _picked(logits: Value, columns: Value) -> Value:
    """The log-probability (N,) of one column in each row of logits (N, V)."""
    log_probs = logits.apply("LogSoftmax", axis=-1)
    return log_probs.apply("GatherElements", columns.expand_dims(1), axis=1).reshape(-1)


def _clusters(
    graph: Graph, network: NetworkOptions, cutoffs: list[int], num_tokens: int
) -> list[tuple[int, int, Value, Value]]:
    """Each cluster of rarer tokens: its first token, the one after its last, its matrices (P, D) and (tokens, P)."""
    width, bounds = network.embedding_size, [*cutoffs, num_tokens]
    clusters = []
    for number, (low, high) in enumerate(pairwise(bounds)):
        name, inner = f"softmax.clusters.tail.{number}", width // network.divisor ** (number + 1)
        into = graph.tensor(f"{name}.0.weight", inner, width)
        clusters.append((low, high, into, graph.tensor(f"{name}.1.weight", high - low, inner)))
    return clusters
