"""Recurrent language models without their runtime: configuration, which one a name means, and scores of sentences.

`asr.lm.rnn` computes them in torch, `asr.lm.onnx_lm` in onnxruntime, from the same folder.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np

from asr.errors import ConfigError, InputError
from asr.files.model_config import embedded_folders, holds, out_of_run
from asr.lm.perplexity import SentenceScore
from asr.lm.vocabulary import EOS, EOS_TEXT, Unit, Vocabulary
from asr.options import check_options, option
from asr.text.normalization import TextOptions, normalize

KIND: Final = "language model"
DEFAULT_LANGUAGE_MODEL = "english-lm"

ROWS = 128  # sentences scored in one batch
MOST_CUTOFFS = 16
CELLS = 1 << 23  # values of the largest array of one pass: 32 MB


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Shape of a recurrent language model."""

    cell: Literal["rnn-tanh", "gru", "lstm"] = option("lstm", "recurrent cell")
    num_layers: int = option(1, "recurrent layers", least=1, most=256)
    hidden_size: int = option(512, "units of each layer", least=1, most=65536)
    embedding_size: int = option(
        256, "width of embeddings and softmax; the last layer is projected to it", least=1, most=65536
    )
    tied: bool = option(True, "share one set of weights between embedding and softmax")
    cutoffs: tuple[int, ...] = option(
        (2000, 10000),
        "begin clusters of rarer tokens here in an adaptive softmax; numbers beyond the vocabulary are ignored",
        above=1,
    )
    divisor: int = option(4, "give the tokens of each cluster N times fewer weights", least=1, most=65536)
    layer_norm: bool = option(False, "normalise after each layer")
    dropout: float = option(0.1, "dropout after the embedding and after each layer", least=0, below=1)

    def __post_init__(self) -> None:
        check_options(self)
        if len(self.cutoffs) > MOST_CUTOFFS:
            raise ConfigError(f"cutoffs must be at most {MOST_CUTOFFS} numbers, not {len(self.cutoffs)}", "cutoffs")
        if list(self.cutoffs) != sorted(set(self.cutoffs)):
            raise ConfigError(f"cutoffs must be ascending numbers, not {self.cutoffs}", "cutoffs")

    def clusters(self, num_tokens: int) -> list[int]:
        """The first tokens of the clusters of a vocabulary of this size; none for a plain softmax.

        Raises:
            ConfigError: the last cluster's tokens would have less than one weight each.
        """
        cutoffs = [cutoff for cutoff in self.cutoffs if cutoff < num_tokens]
        if self.embedding_size < self.divisor ** len(cutoffs):
            raise ConfigError(
                f"embedding_size must be at least divisor ** clusters ({self.divisor} ** {len(cutoffs)}), "
                f"not {self.embedding_size}",
                *("embedding_size", "divisor"),
            )
        return cutoffs


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig:
    """Everything about a language model except its weights: the content of config.json.

    Args:
        unit: of its tokens.
        entries: the words or characters of its vocabulary, most frequent first.
        text: how texts were normalised before they became tokens.
        network: shape of the recurrent stack.
        name: its name in commands.
        description: its purpose, in a sentence.
        provenance: data, licence, seed, versions and measured perplexities, as JSON values.
    Raises:
        InputError: the entries are not a vocabulary.
        ConfigError: the network's embeddings are too narrow for so many entries.
    """

    unit: Unit
    entries: tuple[str, ...]
    text: TextOptions = field(default_factory=TextOptions)
    network: NetworkOptions = field(default_factory=NetworkOptions)
    name: str = ""
    description: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.network.clusters(Vocabulary(self.unit, self.entries).size)


