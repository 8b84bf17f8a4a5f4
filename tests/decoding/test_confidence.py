from __future__ import annotations

import math

import numpy as np
import pytest

from asr.decoding.confidence import (
    UNCHANGED,
    agreements,
    calibrated,
    evidence,
    fit_calibration,
    of_utterance,
    of_words,
    word_shares,
)


def test_shares_of_the_hypotheses_with_a_word_in_its_place():
    agreed = agreements([["A", "CAB"], ["A", "CAC"], ["CAB"], ["B", "A", "CAC"]])
    assert agreed.tolist() == [[1, 1], [1, 0], [0, 1], [1, 0]]
    for offset in (0.0, -700.0):
        shares = word_shares(agreed, np.log([0.5, 0.2, 0.2, 0.1]) + offset)
        assert shares == pytest.approx([0.8, 0.7])


def test_hypotheses_without_words_have_no_shares():
    assert word_shares(agreements([[], ["A"]]), np.zeros(2)).shape == (0,)


def test_words_have_the_geometric_mean_of_their_characters():
    assert of_words("ab c", np.array([0.5, 0.02, 0.9, 0.3])) == pytest.approx([0.1, 0.3])


def test_what_is_impossible_has_no_confidence():
    assert of_words("ab", np.array([1.0, 0.0])).tolist() == [0.0]
    assert of_words("", np.zeros(0)).shape == (0,)


def test_the_whole_utterance_is_evidence_for_each_word():
    seen = evidence(np.array([0.5, 0.9, 1.0]), of_utterance(np.array([0.2, 0.8, 0.4, 0.1])))
    whole = (0.2 * 0.8 * 0.4 * 0.1) ** 0.25
    expected = [[1, math.log(p / (1 - p)), math.log(whole / (1 - whole))] for p in (0.5, 0.9, 0.9999)]
    np.testing.assert_allclose(seen, expected)
    assert evidence(np.zeros(0), of_utterance(np.zeros(0))).shape == (0, 3)
    assert np.isfinite(evidence(np.array([0.0]), of_utterance(np.array([0.5, 0.0])))).all()


def test_calibration_may_leave_confidences_as_they_are():
    confidences = np.array([0.001, 0.3, 0.999])
    np.testing.assert_allclose(calibrated(evidence(confidences, of_utterance(np.array([0.4]))), UNCHANGED), confidences)
    assert fit_calibration(np.zeros((0, 3)), np.zeros(0, bool)).tolist() == list(UNCHANGED)


@pytest.mark.parametrize("scale", [1.0, 9.0])
def test_what_was_planted_is_found_again(rng, scale):
    """Words that are right as often as coefficients say, of utterances clear and not; all start far from the truth."""
    planted = np.array([-0.9, 0.75, 0.8])
    seen = np.stack([np.ones(40_000), rng.normal(0, scale, 40_000), rng.normal(0, 1, 40_000)], axis=1)
    right = rng.random(40_000) < calibrated(seen, planted)
    np.testing.assert_allclose(fit_calibration(seen, right), planted, atol=0.1)


def test_no_other_coefficients_are_likelier(rng):
    seen = np.stack([np.ones(60), rng.normal(0, 3, 60), rng.normal(0, 3, 60)], axis=1)
    right = rng.random(60) < 0.5

    def likelihood(coefficients):
        likely = np.log(np.where(right, calibrated(seen, coefficients), 1 - calibrated(seen, coefficients))).sum()
        return likely - 0.5 * ((coefficients - np.array(UNCHANGED)) ** 2).sum()

    found = fit_calibration(seen, right)
    for direction in rng.normal(0, 0.01, (50, 3)):
        other = np.maximum(found + direction, (-np.inf, 0, 0))
        assert likelihood(other) < likelihood(found) + 1e-12


def test_evidence_for_a_word_never_counts_against_it():
    seen = evidence(np.array([0.99] * 7 + [0.2]), of_utterance(np.array([0.7])))
    right = np.array([False] * 7 + [True])
    found = fit_calibration(seen, right)
    assert found[1] == 0 and found[2] >= 0
    assert calibrated(seen, found).max() < 0.3


def test_a_few_words_that_are_all_right_promise_nothing():
    seen = evidence(np.array([0.9, 0.8]), of_utterance(np.array([0.7])))
    assert calibrated(seen, fit_calibration(seen, np.array([True, True]))).max() < 0.99
