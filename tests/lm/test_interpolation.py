"""Interpolated n-gram models, against the sum of probabilities over dictionaries."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import InputError
from asr.lm.arpa import END, START, UNKNOWN
from asr.lm.estimation import estimate_ngram
from asr.lm.interpolation import best_weights, interpolate, mixed_perplexity
from asr.lm.ngram import NgramModel

pytestmark = pytest.mark.filterwarnings("ignore:modified Kneser-Ney cannot estimate:asr.errors.AsrWarning")

GENERAL = ["the cat sat on the mat", "the dog sat on the cat", "a cat", "the cat sat"]
SPECIAL = ["the stent sat", "a stent on the mat", "the stent"]


def estimate(sentences: list[str], order: int = 3, **options) -> NgramModel:
    return estimate_ngram([sentence.split() for sentence in sentences], order=order, **options)


def contexts_of(model: NgramModel, order: int) -> list[tuple[str, ...]]:
    """Contexts of words that the model has, shorter than its order, with and without <s>."""
    words = [word for word in model.words if word not in (START, END)]
    free = itertools.chain.from_iterable(itertools.product(words, repeat=n) for n in range(order))
    begun = itertools.chain.from_iterable(itertools.product(words, repeat=n) for n in range(order - 1))
    return [*free, *((START, *context) for context in begun)]


def probability(model: NgramModel, context: tuple[str, ...], word: str) -> float:
    """p(word | context), 0 for a word outside the vocabulary."""
    if word not in model.vocabulary:
        return 0.0
    begin = context[:1] == (START,)
    words = [*context[begin:], *([] if word == END else [word])]
    return float(np.exp(model.score(words, begin=begin, end=word == END)[-1]))


def ngrams(model: NgramModel) -> set[tuple[str, ...]]:
    """All n-grams of a model, by its tables."""
    tables = model.tables
    names: list[tuple[str, ...]] = [()]
    for context, (first, end) in enumerate(itertools.pairwise(tables.first_children.tolist())):
        names += [(*names[context], model.words[tables.words[node]]) for node in range(first, end)]
    return set(names[1:])


@given(
    texts=st.lists(
        st.lists(st.lists(st.sampled_from("abcd"), max_size=4).map(" ".join), min_size=1, max_size=4),
        min_size=2,
        max_size=3,
    ),
    orders=st.lists(st.integers(1, 3), min_size=3, max_size=3),
    shares=st.lists(st.floats(0.05, 1.0), min_size=3, max_size=3),
    prune=st.sampled_from([(), (0, 1)]),
)
@settings(max_examples=40, deadline=None)
def test_listed_ngrams_have_the_sum_and_every_context_sums_to_one(texts, orders, shares, prune) -> None:
    models = [
        estimate(text, order=order, prune=prune if order > 1 else ())
        for text, order in zip(texts, orders, strict=False)
    ]
    weights = (np.array(shares[: len(models)]) / sum(shares[: len(models)])).tolist()
    mixed = interpolate(models, weights)
    assert ngrams(mixed) == set().union(*map(ngrams, models))
    listed = ngrams(mixed)
    predicted = [word for word in mixed.words if word != START]
    for context in contexts_of(mixed, mixed.order):
        values = {word: probability(mixed, context, word) for word in predicted}
        assert sum(values.values()) == pytest.approx(1, abs=1e-4)
        for word, value in values.items():
            if (*context, word) in listed:
                parts = [
                    weight * probability(model, context, word) for weight, model in zip(weights, models, strict=True)
                ]
                assert value == pytest.approx(sum(parts), rel=1e-4)


def test_an_ngram_that_no_model_lists_backs_off() -> None:
    mixed = interpolate([estimate(GENERAL), estimate(SPECIAL)], [0.7, 0.3])
    assert ("cat", "stent") not in ngrams(mixed)
    back_off = mixed.tables.back_offs[1 + mixed.vocabulary["cat"]]
    assert probability(mixed, ("cat",), "stent") == pytest.approx(
        np.exp(back_off) * probability(mixed, (), "stent"), rel=1e-5
    )


def test_one_model_with_all_the_weight_is_itself() -> None:
    general, special = estimate(GENERAL), estimate(SPECIAL)
    alone = interpolate([general, special], [1.0, 0.0])
    assert alone.words == general.words
    for sentence in GENERAL + SPECIAL:
        assert np.allclose(alone.score(sentence.split()), general.score(sentence.split()), atol=1e-4)


def test_the_beginning_is_never_predicted_whatever_a_file_says(tmp_path) -> None:
    (tmp_path / "a.arpa").write_text(
        "\\data\\\nngram 1=4\n\n\\1-grams:\n-0.5\t<unk>\n0\t<s>\n-0.5\t</s>\n-0.5\tcat\n\n\\end\\\n"
    )
    mixed = interpolate([NgramModel.read(tmp_path / "a.arpa"), estimate(GENERAL)], [0.5, 0.5])
    assert mixed.tables.log_probs[1 + mixed.vocabulary[START]] == pytest.approx(-99 * np.log(10))


def test_the_perplexity_of_a_sum_is_that_of_the_new_model_where_nothing_backs_off() -> None:
    models = [estimate(GENERAL), estimate(SPECIAL)]
    sentences = [sentence.split() for sentence in GENERAL + SPECIAL]
    mixed = interpolate(models, [0.6, 0.4])
    expected = np.exp(-np.concatenate([mixed.score(sentence) for sentence in sentences]).mean())
    assert mixed_perplexity(models, [0.6, 0.4], sentences) == pytest.approx(expected, rel=1e-3)
    assert mixed_perplexity([mixed], [1.0], sentences) == pytest.approx(expected, rel=1e-9)


def test_the_best_weights_are_those_of_a_grid() -> None:
    models = [estimate(GENERAL), estimate(SPECIAL)]
    held_out = [sentence.split() for sentence in ("the stent sat on the mat", "a dog sat", "a zebra")]
    first, second = best_weights(models, held_out)
    assert first + second == pytest.approx(1)

    def log_prob(weight: float) -> float:
        mixed = interpolate(models, [weight, 1 - weight])
        total = 0.0
        for sentence in held_out:
            for position, word in enumerate([*sentence, END]):
                context = (START, *sentence[:position])
                known = word if word in mixed.vocabulary else UNKNOWN
                total += np.log(
                    weight * probability(models[0], context, known)
                    + (1 - weight) * probability(models[1], context, known)
                )
        return total

    grid = np.linspace(0.01, 0.99, 99)
    assert first == pytest.approx(max(grid, key=log_prob), abs=0.01)


@pytest.mark.parametrize("weights", [[0.5], [0.5, 0.6], [-0.1, 1.1], []])
def test_weights_that_are_no_distribution_are_refused(weights) -> None:
    with pytest.raises(InputError, match="weights must be 2 numbers of 0 or more with a sum of 1"):
        interpolate([estimate(GENERAL), estimate(SPECIAL)], weights)


def test_nothing_to_tune_on_is_refused() -> None:
    with pytest.raises(InputError, match="weights need sentences"):
        best_weights([estimate(GENERAL), estimate(SPECIAL)], [])
