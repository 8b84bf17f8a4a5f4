from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.ctc.beam import BeamOptions, BeamSearch
from asr.ctc.hotwords import DELIMITER, HOTWORD_NODE, PART, STANDALONE, HotwordMatch, Hotwords, spot, spot_end
from asr.errors import InputError
from tests.ctc.enumeration import labelling_probabilities

LETTERS = "-ab 好"  # labels 0 .. 4, Φ first
KINDS = np.array([PART, PART, PART, DELIMITER, STANDALONE])


def labels(text: str) -> list[int]:
    return [LETTERS.index(character) for character in text]


def matches_by_regular_expression(text: str, words: list[str]) -> list[HotwordMatch]:
    """Leftmost, and of those that begin at one place the longest: alternatives are tried in their order."""

    def whole(word: str) -> str:
        before, after = "(?<![ab])" * (word[0] in "ab"), "(?![ab])" * (word[-1] in "ab")
        return f"{before}{word}{after}"

    pattern = "|".join(whole(word) for word in sorted(words, key=len, reverse=True))
    return [HotwordMatch(words.index(match[0]), *match.span()) for match in re.finditer(pattern, text)] if words else []


words_of_letters = st.text("ab 好", min_size=1, max_size=6).filter(lambda word: word == word.strip())
word_lists = st.lists(words_of_letters, max_size=6, unique=True)


@pytest.mark.parametrize(
    ("text", "words", "found"),
    [
        ("ab", ["ab"], ["ab"]),
        ("abb", ["ab"], []),  # not a whole word
        ("bab", ["ab"], []),
        ("ab ab", ["ab"], ["ab", "ab"]),
        ("a b", ["a", "a b"], ["a b"]),  # the longest
        ("a bb", ["a", "a b"], ["a"]),  # the longest that is whole
        ("a b a", ["a b", "b a"], ["a b"]),  # the leftmost, and no label twice
        ("a b bb", ["a b a", "b bb"], ["b bb"]),  # read again behind the first word
        ("a b bb", ["a", "a b a", "b bb"], ["a", "b bb"]),
        ("b好a", ["好", "a"], ["好", "a"]),  # a standalone label is a word
        ("好好好", ["好好"], ["好好"]),
        ("a  b", ["a b"], []),
        ("", ["a"], []),
    ],
)
def test_matches_are_whole_words_leftmost_and_longest(text, words, found):
    hotwords = Hotwords([labels(word) for word in words], [1.0] * len(words))
    assert [words[match.index] for match in hotwords.find(labels(text), KINDS)] == found
    assert [text[match.start : match.end] for match in hotwords.find(labels(text), KINDS)] == found
    assert matches_by_regular_expression(text, words) == hotwords.find(labels(text), KINDS)


@settings(max_examples=500, deadline=None)
@given(text=st.text("ab 好", max_size=14), words=word_lists, seed=st.integers(0, 99))
def test_the_search_adds_up_what_a_regular_expression_finds(text, words, seed):
    weights = np.random.default_rng(seed).uniform(0.1, 9, len(words))
    hotwords = Hotwords([labels(word) for word in words], weights)
    expected = matches_by_regular_expression(text, words)
    assert hotwords.find(labels(text), KINDS) == expected

    records = hotwords.records(KINDS).view(np.recarray)
    state, score, previous = 0, 0.0, DELIMITER
    for label in labels(text):
        boundary = previous != PART or KINDS[label] != PART
        rank = score + records[state].potential
        # What the search reckons with when it leaves candidates out: nothing begins in a word, and else one step.
        leads_on = state == 0 or records[state].next_labels >> (label & 63) & 1
        step = records[state].step if leads_on else records[state].fail_step
        most = rank if state == 0 and not boundary else rank + step
        state, gain = spot(records, state, boundary, label)
        score += gain
        assert score + records[state].potential <= most + 1e-9
        previous = KINDS[label]
    assert score + spot_end(records, state) == pytest.approx(sum(weights[match.index] for match in expected))
    assert score + spot_end(records, state) <= score + records[state].potential + 1e-9


