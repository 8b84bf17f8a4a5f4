"""Recurrent language models over words or characters, and their folder on disk.

    tokens (B, T) ─▶ embedding ─▶ layer 1 … layer N ─▶ projection ─▶ softmax ─▶ log-probabilities of the next token
                                  dropout, layer norm   where widths differ

A sentence begins in the state of zeros with <eos>, and <eos> ends it:

    log p(w_1 … w_n) = Σ_i log p(w_i | <eos> w_1 … w_{i-1}) + log p(<eos> | <eos> w_1 … w_n)

The embedding and the softmax share their weights if they are tied. A large vocabulary has an adaptive softmax, which
puts rarer words in clusters and gives them fewer weights: a full softmax would spend most of its time on words that are
rare.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from asr.compute.cells import make_cell
from asr.compute.device import can_run
from asr.errors import ConfigError, InputError
from asr.files.model_config import embedded_folders, holds, read_model_config
from asr.files.model_folder import Stored, read_weights, stored_weights, write_model_folder
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


class LanguageModel(nn.Module):
    """A recurrent language model, the content of a language model's folder.

    Args:
        config: its parts.
        initialize: give it random weights; otherwise its weights stay on torch's meta device until
            `load_state_dict(..., assign=True)`.
    """

    def __init__(self, config: LanguageModelConfig, *, initialize: bool = True):
        super().__init__()
        self.config = config
        self.vocabulary = Vocabulary(config.unit, config.entries)
        options = config.network
        width = options.embedding_size
        with torch.device("cpu" if initialize else "meta"):
            self.softmax = make_softmax(self.vocabulary.size, options)
            self.embedding = None if options.tied else nn.Embedding(self.vocabulary.size, width)
            widths = [width, *[options.hidden_size] * (options.num_layers - 1)]
            self.cells = nn.ModuleList(make_cell(options.cell, inner, options.hidden_size) for inner in widths)
            self.norms = nn.ModuleList(
                nn.LayerNorm(options.hidden_size) if options.layer_norm else nn.Identity() for _ in widths
            )
            self.projection = nn.Linear(options.hidden_size, width) if options.hidden_size != width else nn.Identity()
        self.dropout = nn.Dropout(options.dropout)

    def can_run(self, dtype: torch.dtype | None) -> bool:
        """Whether its device supports matrix products in this format; None is float32."""
        cell = partial(make_cell, self.config.network.cell)
        return dtype is None or can_run(cell, dtype, next(self.parameters()).device, training=False)

    def start_state(self, batch: int) -> Tensor:
        """The state before a sentence, whose first token is <eos>: zeros, (B, num_layers, S) float32.

        S is hidden_size, or twice as much for an LSTM, whose cell follows its output. Rows can be gathered.
        """
        options = self.config.network
        width = options.hidden_size * (2 if options.cell == "lstm" else 1)
        device = next(self.parameters()).device
        return torch.zeros(batch, options.num_layers, width, device=device)

    def forward(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The hidden vector after each token, for `target_log_probs` and `log_probs`.

        Args:
            tokens: (B, T) int64 in 0 .. V - 1, T at least 1.
            state: (B, num_layers, S) before the first token.
        Returns:
            hidden (B, T, D); the state after the last token, float32, of the same shape.
        """
        embedded = self.softmax.embed(tokens) if self.embedding is None else self.embedding(tokens)
        hidden = self.dropout(embedded)
        states = []
        for number, (cell, norm) in enumerate(zip(self.cells, self.norms, strict=True)):
            before = [part.contiguous() for part in state[:, number].split(self.config.network.hidden_size, dim=-1)]
            before = [part.unsqueeze(0) for part in before]  # (B, H) -> (1, B, H), as torch has it
            hidden, after = cell(hidden, tuple(before) if len(before) > 1 else before[0])
            after = torch.cat(after, dim=-1) if isinstance(after, tuple) else after
            states.append(after.squeeze(0).float())
            hidden = self.dropout(norm(hidden))
        return self.projection(hidden), torch.stack(states, dim=1) if len(states) > 1 else states[0].unsqueeze(1)

    def target_log_probs(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Log-probability of each target: hidden (N, D), targets (N,) int64 -> (N,) float32."""
        return self.softmax.target_log_probs(hidden, targets)

    def log_probs(self, hidden: Tensor) -> Tensor:
        """Log-probabilities of all tokens: hidden (N, D) -> (N, V) float32."""
        return self.softmax.log_probs(hidden)

    @torch.inference_mode()
    def step(self, state: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the token after one more token; the first token of a sentence is <eos>.

        Args:
            state: (B, num_layers, S).
            tokens: (B,) int64 in 0 .. V - 1.
        Returns:
            log_probs (B, V) float32; the state after the tokens.
        """
        hidden, state = self(tokens[:, None], state)
        return self.log_probs(hidden[:, 0]), state

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

    @torch.inference_mode()
    def score_tokens(self, sequences: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Log-probability of each token of each sentence, and of the <eos> after it.

        Sentences of similar length form a batch, and long ones are cut into pieces, so that memory is bounded; rows
        that have ended are dropped.

        Args:
            sequences: int64 tokens in 1 .. V - 1 of each sentence.
        Returns:
            For each sentence of n tokens (n + 1,) float64.
        """
        was_training = self.training
        self.eval()
        device = next(self.parameters()).device
        steps = np.array([len(sequence) + 1 for sequence in sequences])
        scores = [np.empty(count) for count in steps]
        order = np.argsort(-steps, kind="stable")
        width = max(self.softmax.num_logits, 4 * self.config.network.hidden_size)  # of the largest array of a pass
        for start in range(0, len(order), ROWS):
            rows = order[start : start + ROWS]
            state = self.start_state(len(rows))
            for begin, tokens, targets in _pieces([sequences[row] for row in rows], width):
                own = torch.from_numpy(targets >= 0).to(device)
                hidden, state = self(torch.from_numpy(tokens).to(device), state[: len(tokens)])
                log_probs = self.target_log_probs(hidden[own], torch.from_numpy(targets).to(device)[own])
                pieces = np.split(log_probs.double().cpu().numpy(), (targets >= 0).sum(axis=1).cumsum()[:-1])
                for row, piece in zip(rows, pieces, strict=False):  # rows that have ended are last
                    scores[row][begin : begin + len(piece)] = piece
        self.train(was_training)
        return scores

    def save(self, folder: str | os.PathLike[str], *, stored: Stored = "float32") -> None:
        """Write the model folder, completely or not at all; an older one is replaced; see `stored_weights`."""
        write_model_folder(folder, self.config, stored_weights(self.state_dict(), stored), kind=KIND)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> LanguageModel:
        """The language model in `folder`, in evaluation mode on the CPU.

        Raises:
            DataError: there is no language model, a newer format, an unknown or wrong option, a missing or extra
                tensor, a wrong shape, or a damaged file; the message says which.
        """
        model = cls(read_model_config(folder, LanguageModelConfig, kind=KIND), initialize=False)
        model.load_state_dict(read_weights(folder, expected=model.state_dict()), assign=True)
        return model.eval()


def make_softmax(num_tokens: int, options: NetworkOptions) -> FullSoftmax | AdaptiveSoftmax:
    """The softmax of a vocabulary: adaptive if it is larger than the first cutoff."""
    cutoffs = options.clusters(num_tokens)
    if not cutoffs:
        return FullSoftmax(options.embedding_size, num_tokens)
    return AdaptiveSoftmax(options.embedding_size, num_tokens, cutoffs=cutoffs, divisor=options.divisor)


class FullSoftmax(nn.Module):
    """A softmax over all tokens."""

    def __init__(self, width: int, num_tokens: int):
        super().__init__()
        self.linear = nn.Linear(width, num_tokens)
        self.num_logits = num_tokens

    def embed(self, tokens: Tensor) -> Tensor:
        """The softmax's weights of each token as its embedding, (..., D), at the scale of a layer's input."""
        return functional.embedding(tokens, self.linear.weight) * self.linear.in_features**0.5

    def target_log_probs(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return -functional.cross_entropy(self.linear(hidden).float(), targets, reduction="none")

    def log_probs(self, hidden: Tensor) -> Tensor:
        return self.linear(hidden).float().log_softmax(dim=-1)


class AdaptiveSoftmax(nn.Module):
    """torch's adaptive softmax, in float32, whose weights embed the tokens as well.

    Source: Grave et al. 2017, "Efficient softmax approximation for GPUs"; Baevski and Auli 2019, "Adaptive Input
    Representations for Neural Language Modeling", for the embedding.
    """

    def __init__(self, width: int, num_tokens: int, *, cutoffs: Sequence[int], divisor: int):
        super().__init__()
        self.clusters = nn.AdaptiveLogSoftmaxWithLoss(width, num_tokens, list(cutoffs), div_value=divisor)
        self.num_logits = cutoffs[0] + max(
            high - low for low, high in zip(cutoffs, [*cutoffs[1:], num_tokens], strict=True)
        )

    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings (..., D), scaled as in `FullSoftmax`.

        A frequent token has its row of the first softmax. A rare token has its row of its cluster's softmax, brought to
        full width by the projection into the cluster.
        """
        flat = tokens.flatten()
        bounds = self.clusters.cutoffs
        embedded = functional.embedding(flat.clamp(max=bounds[0] - 1), self.clusters.head.weight)
        for low, high, cluster in zip(bounds[:-1], bounds[1:], self.clusters.tail, strict=True):
            (rows,) = ((flat >= low) & (flat < high)).nonzero(as_tuple=True)
            into, out = cluster.get_parameter("0.weight"), cluster.get_parameter("1.weight")
            rare = functional.embedding(flat[rows] - low, out) @ into
            embedded = embedded.index_copy(0, rows, rare.to(embedded.dtype))
        return embedded.view(*tokens.shape, -1) * self.clusters.in_features**0.5

    def target_log_probs(self, hidden: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return self.clusters(hidden.float(), targets).output

    def log_probs(self, hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return self.clusters.log_prob(hidden.float())


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

    The folder of an acoustic model gives the language model in its subfolder `lm`.

    Raises:
        InputError: it is neither a folder nor the name of an embedded language model.
        DataError: the configuration in the folder cannot be read.
    """
    embedded = embedded_language_models()
    model = model or DEFAULT_LANGUAGE_MODEL
    if str(model) in embedded:
        return embedded[str(model)]
    if Path(model).is_dir():
        inner = Path(model) / "lm"
        return inner if not holds(model, KIND) and holds(inner, KIND) else Path(model)
    if Path(model).is_file():
        raise InputError(f"{os.fspath(model)} must be the folder of a recurrent language model, but is a file")
    names = ", ".join(embedded) or "none"
    raise InputError(
        f"no language model {os.fspath(model)!r}: give a model folder, or one of the embedded language models: {names}"
    )