class TokenScores(Protocol):
    """The scores of the tokens of sentences by a recurrent language model, in any runtime.

    Hidden vectors and states are arrays of the runtime, whose rows can be indexed by arrays of NumPy.

    Attributes:
        config: everything about the model except its weights.
        vocabulary: its tokens.
    """

    config: LanguageModelConfig
    vocabulary: Vocabulary

    def start_state(self, batch: int) -> Any:
        """The state (B, num_layers, S) before a sentence, whose first token is <eos>."""

    def advance(self, tokens: np.ndarray, state: Any) -> tuple[Any, Any]:
        """The hidden vectors (B, T, D) after each of some tokens (B, T) int64, and the state after the last one."""

    def target_scores(self, hidden: Any, targets: np.ndarray) -> np.ndarray:
        """Log-probabilities (N,) float64 of tokens (N,) int64, each after its hidden vector (N, D)."""

    def join(self, parts: Sequence[Any]) -> Any:
        """The rows of several arrays of the runtime, one after the other."""

    @property
    def widest(self) -> int:
        """Values of the largest array of a pass, for each token."""
        network, size = self.config.network, self.vocabulary.size
        bounds = [0, *network.clusters(size), size]
        first, *others = np.diff(bounds).tolist()
        return max(first + max(others, default=0), 4 * network.hidden_size)

    def token_scores(self, sentences: Sequence[str]) -> list[SentenceScore]:
        """The scores of the tokens of each sentence, which is normalised like the model's texts, and may be empty.

        A sentence has the same scores alone and in a batch. Words outside the vocabulary have the probability of <unk>;
        characters outside the vocabulary make a sentence impossible: -inf.

        Raises:
            InputError: sentences is a single str.
        """
        if isinstance(sentences, str):
            raise InputError("sentences must be several texts, not one str; put it in a list")
        texts = [normalize(sentence, self.config.text) for sentence in sentences]
        tokens = [tuple(text.split() if self.config.unit == "word" else text) for text in texts]
        known = [np.array([*map(self.vocabulary.__contains__, row), True]) for row in tokens]
        sequences = [np.array(self.vocabulary.encode(text, dropped=Counter()), dtype=np.int64) for text in texts]
        scores = []
        for text, row, is_known, log_probs in zip(texts, tokens, known, self.score_tokens(sequences), strict=True):
            if self.config.unit == "character":
                whole = np.full(len(is_known), -np.inf)
                whole[is_known] = log_probs
                log_probs = whole
            scores.append(SentenceScore(text=text, tokens=(*row, EOS_TEXT), log_probs=log_probs, known=is_known))
        return scores

    def score_tokens(self, sequences: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Log-probability of each token of each sentence, and of the <eos> after it.

        Sentences of similar length form a batch, and long ones are cut into pieces, so that memory is bounded; rows
        that have ended are dropped.

        Args:
            sequences: int64 tokens in 1 .. V - 1 of each sentence.
        Returns:
            For each sentence of n tokens (n + 1,) float64.
        """
        steps = np.array([len(sequence) + 1 for sequence in sequences])
        scores = [np.empty(count) for count in steps]
        order = np.argsort(-steps, kind="stable")
        for start in range(0, len(order), ROWS):
            rows = order[start : start + ROWS]
            state = self.start_state(len(rows))
            for begin, tokens, targets in _pieces([sequences[row] for row in rows], self.widest):
                own = targets >= 0
                hidden, state = self.advance(tokens, state[: len(tokens)])
                pieces = np.split(self.target_scores(hidden[own], targets[own]), own.sum(axis=1).cumsum()[:-1])
                for row, piece in zip(rows, pieces, strict=False):  # rows that have ended are last
                    scores[row][begin : begin + len(piece)] = piece
        return scores


def _pieces(sequences: Sequence[np.ndarray], width: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The start of each piece, and inputs and targets (B, T) of the sentences that reach it; -1 is no target.

    The sentences are sorted, longest first. A piece has so many tokens that an array of `width` values for each token
    stays below `CELLS` values.
    """
    steps = np.array([len(sequence) + 1 for sequence in sequences])
    length = max(1, CELLS // (width * len(sequences)))
    for begin in range(0, steps[0], length):
        active = int((steps > begin).sum())
        end = min(begin + length, steps[0])
        tokens = np.full((active, end - begin), EOS)
        targets = np.full((active, end - begin), -1)
        for row, sequence in enumerate(sequences[:active]):
            before = sequence[max(begin - 1, 0) : end - 1]
            offset = int(begin == 0)  # the first input is <eos>
            tokens[row, offset : offset + len(before)] = before
            after = sequence[begin:end]
            targets[row, : len(after)] = after
            if begin <= len(sequence) < end:
                targets[row, len(sequence) - begin] = EOS
        yield begin, tokens, targets


def embedded_language_models() -> dict[str, Path]:
    """The language models of the package, name to folder; one inside an acoustic model has the name of the model."""
    inside = {name: folder / "lm" for name, folder in embedded_folders("acoustic model").items()}
    return {**{name: folder for name, folder in inside.items() if holds(folder, KIND)}, **embedded_folders(KIND)}


def find_language_model(model: str | os.PathLike[str] | None = None) -> Path:
    """The folder of a language model, given a folder, the name of an embedded one, or None for the default.

    The folder of a training stands for the model in it, and an acoustic model for the language model in its subfolder
    `lm`.

    Raises:
        InputError: it is neither a folder nor the name of an embedded language model.
        DataError: the configuration in the folder cannot be read, or its training has not finished a model.
    """
    embedded = embedded_language_models()
    model = model or DEFAULT_LANGUAGE_MODEL
    if str(model) in embedded:
        return embedded[str(model)]
    if Path(model).is_dir():
        folder = out_of_run(Path(model))
        return folder / "lm" if not holds(folder, KIND) and holds(folder / "lm", KIND) else folder
    if Path(model).is_file():
        raise InputError(f"{os.fspath(model)} must be the folder of a recurrent language model, but is a file")
    names = ", ".join(embedded) or "none"
    raise InputError(
        f"no language model {os.fspath(model)!r}: give a model folder, or one of the embedded language models: {names}"
    )
