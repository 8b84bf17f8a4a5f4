"""Recurrent language models: probabilities that sum to one, whole or in steps, alone or in batches; folder, samples."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from asr.acoustic.folder import embedded_models
from asr.acoustic.model import AcousticModel
from asr.errors import ConfigError, DataError, InputError
from asr.files import model_config
from asr.lm import recurrent
from asr.lm.perplexity import TextScore
from asr.lm.recurrent import LanguageModelConfig, NetworkOptions, embedded_language_models, find_language_model
from asr.lm.rnn import AdaptiveSoftmax, FullSoftmax, LanguageModel, make_softmax
from asr.lm.sampling import SamplingOptions, sample
from asr.lm.vocabulary import EOS, UNK
from asr.text.normalization import TextOptions
from tests.processors import needs_bfloat16

WORDS = ("THE", "PEAR", "PAIR", "APPLE", "AND", "SALAD", "A")
NETWORK = NetworkOptions(hidden_size=7, embedding_size=6, dropout=0.5)
CELLS = ("rnn-tanh", "gru", "lstm")


def score_batch(model: LanguageModel, sentences: list[str]) -> np.ndarray:
    return np.array([score.log_prob for score in model.token_scores(sentences)])


def make_model(seed: int = 0, *, unit="word", entries=WORDS, **network: Any) -> LanguageModel:
    """An untrained model whose probabilities are far from uniform."""
    torch.manual_seed(seed)
    config = LanguageModelConfig(unit=unit, entries=entries, network=replace(NETWORK, **network), name="tiny")
    model = LanguageModel(config).eval()
    with torch.no_grad():
        for parameter in model.softmax.parameters():
            parameter.mul_(3.0)
    return model


@pytest.fixture(params=["full", "adaptive", "untied", "deep"])
def model(request: pytest.FixtureRequest) -> LanguageModel:
    kinds: dict[str, dict[str, Any]] = {
        "full": {},
        "adaptive": {"cutoffs": (3, 6), "divisor": 2},
        "untied": {"tied": False, "cutoffs": (4,), "cell": "gru"},
        "deep": {"num_layers": 3, "layer_norm": True, "cell": "rnn-tanh", "embedding_size": 7},
    }
    return make_model(**kinds[request.param])


def by_steps(model: LanguageModel, tokens: list[int]) -> list[float]:
    """Log-probability of each token and of <eos>, by `step`."""
    state, token, found = model.start_state(1), EOS, []
    for following in [*tokens, EOS]:
        log_probs, state = model.step(state, torch.tensor([token]))
        found.append(float(log_probs[0, following]))
        token = following
    return found


# Probabilities


@pytest.mark.parametrize("cutoffs", [(), (2,), (2, 4)])
@pytest.mark.parametrize("cell", CELLS)
def test_probabilities_of_all_short_sentences_and_of_what_is_longer_sum_to_one(cell, cutoffs) -> None:
    """Sentences of fewer than n tokens, and beginnings of n tokens, are all that can be said."""
    model = make_model(unit="character", entries=("A", "B", "C", "D"), cell=cell, cutoffs=cutoffs, divisor=2)
    n = 4
    total = 0.0
    for length in range(n):
        sequences = [np.array(tokens, dtype=np.int64) for tokens in product(range(1, 5), repeat=length)]
        total += sum(math.exp(scores.sum()) for scores in model.score_tokens(sequences))
    beginnings = [np.array(tokens) for tokens in product(range(1, 5), repeat=n)]
    total += sum(math.exp(scores[:-1].sum()) for scores in model.score_tokens(beginnings))
    assert total == pytest.approx(1.0, abs=1e-5)


def test_a_lstm_by_hand() -> None:
    """One layer, in numpy, from the weights alone."""
    model = make_model()
    weights = {name: value.double().numpy() for name, value in model.state_dict().items()}

    def sigmoid(value):
        return 1 / (1 + np.exp(-value))

    hidden, memory, total = np.zeros(7), np.zeros(7), 0.0
    tokens = model.vocabulary.encode("THE PEAR PLUM")
    for before, after in zip([EOS, *tokens], [*tokens, EOS], strict=True):
        embedded = weights["softmax.linear.weight"][before] * math.sqrt(6)
        gates = (
            weights["cells.0.weight_ih_l0"] @ embedded
            + weights["cells.0.bias_ih_l0"]
            + weights["cells.0.weight_hh_l0"] @ hidden
            + weights["cells.0.bias_hh_l0"]
        )
        into, forget, candidate, out = np.split(gates, 4)
        memory = sigmoid(forget) * memory + sigmoid(into) * np.tanh(candidate)
        hidden = sigmoid(out) * np.tanh(memory)
        projected = weights["projection.weight"] @ hidden + weights["projection.bias"]
        logits = weights["softmax.linear.weight"] @ projected + weights["softmax.linear.bias"]
        total += logits[after] - np.log(np.exp(logits).sum())
    assert score_batch(model, ["the pear, plum"]) == pytest.approx([total], abs=1e-5)


def test_a_score_is_the_product_of_the_steps(model: LanguageModel) -> None:
    sentences = ["the apple and pear salad", "", "a", "the quince and the pair"]
    scores = model.token_scores(sentences)
    for sentence, score in zip(sentences, scores, strict=True):
        steps = by_steps(model, model.vocabulary.encode(sentence.upper()))
        np.testing.assert_allclose(score.log_probs, steps, atol=1e-5)
        assert score.log_prob == pytest.approx(sum(steps), abs=1e-5)
    np.testing.assert_allclose(score_batch(model, sentences), [score.log_prob for score in scores])


def test_a_sentence_alone_is_the_same_as_among_others(model: LanguageModel, rng, monkeypatch) -> None:
    sequences = [rng.integers(1, model.vocabulary.size, length) for length in (3, 0, 17, 1, 40, 17, 2, 5)]
    together = model.score_tokens(sequences)
    assert [len(scores) for scores in together] == [4, 1, 18, 2, 41, 18, 3, 6]
    for sequence, scores in zip(sequences, together, strict=True):
        np.testing.assert_allclose(model.score_tokens([sequence])[0], scores, atol=1e-5)
    monkeypatch.setattr(recurrent, "ROWS", 3)
    monkeypatch.setattr(recurrent, "CELLS", 28 * 3 * 2)  # two tokens of three sentences at a time
    for one, other in zip(model.score_tokens(sequences), together, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_state_carried_on_is_one_long_pass(model: LanguageModel, rng) -> None:
    tokens = torch.from_numpy(rng.integers(0, model.vocabulary.size, (3, 20)))
    with torch.inference_mode():
        whole, end = model(tokens, model.start_state(3))
        state, parts = model.start_state(3), []
        for piece in tokens.split((1, 7, 2, 10), dim=1):
            part, state = model(piece, state)
            parts.append(part)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)
    torch.testing.assert_close(state, end)
    assert state.shape == (3, model.config.network.num_layers, state.shape[2])


def test_states_can_be_gathered(model: LanguageModel) -> None:
    """What a beam search does: rows are dropped, doubled and reordered between steps."""
    _, state = model.step(model.start_state(3), torch.tensor([EOS, EOS, EOS]))
    _, state = model.step(state, torch.tensor([2, 3, 4]))
    log_probs, _ = model.step(state[[2, 0, 0]], torch.tensor([5, 5, 1]))
    for row, history in enumerate(([4, 5], [2, 5], [2, 1])):
        state = model.start_state(1)
        for token in (EOS, *history):
            expected, state = model.step(state, torch.tensor([token]))
        torch.testing.assert_close(log_probs[row], expected[0])


def test_dropout_is_for_training_only_and_scoring_keeps_the_mode() -> None:
    model = make_model().train()
    assert score_batch(model, ["the pear"]) == score_batch(model, ["the pear"])
    assert model.training


def test_nothing_to_score_gives_nothing(model: LanguageModel) -> None:
    assert score_batch(model, []).shape == (0,)
    assert model.token_scores([]) == []


def test_one_str_is_refused(model: LanguageModel) -> None:
    with pytest.raises(InputError, match="sentences must be several texts, not one str"):
        score_batch(model, "the pear")


def test_unknown_words_cost_what_unk_costs() -> None:
    model = make_model()
    (score,) = model.token_scores(["The plum, and"])
    assert score.tokens == ("THE", "PLUM", "AND", "<eos>")
    assert score.known.tolist() == [True, False, True, True]
    assert score.log_probs == pytest.approx(by_steps(model, [2, UNK, 6]), abs=1e-5)
    assert score.counts == TextScore(log_prob=score.log_prob, tokens=4, sentences=1, words=3, characters=12, unknown=1)


def test_a_character_that_is_missing_makes_a_sentence_impossible() -> None:
    model = make_model(unit="character", entries=(" ", "A", "B"))
    (score,) = model.token_scores(["ab éa"])
    assert score.tokens == ("A", "B", " ", "É", "A", "<eos>")
    assert score.known.tolist() == [True, True, True, False, True, True]
    assert score.log_probs[3] == score.log_prob == -math.inf
    np.testing.assert_allclose(score.log_probs[score.known], by_steps(model, [2, 3, 1, 2]), atol=1e-5)


# Softmax


def test_an_adaptive_softmax_sums_to_one_and_agrees_with_itself(rng) -> None:
    softmax = AdaptiveSoftmax(8, 30, cutoffs=(5, 12), divisor=2)
    hidden = torch.from_numpy(rng.normal(size=(30, 8))).float()
    log_probs = softmax.log_probs(hidden)
    torch.testing.assert_close(log_probs.exp().sum(dim=-1), torch.ones(30))
    found = softmax.target_log_probs(hidden, torch.arange(30))
    torch.testing.assert_close(found, log_probs.diagonal())


def test_an_adaptive_embedding_is_what_the_softmax_multiplies_with() -> None:
    """The logit of a token within its cluster is the product of hidden with its embedding."""
    softmax = AdaptiveSoftmax(8, 30, cutoffs=(5, 12), divisor=2)
    embedded = softmax.embed(torch.arange(30).view(5, 6)) / math.sqrt(8)
    assert embedded.shape == (5, 6, 8)
    hidden = torch.randn(8)
    logits = embedded.view(30, 8) @ hidden
    log_probs = softmax.log_probs(hidden[None])[0]
    for low, high in ((0, 5), (5, 12), (12, 30)):
        expected = functional.log_softmax(logits[low:high], dim=0)
        torch.testing.assert_close(log_probs[low:high].log_softmax(dim=0), expected)


def test_embeddings_and_softmax_learn_together_when_tied() -> None:
    tied, untied = make_model(cutoffs=(3,), divisor=2), make_model(cutoffs=(3,), divisor=2, tied=False)
    assert tied.embedding is None and isinstance(untied.embedding, nn.Embedding)
    hidden, _ = tied(torch.tensor([[EOS, 8]]), tied.start_state(1))
    hidden.sum().backward()
    gradients = {name: parameter.grad for name, parameter in tied.softmax.named_parameters()}
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients.values())


def test_a_small_vocabulary_has_a_plain_softmax() -> None:
    assert isinstance(make_softmax(2000, NetworkOptions()), FullSoftmax)
    adaptive = make_softmax(2001, NetworkOptions())
    assert isinstance(adaptive, AdaptiveSoftmax) and adaptive.clusters.cutoffs == [2000, 2001]
    with pytest.raises(ConfigError, match=r"embedding_size must be at least divisor \*\* clusters \(4 \*\* 2\), not 8"):
        make_softmax(20_000, NetworkOptions(embedding_size=8))


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=needs_bfloat16)])
def test_log_probabilities_are_float32_also_under_autocast(model: LanguageModel, dtype) -> None:
    exact = score_batch(model, ["the apple and pear salad"])
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        log_probs, state = model.step(model.start_state(2), torch.tensor([EOS, EOS]))
        assert score_batch(model, ["the apple and pear salad"]) == pytest.approx(exact, rel=0.05)
    assert log_probs.dtype == state.dtype == torch.float32
    torch.testing.assert_close(log_probs.exp().sum(dim=-1), torch.ones(2))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cell": "peephole-lstm"}, "cell must be one of rnn-tanh, gru, lstm"),
        ({"num_layers": 0}, "num_layers must be between 1 and 256, not 0"),
        ({"num_layers": 10**7}, "num_layers must be between 1 and 256, not 10000000"),
        ({"hidden_size": 0}, "hidden_size must be between 1 and 65536, not 0"),
        ({"embedding_size": -1}, "embedding_size must be between 1 and 65536, not -1"),
        ({"divisor": 0}, "divisor must be between 1 and 65536, not 0"),
        ({"cutoffs": tuple(range(2, 19))}, "cutoffs must be at most 16 numbers, not 17"),
        ({"cutoffs": (5, 5)}, r"cutoffs must be ascending numbers, not \(5, 5\)"),
        ({"cutoffs": (1,)}, "cutoffs must be above 1, not 1"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, not 1.0"),
    ],
)
def test_wrong_options_are_refused(given, message) -> None:
    with pytest.raises(ConfigError, match=message):
        NetworkOptions(**given)


# Sampling


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, 0), (0.5, 0), (1.0, 3)])
def test_sentences_come_as_often_as_they_are_likely(temperature, top_k) -> None:
    """The first words of 4000 sentences, against the exact distribution; <unk> never comes."""
    model = make_model()
    sentences = list(
        sample(model, SamplingOptions(count=4000, temperature=temperature, top_k=top_k, max_length=1, seed=3))
    )
    log_probs, _ = model.step(model.start_state(1), torch.tensor([EOS]))
    weights = (log_probs[0].double() / temperature).exp()
    weights[UNK] = 0.0
    if top_k:
        weights[weights < weights.topk(top_k).values[-1]] = 0.0
    expected = 4000 * (weights / weights.sum()).numpy()
    counts = np.array([sentences.count(word) for word in ("", "<unk>", *WORDS)])
    assert counts.sum() == 4000 and not counts[expected == 0].any()
    likely = expected > 5
    chi_square = ((counts - expected)[likely] ** 2 / expected[likely]).sum()
    assert chi_square < 3 * likely.sum() + 10


def test_whole_sentences_come_as_often_as_they_are_likely() -> None:
    model = make_model(unit="character", entries=("A", "B"))
    sentences = list(sample(model, SamplingOptions(count=2000, max_length=60)))
    for text in ("", "A", "B", "AB", "BA"):
        expected = 2000 * math.exp(score_batch(model, [text])[0])
        assert abs(sentences.count(text) - expected) < 4 * math.sqrt(expected) + 3


def test_samples_begin_with_the_prompt_and_go_on_from_it() -> None:
    model = make_model()
    sentences = list(sample(model, SamplingOptions(count=40, prompt="the plum", max_length=5)))
    assert all(sentence.startswith("THE PLUM") and len(sentence.split()) <= 7 for sentence in sentences)
    assert len(set(sentences)) > 10
    characters = make_model(unit="character", entries=(" ", "A", "B"))
    assert all(text.startswith("BA") for text in sample(characters, SamplingOptions(count=5, prompt="ba")))
    with pytest.raises(InputError, match="but the text has 'C'"):
        list(sample(characters, SamplingOptions(prompt="bac")))


def test_the_seed_decides() -> None:
    model = make_model()
    one, same, other = (list(sample(model, SamplingOptions(count=70, seed=seed))) for seed in (1, 1, 2))
    assert one == same != other and len(one) == 70


def test_with_one_choice_the_likeliest_comes() -> None:
    model = make_model(seed=4)
    (only,) = set(sample(model, SamplingOptions(count=9, top_k=1, max_length=20)))
    assert set(sample(model, SamplingOptions(count=9, temperature=1e-300, max_length=20))) == {only}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": 0}, "count must be at least 1"),
        ({"max_length": 0}, "max_length must be at least 1"),
        ({"top_k": -1}, "top_k must be at least 0, not -1"),
        ({"seed": -1}, "seed must be at least 0 and below 9223372036854775808, not -1"),
        ({"seed": 2**63}, "seed must be at least 0 and below 9223372036854775808, not 9223372036854775808"),
        ({"temperature": 0.0}, "temperature must be above 0 and at most 1000000000, not 0.0"),
        ({"temperature": math.inf}, "temperature must be above 0 and at most 1000000000, not inf"),
    ],
)
def test_wrong_sampling_is_refused(given, message) -> None:
    with pytest.raises(ConfigError, match=message):
        SamplingOptions(**given)


# Perplexity


def test_perplexities_by_hand() -> None:
    """Two sentences, "a bc" and "d": 3 words and 5 characters, whose two ends count too."""
    score = TextScore(log_prob=-math.log(2.0**20), tokens=7, sentences=2, words=3, characters=5, unknown=1)
    assert score.word_perplexity == pytest.approx(2.0 ** (20 / 5))
    assert score.character_perplexity == pytest.approx(2.0 ** (20 / 7))
    assert score.loss == pytest.approx(20 * math.log(2) / 7)
    assert score.unknown_rate == 1 / 5
    assert score + TextScore() == score
    assert (score + score).word_perplexity == pytest.approx(score.word_perplexity)


@pytest.mark.parametrize("log_prob", [-math.inf, math.nan, -1e9])
def test_a_perplexity_that_is_no_number_is_infinite(log_prob) -> None:
    score = TextScore(log_prob=log_prob, tokens=2, sentences=1, words=1, characters=1)
    assert score.word_perplexity == score.character_perplexity == math.inf


# The folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_model(cutoffs=(3,), divisor=2).save(tmp_path / "models" / "tiny")
    return tmp_path / "models" / "tiny"


def test_a_model_comes_back_as_it_was(folder: Path, tmp_path: Path) -> None:
    model, loaded = make_model(cutoffs=(3,), divisor=2), LanguageModel.load(folder)
    assert loaded.config == model.config and not loaded.training
    sentences = ["the pear", "a quince"]
    assert np.array_equal(score_batch(loaded, sentences), score_batch(model, sentences))
    model.save(tmp_path / "half", stored="float16")
    half = LanguageModel.load(tmp_path / "half")
    np.testing.assert_allclose(score_batch(half, sentences), score_batch(model, sentences), rtol=1e-2)
    sizes = [(path / "weights.safetensors").stat().st_size for path in (tmp_path / "half", folder)]
    assert sizes[0] < 0.8 * sizes[1]
    assert half.softmax.clusters.head.weight.dtype == torch.float32


def test_a_loaded_model_can_be_trained(folder: Path) -> None:
    model = LanguageModel.load(folder)
    hidden, _ = model(torch.tensor([[EOS, 8]]), model.start_state(1))
    model.target_log_probs(hidden[0], torch.tensor([8, EOS])).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def edit_config(folder: Path, **changes: Any) -> None:
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**values, **changes}), encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "format_version must be 1, not 2; install a newer version of asr"),
        ({"kind": "acoustic model"}, "must hold a model of the kind 'language model', not 'acoustic model'"),
        ({"kind": "poem"}, "must hold a model of the kind 'language model', not 'poem'"),
        ({"unit": "syllable"}, "unit must be one of word, character"),
        ({"entries": []}, "a vocabulary must have at least one word"),
        ({"entries": ["A", "A"]}, "must differ; repeated: 'A'"),
        ({"network": {"hidden_size": 0}}, "network.hidden_size must be between 1 and 65536"),
        ({"network": {"cutoffs": [2, 3], "divisor": 99}}, "embedding_size must be at least divisor"),
        ({"network": {"units": 3}}, "network: unknown option 'units'"),
    ],
)
def test_a_wrong_configuration_is_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    edit_config(folder, **changes)
    with pytest.raises(DataError, match=f"config.json: .*{message}"):
        LanguageModel.load(folder)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("projection.bias", None, r"tensor 'projection.bias' is missing \(1 of 9 are missing\)"),
        ("embedding.weight", torch.zeros(9, 6), "tensor 'embedding.weight' does not belong"),
        ("projection.bias", torch.zeros(7), r"'projection.bias' must have shape \(6,\), not \(7,\)"),
        ("projection.bias", torch.full((6,), torch.nan), "'projection.bias' holds values that are not finite"),
    ],
)
def test_weights_of_another_model_are_refused(folder: Path, name: str, tensor: Tensor | None, message: str) -> None:
    path = folder / "weights.safetensors"
    weights = {key: value.clone() for key, value in load_file(path).items()} | {name: tensor}
    save_file({key: value for key, value in weights.items() if value is not None}, path)
    with pytest.raises(DataError, match=f"weights.safetensors: .*{message}"):
        LanguageModel.load(folder)


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_truncated_weights_are_refused(folder: Path, kept: float) -> None:
    path = folder / "weights.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(DataError, match="the model's weights are damaged or truncated"):
        LanguageModel.load(folder)


def test_weights_that_are_not_finite_are_not_saved(folder: Path, tmp_path: Path) -> None:
    model = LanguageModel.load(folder)
    with torch.no_grad():
        model.projection.bias[0] = 1e5
    with pytest.raises(InputError, match=r"must be finite in float16 to be saved, but tensor 'projection.bias' is not"):
        model.save(tmp_path / "other", stored="float16")
    assert not (tmp_path / "other").exists()


def test_models_of_both_kinds_live_side_by_side(folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(model_config, "EMBEDDED", tmp_path / "models")
    with pytest.raises(
        InputError, match=r"no language model 'english-lm': give a model folder, or one of the embedded .*: tiny"
    ):
        find_language_model()
    assert embedded_language_models() == {"tiny": folder} and embedded_models() == {}
    assert find_language_model("tiny") == find_language_model(folder) == folder
    with pytest.raises(DataError, match="must hold a model of the kind 'acoustic model', not 'language model'"):
        AcousticModel.load(folder)


def test_the_language_model_of_an_acoustic_model_is_found(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "acoustic").mkdir()
    (tmp_path / "acoustic" / "config.json").write_text('{"format_version": 1}')
    make_model().save(tmp_path / "acoustic" / "lm")
    assert find_language_model(tmp_path / "acoustic") == tmp_path / "acoustic" / "lm"
    with pytest.raises(DataError, match=r"not a model folder: it has no config.json"):
        LanguageModel.load(find_language_model(tmp_path))


def test_the_folder_of_a_training_stands_for_its_language_model(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text('{"data": {}, "loop": {}, "vocabulary": {}}')
    with pytest.raises(
        DataError,
        match=r"run: this training has no finished model yet; to continue it: asr-lm train --run \S+ --resume$",
    ):
        find_language_model(run)
    make_model().save(run / "model")
    assert find_language_model(run) == run / "model"
    shutil.rmtree(run / "model")  # an acoustic model
    (run / "model").mkdir()
    (run / "model" / "config.json").write_text('{"format_version": 1}')
    with pytest.raises(DataError, match="must hold a model of the kind 'language model', not 'acoustic model'"):
        LanguageModel.load(find_language_model(run))
    make_model().save(run / "model" / "lm")
    assert find_language_model(run) == run / "model" / "lm"


def test_text_is_normalised_as_the_model_says() -> None:
    config = LanguageModelConfig(unit="word", entries=("the", "pear"), text=TextOptions(case="lower"), network=NETWORK)
    (score,) = LanguageModel(config).token_scores(["THE -- Pear!"])
    assert score.tokens == ("the", "pear", "<eos>") and score.known.all()
