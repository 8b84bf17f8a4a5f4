"""The network of marks and case in torch, for training; `asr.readable.punctuator` computes it in onnxruntime.

word ──▶ embedding ─────┐
characters ──▶ mean ────┴─ + ─▶ ┐                                      ┌▶ mark after each word
pause after the word ─────────▶ ┴▶ bidirectional LSTM ▶ the same again ┴▶ case, which also knows the mark before
"""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from asr.files.model_config import read_model_config
from asr.files.model_folder import read_weights, stored_weights, write_model_folder
from asr.readable.features import KIND, ReadableConfig
from asr.readable.graph import make_graph
from asr.readable.marked_text import CASES, MARKS


class MarkNetwork(nn.Module):
    """Scores of the mark after each word and of its case.

    The case of a word depends on the mark before it, so that a capital follows each period that is written.

    Args:
        config: vocabulary and shape.
    """

    def __init__(self, config: ReadableConfig):
        super().__init__()
        self.config = config
        shape = config.network
        width, hidden = shape.embedding_size, shape.hidden_size
        self.words = nn.Embedding(len(config.entries) + 1, width)
        self.grams = nn.Embedding(shape.buckets + 1, width, padding_idx=0)
        for table in (self.words, self.grams):
            nn.init.normal_(table.weight, std=0.1)
        with torch.no_grad():
            self.grams.weight[0] = 0.0
        self.layers = nn.ModuleList(
            nn.LSTM(width + 2 if number == 0 else 2 * hidden, hidden, batch_first=True, bidirectional=True)
            for number in range(shape.num_layers)
        )
        self.dropout = nn.Dropout(shape.dropout)
        self.marks = nn.Linear(2 * hidden, len(MARKS))
        self.before = nn.Embedding(len(MARKS), shape.case_size)
        self.inner = nn.Linear(2 * hidden, shape.case_size)
        self.cases = nn.Linear(shape.case_size, len(CASES))

    def embed(self, words: Tensor, grams: Tensor) -> Tensor:
        """The sum of two embeddings (..., D) of words (...) and of their groups of characters (..., P), int64."""
        count = (grams > 0).sum(-1, keepdim=True).clamp(min=1)
        return self.words(words) + self.grams(grams).sum(-2) / count

    def forward(self, embedded: Tensor, pauses: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of the mark after each word (B, T, 5), and the hidden vectors (B, T, 2 H) for `case_scores`.

        Args:
            embedded: (B, T, D) from `embed`.
            pauses: (B, T, 2) from `features.pause_features`.
        """
        hidden = torch.cat([self.dropout(embedded), pauses], dim=-1)
        for number, layer in enumerate(self.layers):
            hidden, _ = layer(self.dropout(hidden) if number else hidden)
        hidden = self.dropout(hidden)
        return self.marks(hidden), hidden

    def case_scores(self, hidden: Tensor, before: Tensor) -> Tensor:
        """Scores of the case of each word (B, T, 3), given the number of the mark before it (B, T) int64."""
        return self.cases(torch.tanh(self.inner(hidden) + self.before(before)))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> MarkNetwork:
        """The network in a folder.

        Raises:
            DataError: as for `punctuator.Punctuator.load`.
        """
        config = read_model_config(folder, ReadableConfig, kind=KIND)
        network = cls(config)
        tensors = read_weights(folder, shapes=make_graph(config).shapes)
        network.load_state_dict({_torch_name(name): torch.from_numpy(values) for name, values in tensors.items()})
        return network.eval()

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the folder, with 8 bits a weight of the matrices."""
        state = {_stored_name(name): values.numpy() for name, values in self.state_dict().items()}
        write_model_folder(folder, self.config, stored_weights(state, "int8"), kind=KIND)


def _stored_name(name: str) -> str:
    """layers.0.bias_hh_l0_reverse -> layers.0.backward.bias_hh_l0, which `asr.compute.recurrence` expects."""
    if not name.endswith("_reverse"):
        return name
    layer, _, tensor = name.removesuffix("_reverse").rpartition(".")
    return f"{layer}.backward.{tensor}"


def _torch_name(name: str) -> str:
    return f"{name.replace('.backward.', '.')}_reverse" if ".backward." in name else name
