"""Modified Kneser-Ney, against the equations written out over dictionaries, lmplz's own output, and KenLM."""

from __future__ import annotations

import itertools
import os
import warnings
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from asr.ctc.ngram_tables import query
from asr.errors import AsrWarning, ConfigError, InputError
from asr.lm.arpa import read_arpa
from asr.lm.estimation import FALLBACK_DISCOUNTS, estimate_ngram
from asr.lm.ngram import NgramModel
from tests.oracles import load_or_skip

pytestmark = pytest.mark.filterwarnings("ignore:modified Kneser-Ney needs:asr.errors.AsrWarning")

TINY = ["the cat sat on the mat", "the dog sat on the cat", "a cat", "", "the cat sat"]

# lmplz -o 3 --discount_fallback --prune 0 0 1 (KenLM 0.3.0) made this of TINY; its <s> is spelled as ours here
TINY_BY_LMPLZ = """\\data\\
ngram 1=10
ngram 2=14
ngram 3=3

\\1-grams:
-1.2874572	<unk>	0
-99	<s>	-0.07058106
-0.63797253	</s>	0
-0.9100388	the	-0.1829307
-0.9100388	cat	-0.17609124
-0.9100388	sat	-0.17609124
-1.0589778	on	-0.20412
-1.0589778	mat	-0.20412
-1.0589778	dog	-0.20412
-1.0589778	a	-0.20412

\\2-grams:
-0.5676161	<s> </s>	0
-0.4415645	cat </s>	0
-0.5552697	sat </s>	0
-0.28495887	mat </s>	0
-0.98061985	<s> the	-0.17609124
-0.34497213	on the	0
-0.6252898	the cat	-0.17609124
-0.34497213	a cat	0
-0.6840074	cat sat	0
-0.34497213	dog sat	0
-0.57424676	sat on	-0.30103
-0.82090324	the mat	0
-0.82090324	the dog	0
-0.82621264	<s> a	0

\\3-grams:
-0.1390978	sat on the
-0.308636	<s> the cat
-0.3266653	the cat sat

\\end\\
"""


def listed(path) -> dict[str, tuple[float, float]]:
    """n-gram -> log10 of probability and back-off, of an ARPA file."""
    rows = [line.split("\t") for line in path.read_text().splitlines() if line and line[0] in "-0123456789"]
    return {row[1]: (float(row[0]), float(row[2]) if len(row) > 2 else 0.0) for row in rows}


class KneserNey:
    """p(word | context) by Chen and Goodman's equations, over dictionaries."""

    def __init__(self, sentences, order, prune=(0,)):
        grams = [("<s>", *sentence, "</s>") for sentence in sentences]
        self.counts = [
            Counter(gram[i : i + n] for gram in grams for i in range(len(gram) - n + 1)) for n in range(1, order + 1)
        ]
        self.order = order
        self.prune = [*prune, *[prune[-1]] * order]
        self.adjusted = [self.adjust(n) for n in range(order)]
        self.discounts = [self.discount(counts.values()) for counts in self.adjusted]
        self.vocabulary = sorted({word for gram in grams for word in gram} - {"<s>"} | {"<unk>"})

    def adjust(self, n):
        """Of n-grams of n + 1 words."""
        if n + 1 == self.order:
            adjusted = Counter(self.counts[n])
        else:
            adjusted = Counter(gram[1:] for gram in self.counts[n + 1])
            adjusted.update({gram: count for gram, count in self.counts[n].items() if gram[0] == "<s>"})
        adjusted.pop(("<s>",), None)
        return adjusted

    @staticmethod
    def discount(counts):
        n1, n2, n3, n4 = (sum(count == k for count in counts) for k in (1, 2, 3, 4))
        if n1 and n2 and n3:
            y = n1 / (n1 + 2 * n2)
            d1, d2, d3 = 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3
            if 0 < d1 <= 1 and 0 < d2 <= 2 and 0 < d3 <= 3:
                return d1, d2, d3
        return FALLBACK_DISCOUNTS

    def probability(self, word, context):
        n = len(context)
        followers = {gram: count for gram, count in self.adjusted[n].items() if gram[:-1] == context}
        lower = self.probability(word, context[1:]) if context else 1 / len(self.vocabulary)
        if not followers:
            return lower
        kept = {gram for gram in followers if n == 0 or self.counts[n][gram] > self.prune[n]}
        taken = {
            gram: self.discounts[n][min(count, 3) - 1] if gram in kept else count for gram, count in followers.items()
        }
        gram = (*context, word)
        own = followers.get(gram, 0) - taken.get(gram, 0)
        return (own + sum(taken.values()) * lower) / sum(followers.values())


