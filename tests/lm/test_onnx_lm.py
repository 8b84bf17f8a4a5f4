"""Recurrent language models in onnxruntime beside themselves in torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asr.lm.onnx_lm import OnnxLanguageModel, tensor_shapes
from asr.lm.prefix_tree import score_together
from asr.lm.recurrent import LanguageModelConfig, NetworkOptions
from asr.lm.rnn import LanguageModel

WORDS = ("THE", "APPLE", "AND", "PEAR", "SALAD", "IS", "GREEN", "OF", "A", "PLUM", "TREE", "BY", "MY", "HOUSE")
SENTENCES = ["THE APPLE AND PEAR SALAD", "", "THE APPLE", "MY HOUSE IS ZEBRA", "MY HOUSE", "A PLUM TREE BY " * 9]
SMALL: dict[str, Any] = {"hidden_size": 12, "embedding_size": 8, "cutoffs": ()}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cell": "gru", "num_layers": 2, "layer_norm": True},
        {"cell": "rnn-tanh", "hidden_size": 8},
        {"cutoffs": (4, 9), "divisor": 2},
        {"cutoffs": (4,), "num_layers": 3, "tied": False},
        {"cutoffs": (3, 5, 8), "divisor": 1, "hidden_size": 8},
    ],
)
@pytest.mark.parametrize("unit", ["word", "character"])
def test_scores_are_those_of_torch(tmp_path: Path, options: dict[str, Any], unit: Any) -> None:
    torch.manual_seed(0)
    entries = WORDS if unit == "word" else (*dict.fromkeys("".join(WORDS)), " ")
    model = LanguageModel(LanguageModelConfig(unit=unit, entries=entries, network=NetworkOptions(**(SMALL | options))))
    model.save(tmp_path)
    state = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert tensor_shapes(model.config.network, model.vocabulary.size) == state
    other = OnnxLanguageModel.load(tmp_path)
    for ours, theirs in zip(model.token_scores(SENTENCES), other.token_scores(SENTENCES), strict=True):
        assert (ours.tokens, ours.text, ours.known.tolist()) == (theirs.tokens, theirs.text, theirs.known.tolist())
        np.testing.assert_allclose(theirs.log_probs, ours.log_probs, atol=1e-4)
    np.testing.assert_allclose(score_together(other, SENTENCES), score_together(model, SENTENCES), atol=1e-3)
    assert other.token_scores([]) == []
    assert score_together(other, []).shape == (0,)
