from __future__ import annotations

import numpy as np
import pytest

from asr.confidence import agreements, of_words, word_shares


def test_shares_of_the_readings_with_a_word_in_its_place():
    agreed = agreements([["A", "CAB"], ["A", "CAC"], ["CAB"], ["B", "A", "CAC"]])
    assert agreed.tolist() == [[1, 1], [1, 0], [0, 1], [1, 0]]
    for offset in (0.0, -700.0):
        shares = word_shares(agreed, np.log([0.5, 0.2, 0.2, 0.1]) + offset)
        assert shares == pytest.approx([0.8, 0.7])


def test_readings_without_words_have_no_shares():
    assert word_shares(agreements([[], ["A"]]), np.zeros(2)).shape == (0,)


def test_words_have_the_geometric_mean_of_their_characters():
    assert of_words("ab c", np.array([0.5, 0.02, 0.9, 0.3])) == pytest.approx([0.1, 0.3])


def test_what_is_impossible_has_no_confidence():
    assert of_words("ab", np.array([1.0, 0.0])).tolist() == [0.0]
    assert of_words("", np.zeros(0)).shape == (0,)