def contexts(words, order):
    """Every context shorter than `order`, those that never occur included."""
    for n in range(order):
        for context in itertools.product(words, repeat=n):
            if "<s>" not in context[1:] and "</s>" not in context:
                yield context


def state_after(model: NgramModel, context) -> int:
    state = model.tables.empty_state
    for word in context:
        _, state = query(model.tables, state, model.vocabulary[word])
    return state


def distribution(model: NgramModel, state: int) -> np.ndarray:
    """(V - 1,) p of every word but <s>, which is word 1."""
    return np.exp([query(model.tables, state, word)[0] for word in range(len(model.words)) if word != 1])


def test_the_reference_by_hand():
    # <s> a </s>, <s> a b </s>; the bigrams <s> a: 2, a </s>: 1, a b: 1, b </s>: 1; fallback D = .5, 1, 1.5
    reference = KneserNey([["a"], ["a", "b"]], 2)
    # before a stands <s>; before </s> a and b; before b a. Total 4; taken .5 + 1 + .5 = 2; V = a, b, </s>, <unk>
    lower = {"a": 0.5 / 4 + 0.5 / 4, "b": 0.5 / 4 + 0.5 / 4, "</s>": 1 / 4 + 0.5 / 4, "<unk>": 0.5 / 4}
    for word, expected in lower.items():
        assert reference.probability(word, ()) == pytest.approx(expected)
    assert reference.probability("a", ("<s>",)) == pytest.approx((2 - 1) / 2 + 1 / 2 * lower["a"])
    assert reference.probability("b", ("<s>",)) == pytest.approx(1 / 2 * lower["b"])
    assert reference.probability("b", ("a",)) == pytest.approx((1 - 0.5) / 2 + (0.5 + 0.5) / 2 * lower["b"])


sentences = st.lists(st.lists(st.sampled_from("abc"), max_size=6), min_size=1, max_size=25)
thresholds = st.lists(st.integers(0, 2), max_size=3).map(lambda prune: [0, *sorted(prune)])


@settings(max_examples=60, deadline=None)
@given(sentences=sentences, order=st.integers(1, 4), prune=thresholds)
def test_equations_and_sums(sentences, order, prune):
    prune = prune[:order]
    model = estimate_ngram(sentences, order=order, prune=prune)
    reference = KneserNey(sentences, order, prune)
    assert sorted(model.words) == sorted([*reference.vocabulary, "<s>"])
    words = [word for word in model.words if word != "<s>"]
    for context in contexts(model.words, order):
        found = distribution(model, state_after(model, context))
        assert found.sum() == pytest.approx(1, abs=1e-5)
        expected = [reference.probability(word, context) for word in words]
        np.testing.assert_allclose(found, expected, rtol=1e-5, err_msg=str(context))


@settings(max_examples=20, deadline=None)
@given(sentences=sentences, size=st.integers(1, 3), order=st.integers(1, 3))
def test_sums_with_a_limited_vocabulary(sentences, size, order):
    model = estimate_ngram(sentences, order=order, vocabulary=size)
    for context in contexts(model.words, order):
        assert distribution(model, state_after(model, context)).sum() == pytest.approx(1, abs=1e-5)


def test_lmplz_made_the_same(tmp_path):
    model = estimate_ngram([line.split() for line in TINY], order=3, prune=(0, 0, 1))
    model.write(tmp_path / "ours.arpa")
    (tmp_path / "theirs.arpa").write_text(TINY_BY_LMPLZ)
    ours, theirs = listed(tmp_path / "ours.arpa"), listed(tmp_path / "theirs.arpa")
    assert len(theirs) == 27 and ours.keys() == theirs.keys()
    for gram, numbers in theirs.items():
        assert ours[gram] == pytest.approx(numbers, abs=1e-6), gram


