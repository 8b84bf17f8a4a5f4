"""The oracle itself, against tables worked by hand."""

from __future__ import annotations

import math

import pytest

from tests.ctc.enumeration import labelling_probabilities, merge_and_drop


def test_merge_and_drop_by_hand():
    assert merge_and_drop([1, 1, 0, 1, 2, 2], blank=0) == (1, 1, 2)
    assert merge_and_drop([2, 2, 2], blank=2) == ()


def test_two_frames_of_one_character_by_hand():
    # p(Φ) = 0.6 in both frames: "" is ΦΦ; "a" is Φa, aΦ and aa; no path says "aa".
    rows = [[math.log(0.6), math.log(0.4)]] * 2
    assert labelling_probabilities(rows, blank=0) == pytest.approx({(): 0.36, (1,): 0.64})


def test_three_frames_by_hand():
    # "aa" has the one path aΦa: 0.5 * 0.25 * 0.2.
    rows = [[math.log(0.5), math.log(0.5)], [math.log(0.25), math.log(0.75)], [math.log(0.8), math.log(0.2)]]
    table = labelling_probabilities(rows, blank=0)
    assert table[(1, 1)] == pytest.approx(0.025)
    assert table[()] == pytest.approx(0.5 * 0.25 * 0.8)
    assert sum(table.values()) == pytest.approx(1.0)


def test_no_frames_say_nothing():
    assert labelling_probabilities([], blank=0) == {(): 1.0}
