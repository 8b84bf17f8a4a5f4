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
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from asr.compute.cells import make_cell
from asr.compute.device import autocast, can_run
from asr.files.model_config import read_model_config
from asr.files.model_folder import Stored, read_weights, stored_weights, write_model_folder
from asr.lm.recurrent import KIND, LanguageModelConfig, NetworkOptions, TokenScores
from asr.lm.vocabulary import Vocabulary


class LanguageModel(nn.Module, TokenScores):
    """A recurrent language model, the content of a language model's folder.

    Args:
        config: its parts.
        initialize: give it random weights; otherwise its weights stay on torch's meta device until
            `load_state_dict(..., assign=True)`.
    """

    def __init__(self, config: LanguageModelConfig, *, initialize: bool = True):
        super().__init__()
        self.config = config
        self.dtype = torch.float32
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

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.parameters()).device

    def prepare(self, device: torch.device, dtype: torch.dtype | None = None) -> LanguageModel:
        """This model, which scores sentences on a device from now on; in this format if its cells can, else float32."""
        self.to(device)
        cell = partial(make_cell, self.config.network.cell)
        self.dtype = dtype if dtype and can_run(cell, dtype, device, training=False) else torch.float32
        return self

    def start_state(self, batch: int) -> Tensor:
        """The state before a sentence, whose first token is <eos>: zeros, (B, num_layers, S) float32.

        S is hidden_size, or twice as much for an LSTM, whose cell follows its output. Rows can be gathered.
        """
        options = self.config.network
        width = options.hidden_size * (2 if options.cell == "lstm" else 1)
        return torch.zeros(batch, options.num_layers, width, device=self.device)

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

    @torch.inference_mode()
    def advance(self, tokens: np.ndarray, state: Tensor) -> tuple[Tensor, Tensor]:
        """See `TokenScores.advance`."""
        was_training = self.training
        self.eval()
        with autocast(self.dtype, self.device):
            hidden, state = self(torch.from_numpy(tokens).to(self.device), state)
        self.train(was_training)
        return hidden, state

    @torch.inference_mode()
    def target_scores(self, hidden: Tensor, targets: np.ndarray) -> np.ndarray:
        """See `TokenScores.target_scores`."""
        with autocast(self.dtype, self.device):
            log_probs = self.target_log_probs(hidden, torch.from_numpy(targets).to(self.device))
        return log_probs.double().cpu().numpy()

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """See `TokenScores.join`."""
        return torch.cat(list(parts))

    def save(self, folder: str | os.PathLike[str], *, stored: Stored = "float32") -> None:
        """Write the model folder, completely or not at all; an older one is replaced; see `stored_weights`."""
        state = {name: tensor.float().numpy(force=True) for name, tensor in self.state_dict().items()}
        write_model_folder(folder, self.config, stored_weights(state, stored), kind=KIND)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> LanguageModel:
        """The language model in `folder`, in evaluation mode on the CPU.

        Raises:
            DataError: there is no language model, a newer format, an unknown or wrong option, a missing or extra
                tensor, a wrong shape, or a damaged file; the message says which.
        """
        model = cls(read_model_config(folder, LanguageModelConfig, kind=KIND), initialize=False)
        weights = read_weights(folder, shapes={name: tuple(each.shape) for name, each in model.state_dict().items()})
        model.load_state_dict({name: torch.from_numpy(each) for name, each in weights.items()}, assign=True)
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