@settings(max_examples=20, deadline=None)
@given(sentences=sentences, order=st.integers(2, 5), prune=thresholds)
def test_kenlm_reads_the_same_scores(tmp_path_factory, sentences, order, prune):
    kenlm = load_or_skip("kenlm")
    model = estimate_ngram(sentences, order=order, prune=prune[:order])
    assume(model.order > 1)  # KenLM has no models of single words
    path = tmp_path_factory.mktemp("estimated") / "lm.arpa"
    model.write(path)
    theirs = kenlm.Model(os.fspath(path))
    for sentence in [*sentences[:10], list("abcd"), list("ccbad")]:
        expected = [score for score, _, _ in theirs.full_scores(" ".join(sentence))]
        np.testing.assert_allclose(model.score(sentence) / np.log(10), expected, atol=1e-4)


def test_files_are_the_same_each_time_whatever_the_order_of_the_text(tmp_path):
    lines = [line.split() for line in TINY]
    estimate_ngram(iter(lines), order=3).write(tmp_path / "a.arpa.gz")
    estimate_ngram(lines[::-1], order=3).write(tmp_path / "b.arpa.gz")
    assert (tmp_path / "a.arpa.gz").read_bytes() == (tmp_path / "b.arpa.gz").read_bytes()
    words, _ = read_arpa(tmp_path / "a.arpa.gz")
    assert words == ("<unk>", "<s>", "</s>", "a", "cat", "dog", "mat", "on", "sat", "the")


def test_thresholds_go_on_for_longer_ngrams():
    lines = [line.split() for line in TINY]
    assert estimate_ngram(lines, order=4, prune=(0, 1)).num_ngrams == (10, 6, 3, 1)  # the last: <s> the cat sat
    assert estimate_ngram(lines, order=4, prune=(0, 1, 1, 1)).num_ngrams == (10, 6, 3, 1)
    assert estimate_ngram(lines, order=3, prune=(0, 9)).order == 1


def test_an_order_beyond_the_longest_sentence_gives_what_there_is():
    assert estimate_ngram([["a"], ["b"]], order=7).num_ngrams == (5, 4, 2)
    assert estimate_ngram([[]], order=5).num_ngrams == (3, 1)


def test_the_vocabulary_by_size_takes_the_most_frequent():
    lines = [line.split() for line in TINY]
    assert estimate_ngram(lines, order=2, vocabulary=3).words == ("<unk>", "<s>", "</s>", "cat", "sat", "the")
    assert estimate_ngram(lines, order=2, vocabulary=5).words[3:] == ("a", "cat", "on", "sat", "the")  # a before dog


def test_words_outside_the_vocabulary_are_unknown_words():
    lines = [line.split() for line in TINY]
    replaced = [[word if word in ("cat", "the") else "<unk>" for word in line] for line in lines]
    limited = estimate_ngram(lines, order=3, vocabulary=["the", "cat", "<unk>", "zebra", "</s>"])
    assert limited.words == ("<unk>", "<s>", "</s>", "cat", "the", "zebra")
    same = estimate_ngram(replaced, order=3, vocabulary={"the", "cat", "zebra"})
    for sentence in ("the dog sat", "the zebra", "cat cat"):
        np.testing.assert_array_equal(limited.score(sentence.split()), same.score(sentence.split()))
    # a word of the list that never comes gets what <unk> gets where <unk> never comes
    never = estimate_ngram(lines, order=3, vocabulary=[*" ".join(TINY).split(), "zebra"])
    np.testing.assert_array_equal(never.score(["zebra"]), never.score(["unheard"]))


def test_unk_in_the_text_in_either_spelling_is_an_unknown_word():
    first, second = (estimate_ngram([["a", unknown], ["b"]], order=2) for unknown in ("<unk>", "<UNK>"))
    assert first.words == second.words == ("<unk>", "<s>", "</s>", "a", "b")
    np.testing.assert_array_equal(first.score(["a", "x"]), second.score(["a", "x"]))


