"""Tables of n-grams and questions to them from compiled code."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest

from asr.ctc.ngram_tables import query
from asr.lm.tables import Level, assemble, child_keys, level_bounds, query_together

UNKNOWN, START, END, A, B = range(5)


def level(*rows: tuple[int, int, int, float, float]) -> Level:
    return Level(*(np.array(column) for column in zip(*rows, strict=True)))


@pytest.fixture(scope="module")
def tables():
    """a b and its like; nodes 1 .. 5 are the words, 6 .. 8 the pairs <s> a, a b, b a, 9 is a b a.

    b a has neither continuations nor a back-off; <unk> and </s> neither; <s> a has only a back-off.
    """
    words = level((0, 0, 0, -5, 0), (0, 1, 0, -99, -0.25), (0, 2, 0, -1, 0), (0, 3, 0, -2, -0.5), (0, 4, 0, -3, -1.5))
    pairs = level((2, A, 1 + A, -0.1, -0.7), (1 + A, B, 1 + B, -0.2, -0.9), (1 + B, A, 1 + A, -0.3, 0))
    triples = level((7, A, 8, -0.01, 0))
    return assemble([words, pairs, triples], start_word=START, end_word=END)


def test_states_are_the_contexts_that_matter(tables):
    #                                 root unk <s> </s> a  b  <s>a ab ba aba
    assert tables.next_states.tolist() == [0, 0, 2, 0, 4, 5, 6, 7, 4, 4]
    assert tables.back_off_states.tolist() == [0, 0, 0, 0, 0, 0, 4, 5, 4]
    assert (tables.start_state, tables.empty_state, tables.end_word, tables.num_words) == (2, 0, END, 5)
    assert level_bounds(tables) == [1, 6, 9, 10]


@pytest.mark.parametrize(
    ("state", "word", "log_prob", "next_state"),
    [
        (0, A, -2, 4),
        (2, A, -0.1, 6),
        (2, B, -0.25 - 3, 5),
        (6, B, -0.7 - 0.2, 7),  # <s> a b is not listed, a b is
        (7, A, -0.01, 4),  # a b a, of which only a matters
        (7, B, -0.9 - 1.5 - 3, 5),  # by way of b, and of nothing
        (7, END, -0.9 - 1.5 - 1, 0),
        (7, UNKNOWN, -0.9 - 1.5 - 5, 0),
        (4, 5, -0.5 - 5, 0),
        (4, -1, -0.5 - 5, 0),
        (4, 2**31 - 1, -0.5 - 5, 0),
    ],
)
def test_the_back_offs_of_all_contexts_on_the_way_are_paid(tables, state, word, log_prob, next_state):
    found, then = query(tables, state, word)
    assert found == pytest.approx(log_prob, abs=1e-6)
    assert then == next_state


def test_other_compiled_code_takes_the_tables_and_any_integers(tables):
    compiled = numba.njit(query)

    @numba.njit
    def total(tables, words):
        state, log_prob = np.int32(tables.start_state), 0.0
        for word in words:
            gain, state = compiled(tables, state, word)
            log_prob += gain
        return log_prob

    for kind in (np.int32, np.int64):
        assert total(tables, np.array([A, B], kind)) == pytest.approx(-1, abs=1e-6)


def test_all_questions_at_once_have_the_same_answers(tables):
    none = Level(*(np.zeros(0, int) for _ in range(5)))
    single = assemble([level((0, 0, 0, -1, 0), (0, 1, 0, -2, -0.5)), none], start_word=1, end_word=1)
    for each in (tables, single):
        states, words = np.divmod(np.arange(len(each.back_offs) * each.num_words), each.num_words)
        log_probs, then = query_together(each, child_keys(each), states, words)
        answers = [query(each, *pair) for pair in zip(states, words, strict=True)]
        np.testing.assert_allclose(log_probs, [log_prob for log_prob, _ in answers], atol=1e-6)
        assert then.tolist() == [state for _, state in answers]
        assert states.tolist() == np.divmod(np.arange(len(states)), each.num_words)[0].tolist()  # as they were given
    empty = np.zeros(0, np.int64)
    assert [each.shape for each in query_together(tables, child_keys(tables), empty, empty)] == [(0,), (0,)]


def test_a_model_of_single_words(tables):
    tables = assemble([level((0, 0, 0, -1, 0), (0, 1, 0, -2, 0))], start_word=-1, end_word=0)
    assert [query(tables, 0, word) for word in (0, 1, 2)] == [(-1, 0), (-2, 0), (-1, 0)]
    assert level_bounds(tables) == [1, 3]


def test_lengths_without_ngrams_count_where_their_contexts_weigh():
    none = Level(*(np.zeros(0, int) for _ in range(5)))
    tables = assemble([level((0, 0, 0, -1, 0), (0, 1, 0, -2, 0)), none, none], start_word=1, end_word=1)
    assert level_bounds(tables) == [1, 3]
    assert query(tables, tables.start_state, 1) == (-2, 0)
    tables = assemble([level((0, 0, 0, -1, 0), (0, 1, 0, -2, -0.5)), none], start_word=1, end_word=1)
    assert level_bounds(tables) == [1, 3, 3]
    assert query(tables, tables.start_state, 1) == (-2.5, 2)


def test_tables_are_small(tables):
    assert {array.dtype.itemsize for array in tables if isinstance(array, np.ndarray)} == {4}
    assert math.isclose(float(tables.log_probs[1]), -5)
