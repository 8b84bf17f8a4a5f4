"""Sentences scored as one tree against the same model one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.lm import prefix_tree
from asr.lm.prefix_tree import score_together
from asr.lm.recurrent import LanguageModelConfig, NetworkOptions
from asr.lm.rnn import LanguageModel

WORDS = ("A", "PEAR", "PAIR", "OF", "SALAD", "THE")


def score_batch(model: LanguageModel, sentences: list[str]) -> np.ndarray:
    return np.array([score.log_prob for score in model.token_scores(sentences)])


def make_model(unit="word", entries=WORDS, **network) -> LanguageModel:
    torch.manual_seed(0)
    options = NetworkOptions(**{"hidden_size": 9, "embedding_size": 8, "dropout": 0.5, **network})
    model = LanguageModel(LanguageModelConfig(unit=unit, entries=entries, network=options)).eval()
    with torch.no_grad():
        for parameter in model.softmax.parameters():
            parameter.mul_(3.0)
    return model


MODELS = {
    "words": make_model(),
    "adaptive": make_model(cutoffs=(3, 6), divisor=2),
    "deep": make_model(cell="gru", num_layers=2, layer_norm=True),
    "characters": make_model(unit="character", entries=tuple(" APERI")),
}


@settings(max_examples=60, deadline=None)
@given(sentences=st.lists(st.lists(st.sampled_from([*WORDS, "UNSEEN"]), max_size=6).map(" ".join), min_size=1))
@pytest.mark.parametrize("name", MODELS)
def test_a_tree_gives_what_single_sentences_give(name, sentences):
    model = MODELS[name]
    alone = np.concatenate([score_batch(model, [sentence]) for sentence in sentences])
    np.testing.assert_allclose(score_together(model, sentences), alone, rtol=1e-4, atol=1e-5)


def test_a_small_batch_at_a_time_gives_the_same(monkeypatch):
    sentences = [f"THE {first} {second}" for first in WORDS for second in WORDS]
    whole = score_together(MODELS["words"], sentences)
    monkeypatch.setattr(prefix_tree, "CELLS", 100)
    np.testing.assert_allclose(score_together(MODELS["words"], sentences), whole, rtol=1e-5)


def test_what_is_alike_is_computed_once(monkeypatch):
    model, steps = MODELS["words"], []
    plain = LanguageModel.forward
    monkeypatch.setattr(
        LanguageModel, "forward", lambda self, tokens, state: steps.append(tokens.numel()) or plain(self, tokens, state)
    )
    score_together(model, ["THE PEAR SALAD", "THE PAIR SALAD", "THE PEAR", "THE PEAR"])
    assert sum(steps) == 1 + 1 + 2 + 2  # <eos>, THE, PEAR and PAIR, SALAD after each


def test_nothing_and_what_cannot_be_spelled():
    assert score_together(MODELS["words"], []).shape == (0,)
    scores = score_together(MODELS["characters"], ["PEAR", "PEZR", ""])
    assert math.isinf(scores[1]) and np.isfinite(scores[[0, 2]]).all()