def test_a_word_is_boosted_label_by_label_and_taken_back():
    hotwords = Hotwords([labels("abba"), labels("ab a")], [8.0, 2.0])
    records = hotwords.records(KINDS).view(np.recarray)
    assert records.dtype.names == HOTWORD_NODE.names

    def ranks(text: str) -> list[float]:
        state, score, previous, history = 0, 0.0, DELIMITER, []
        for label in labels(text):
            state, gain = spot(records, state, previous != PART or KINDS[label] != PART, label)
            score += gain
            history.append(float(score + records[state].potential))
            previous = KINDS[label]
        return history

    assert ranks("abba a") == [2.0, 4.0, 6.0, 8.0, 8.0, 10.0]
    assert ranks("abbb") == [2.0, 4.0, 6.0, 0.0]
    assert ranks("abbaa") == [2.0, 4.0, 6.0, 8.0, 0.0]
    assert ranks("ab a ") == [2.0, 4.0, 1.5, 2.0 + 0.0, 2.0]
    assert ranks("ab b") == [2.0, 4.0, 1.5, 0.0]
    assert ranks("b abba") == [0.0, 0.0, 2.0, 4.0, 6.0, 8.0]


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), words=word_lists)
def test_search_with_hotwords_equals_a_sum_over_all_texts(seed, words):
    rng = np.random.default_rng(seed)
    emission = np.log(rng.dirichlet(np.ones(5), size=4))
    weights = rng.uniform(0.1, 4, len(words))
    search = BeamSearch(
        num_labels=5,
        blank=0,
        options=BeamOptions(beam_width=3000),
        delimiters=[3],
        standalone=[4],
        hotwords=Hotwords([labels(word) for word in words], weights),
    )
    table = labelling_probabilities(emission.tolist(), blank=0)
    found = search.decode(emission, num_best=3000)
    assert len(found) == len(table)
    for h in found:
        tokens = tuple(h.tokens.tolist())
        matches = matches_by_regular_expression("".join(LETTERS[token] for token in tokens), words)
        assert h.acoustic_score == pytest.approx(math.log(table[tokens]))
        assert h.hotword_score == pytest.approx(sum(weights[match.index] for match in matches))
        assert h.score == pytest.approx(h.acoustic_score + h.hotword_score)
        assert list(h.hotwords) == matches


def test_a_hotword_wins_where_the_sound_is_near_and_a_wrong_one_changes_nothing():
    rng = np.random.default_rng(1)
    text = labels("ab ba ab")
    emission = np.full((len(text) * 2, 5), math.log(0.01))
    for i, label in enumerate(text):
        emission[2 * i, label], emission[2 * i + 1, 0] = math.log(0.96), math.log(0.96)
    emission[4 * 2, [1, 2]] = math.log(0.55), math.log(0.42)  # "ba" might be "aa": one b of it is in doubt
    emission[3 * 2, [1, 2]] = math.log(0.55), math.log(0.42)
    emission += rng.uniform(0, 1e-3, emission.shape)

    def best(words: list[str], weight: float = 4.0) -> str:
        hotwords = Hotwords([labels(word) for word in words], [weight] * len(words))
        search = BeamSearch(num_labels=5, blank=0, delimiters=[3], standalone=[4], hotwords=hotwords)
        return "".join(LETTERS[token] for token in search.decode(emission)[0].tokens)

    assert best([]) == best(["bbbb", "a a"]) == "ab aa ab"
    assert best(["ba"]) == best(["ba ab"]) == "ab ba ab"


@settings(max_examples=200, deadline=None)
@given(text=st.text("ab 好", max_size=14), words=word_lists.filter(bool), more=st.text("ab 好", max_size=6))
def test_what_is_settled_stays_unless_a_longer_hotword_comes(text, words, more):
    """With weights that grow with the length: no longer hotword is worth less."""
    hotwords = Hotwords([labels(word) for word in words], [float(10 ** len(word)) for word in words])
    records = hotwords.records(KINDS).view(np.recarray)
    assert (records["settled"] <= records["potential"] + 1e-9).all()
    state, score, previous, settled = 0, 0.0, DELIMITER, 0.0
    for label in labels(text + more):
        state, gain = spot(records, state, previous != PART or KINDS[label] != PART, label)
        score, previous = score + gain, KINDS[label]
        assert score + records[state].settled >= settled - 1e-9
        settled = score + records[state].settled
    assert settled <= score + spot_end(records, state) + 1e-9


def test_what_is_not_a_hotword_is_refused():
    with pytest.raises(InputError, match=r"hotwords\[1\] must have at least one label; it is empty"):
        Hotwords([[1], []], [1.0, 1.0])
    with pytest.raises(InputError, match=r"hotwords\[2\] must occur once; it equals hotwords\[0\]"):
        Hotwords([[1, 2], [2], [1, 2]], [1.0, 1.0, 1.0])
    with pytest.raises(InputError, match="hotwords must hold sequences of labels, integers 0 or above; got"):
        Hotwords([[1, -2]], [1.0])
    with pytest.raises(InputError, match="hotwords must hold sequences of labels, integers 0 or above; got"):
        Hotwords([["a"]], [1.0])  # type: ignore[list-item]
    with pytest.raises(InputError, match="weights must be one for each of the 2 hotwords; got 1"):
        Hotwords([[1], [2]], [1.0])
    for weight in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(InputError, match=rf"weights\[1\] must be finite and above 0; got {weight}"):
            Hotwords([[1], [2]], [1.0, weight])
    for word in (" a", "a "):
        with pytest.raises(InputError, match=r"hotwords\[0\] must begin and end with a word; got a delimiter in"):
            Hotwords([labels(word)], [1.0]).records(KINDS)