def test_a_text_too_small_for_discounts_gets_the_fallback_and_says_so():
    with pytest.warns(
        AsrWarning,
        match=r"cannot estimate discounts for n-grams of 1: 4, 3, 0 and 1 of them have .* counts of 1, 2, 3 and 4",
    ):
        estimate_ngram([line.split() for line in TINY], order=1 + 1)
    with pytest.raises(InputError, match="lower the order, or give fallback discounts"):
        estimate_ngram([line.split() for line in TINY], order=2, fallback=None)


def test_symbols_that_are_all_frequent_need_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimate_ngram([["a", "b", "c", "d", "e"], ["e", "d", "c", "b", "a"]] * 9, order=1)


def test_discounts_of_equation_26():
    # as unigrams, counts of 1, 2, 3, 4: 5, 4, 3 and (with </s>) 2 words
    words = [
        f"w{count}{i}" for count, many in ((1, 5), (2, 4), (3, 3), (4, 1)) for i in range(many) for _ in range(count)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = estimate_ngram([words[0::4], words[1::4], words[2::4], words[3::4]], order=1, fallback=None)
    y = 5 / (5 + 2 * 4)
    d1, d2, d3 = 1 - 2 * y * 4 / 5, 2 - 3 * y * 3 / 4, 3 - 4 * y * 2 / 3
    total = 5 + 2 * 4 + 3 * 3 + 4 * 2
    rest = (5 * d1 + 4 * d2 + 5 * d3) / total / (13 + 2)
    found = np.exp(model.score(["w10", "w20", "w30", "w40", "unheard"]))
    expected = [
        (1 - d1) / total + rest,
        (2 - d2) / total + rest,
        (3 - d3) / total + rest,
        (4 - d3) / total + rest,
        rest,
    ]
    np.testing.assert_allclose(found, [*expected, expected[3]], rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 0}, "must be an integer of 1 or more; got 0"),
        ({"order": 2.0}, "must be an integer of 1 or more; got 2.0"),
        ({"prune": (1,)}, r"at most 3 integers that begin with 0 and never descend, .*; got \(1,\)"),
        ({"prune": (0, 2, 1)}, r"never descend, .*; got \(0, 2, 1\)"),
        ({"prune": (0, 0, 0, 1)}, "at most 3 integers"),
        ({"prune": (0, 0.5)}, "at most 3 integers"),
        ({"vocabulary": 0}, "must have at least one word; got 0"),
        ({"vocabulary": "the cat"}, "must be a list of words or their number; got the str 'the cat'"),
        ({"fallback": (0.5, 1.0)}, "must be three, 0 < D <= 1, 2 and 3; got"),
        ({"fallback": (0.0, 1.0, 1.5)}, "must be three, 0 < D <= 1, 2 and 3; got"),
        ({"fallback": (0.5, 2.5, 1.5)}, "must be three, 0 < D <= 1, 2 and 3; got"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ConfigError, match=message):
        estimate_ngram([["a"]], **{"order": 3, **options})


@pytest.mark.parametrize(
    ("sentences", "message"),
    [
        ([], "needs at least one sentence; got none"),
        (["the cat"], "must be a list of words, not one str; got 'the cat'; split it first"),
        ([["a"], ["b", "<s>"]], "must come without <s> and </s>; one has the word <s>"),
        ([["</s>", "a"]], "must come without <s> and </s>; one has the word </s>"),
        ([["a b"]], "a word must have a character and no white space, NUL or half a surrogate; got 'a b'"),
        ([["a", ""]], "a word must have a character .*; got ''"),
        ([["a\n"]], r"a word must have a character .*; got 'a\\n'"),
        ([["\ud800"]], r"a word must have a character .*; got '\\ud800'"),
    ],
)
def test_texts_that_are_none(sentences, message):
    with pytest.raises(InputError, match=message):
        estimate_ngram(sentences, order=2)
