"""What makes the arrays of an n-gram model safe to follow."""

from __future__ import annotations

import numpy as np
import pytest

from asr.ctc.ngram_tables import NgramTables
from asr.lm.estimation import estimate_ngram
from asr.lm.tables import is_sound


@pytest.fixture(scope="module")
def tables() -> NgramTables:
    random = np.random.default_rng(0)
    shares = 1 / np.arange(1, 13)
    text = [
        list(random.choice([*"abcdefghijkl"], size=random.integers(9), p=shares / shares.sum())) for _ in range(300)
    ]
    return estimate_ngram(text, order=4, prune=(0, 0, 1)).tables


def changed(tables: NgramTables, name: str, index: int, value: float) -> NgramTables:
    array = getattr(tables, name).copy()
    array[index] = value
    return tables._replace(**{name: array})


def test_sound_tables(tables):
    assert is_sound(tables)


@pytest.mark.parametrize(
    "name", ["words", "log_probs", "next_states", "back_offs", "back_off_states", "first_children"]
)
def test_arrays_of_another_length_or_type_are_not(tables, name):
    array = getattr(tables, name)
    for other in (array[:-1], np.append(array, array[-1:]), array[:0], array.astype(np.float64), array[None]):
        assert not is_sound(tables._replace(**{name: other}))


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_words", 0), ("num_words", 99), ("start_state", -1), ("empty_state", 1), ("end_word", 1000)],
)
def test_numbers_outside_are_not(tables, name, value):
    assert not is_sound(tables._replace(**{name: value}))


@pytest.mark.parametrize(
    ("name", "index", "value"),
    [
        ("first_children", 0, 0),
        ("first_children", 3, -1),
        ("first_children", -1, 2**31 - 1),
        ("first_children", 3, 2**31 - 1),
        ("next_states", 2, 2**31 - 1),
        ("next_states", 2, -(2**31)),
        ("back_off_states", 2, 2),
        ("back_off_states", -1, 2**31 - 1),
        ("words", 2, 0),
        ("log_probs", 1, np.nan),
        ("log_probs", 1, 0.1),
        ("back_offs", 1, np.inf),
    ],
)
def test_what_leads_outside_or_round_in_circles_is_not(tables, name, index, value):
    assert not is_sound(changed(tables, name, index, value))


def test_lengths_that_do_not_follow_each_other_are_not(tables):
    num_words, first = tables.num_words, tables.first_children.copy()
    first[2 : 2 + num_words] = 1 + num_words  # the first pair of words is then its own parent
    assert not is_sound(tables._replace(first_children=first))


def test_no_change_of_a_number_leads_a_query_outside(tables, rng):
    """Whatever is still sound after random changes is followed here with bounds that Python checks."""
    from asr.ctc.ngram_tables import query

    names, followed = ["words", "next_states", "back_off_states", "first_children"], 0
    for _ in range(400):
        name = str(rng.choice(names))
        index, value = int(rng.integers(len(getattr(tables, name)))), int(rng.integers(-3, 40))
        other = changed(tables, name, index, value)
        if not is_sound(other):
            continue
        followed += 1
        for word in range(other.num_words):
            state = other.start_state
            for _ in range(4):
                _, state = query(other, state, word)
                assert 0 <= state < len(other.back_offs)
    assert followed > 20
