"""Alignment against enumeration, jiwer and sclite; the statistics against closed forms and planted answers."""

from __future__ import annotations

import itertools
import math
import random
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import InputError
from asr.text.metrics import (
    AlignedPair,
    ErrorCounts,
    align_tokens,
    bootstrap_interval,
    calibration_error,
    cer,
    character_errors,
    paired_test,
    wer,
    word_errors,
)
from tests.oracles import load_or_skip


def best_by_enumeration(reference: str, hypothesis: str) -> int:
    """Fewest errors over all alignments: each is a choice of which tokens pair up, in order."""
    return min(
        len(reference)
        + len(hypothesis)
        - 2 * size
        + sum(reference[i] != hypothesis[j] for i, j in zip(*sides, strict=True))
        for size in range(min(len(reference), len(hypothesis)) + 1)
        for sides in itertools.product(
            itertools.combinations(range(len(reference)), size), itertools.combinations(range(len(hypothesis)), size)
        )
    )


@cache
def best_by_recursion(reference: tuple[str, ...], hypothesis: tuple[str, ...]) -> int:
    """Edit distance as textbooks define it."""
    if not reference or not hypothesis:
        return len(reference) + len(hypothesis)
    return min(
        best_by_recursion(reference[:-1], hypothesis) + 1,
        best_by_recursion(reference, hypothesis[:-1]) + 1,
        best_by_recursion(reference[:-1], hypothesis[:-1]) + (reference[-1] != hypothesis[-1]),
    )


def errors_of(steps: list[AlignedPair]) -> int:
    return sum(step.operation != "match" for step in steps)


def assert_is_alignment(steps: list[AlignedPair], reference: list[str], hypothesis: list[str]) -> None:
    assert [step.reference for step in steps if step.operation != "insertion"] == reference
    assert [step.hypothesis for step in steps if step.operation != "deletion"] == hypothesis
    for step in steps:
        assert (step.reference is None) == (step.operation == "insertion")
        assert (step.hypothesis is None) == (step.operation == "deletion")
        assert (step.operation == "match") == (step.reference == step.hypothesis)


def utterance(errors: int, length: int) -> ErrorCounts:
    return ErrorCounts(insertions=errors, reference_length=length)


def test_enumeration_knows_the_textbook_distances() -> None:
    assert best_by_enumeration("kitten", "sitting") == best_by_recursion(tuple("kitten"), tuple("sitting")) == 3
    assert best_by_enumeration("", "ab") == best_by_recursion((), ("a", "b")) == 2


def test_align_by_hand() -> None:
    assert align_tokens(["the", "cat", "sat"], ["a", "the", "cat", "at"]) == [
        ("insertion", None, "a"),
        ("match", "the", "the"),
        ("match", "cat", "cat"),
        ("substitution", "sat", "at"),
    ]
    assert align_tokens("好棒棒", "好棒") == [("match", "好", "好"), ("match", "棒", "棒"), ("deletion", "棒", None)]
    assert align_tokens([], []) == []
    assert align_tokens(["a"], []) == [("deletion", "a", None)]
    assert align_tokens([], ["a"]) == [("insertion", None, "a")]


def test_align_is_shortest_among_all_alignments_of_tiny_sequences() -> None:
    for lengths in itertools.product(range(5), repeat=2):
        for letters in itertools.product("ab", repeat=sum(lengths)):
            reference, hypothesis = "".join(letters[: lengths[0]]), "".join(letters[lengths[0] :])
            steps = align_tokens(reference, hypothesis)
            assert_is_alignment(steps, list(reference), list(hypothesis))
            assert errors_of(steps) == best_by_enumeration(reference, hypothesis), (reference, hypothesis)


@settings(deadline=None)
@given(st.lists(st.sampled_from("abcd"), max_size=40), st.lists(st.sampled_from("abcde"), max_size=40))
def test_align_is_shortest_by_the_recursion(reference: list[str], hypothesis: list[str]) -> None:
    steps = align_tokens(reference, hypothesis)
    assert_is_alignment(steps, reference, hypothesis)
    assert errors_of(steps) == best_by_recursion(tuple(reference), tuple(hypothesis))
    assert errors_of(align_tokens(hypothesis, reference)) == errors_of(steps)


def damaged(rng: random.Random, words: list[str], vocabulary: list[str]) -> list[str]:
    kept = [rng.choice(vocabulary) if rng.random() < 0.15 else word for word in words if rng.random() > 0.1]
    return [word for each in kept for word in ([each, rng.choice(vocabulary)] if rng.random() < 0.1 else [each])]


def sentence_pairs(number: int, length: int) -> list[tuple[str, str]]:
    rng = random.Random(7)
    pairs = []
    for _ in range(number):
        vocabulary = [f"w{i}" for i in range(rng.choice([2, 5, 50]))]
        words = rng.choices(vocabulary, k=rng.randrange(length))
        other = damaged(rng, words, vocabulary) if rng.random() < 0.7 else rng.choices(vocabulary, k=rng.randrange(9))
        pairs.append((" ".join(words), " ".join(other)))
    return pairs


def test_word_errors_are_those_of_jiwer() -> None:
    jiwer = load_or_skip("jiwer")
    for reference, hypothesis in sentence_pairs(500, length=60):
        ours, theirs = word_errors(reference, hypothesis), jiwer.process_words(reference, hypothesis)
        assert (ours.substitutions, ours.insertions, ours.deletions, ours.hits) == (
            theirs.substitutions,
            theirs.insertions,
            theirs.deletions,
            theirs.hits,
        )
        assert ours.rate == theirs.wer


def test_character_errors_are_those_of_jiwer() -> None:
    jiwer = load_or_skip("jiwer")
    for reference, hypothesis in sentence_pairs(200, length=30):
        ours, theirs = character_errors(reference, hypothesis), jiwer.process_characters(reference, hypothesis)
        assert ours.errors == theirs.substitutions + theirs.insertions + theirs.deletions
        assert ours.insertions - ours.deletions == theirs.insertions - theirs.deletions
        assert ours.rate == theirs.cer


def test_corpus_rates_are_those_of_jiwer() -> None:
    jiwer = load_or_skip("jiwer")
    references, hypotheses = map(list, zip(*sentence_pairs(100, length=20), strict=True))
    assert wer(references, hypotheses) == pytest.approx(jiwer.wer(references, hypotheses), rel=1e-12)
    assert cer(references, hypotheses) == pytest.approx(jiwer.cer(references, hypotheses), rel=1e-12)
    total = sum(map(word_errors, references, hypotheses), start=ErrorCounts())
    assert total.rate == wer(references, hypotheses)


def test_align_a_long_text() -> None:
    rng = random.Random(3)
    vocabulary = [f"w{i}" for i in range(500)]
    reference = rng.choices(vocabulary, k=4000)
    hypothesis = damaged(rng, reference, vocabulary)
    steps = align_tokens(reference, hypothesis)
    assert_is_alignment(steps, reference, hypothesis)
    theirs = load_or_skip("jiwer").process_words(" ".join(reference), " ".join(hypothesis))
    assert errors_of(steps) == theirs.substitutions + theirs.insertions + theirs.deletions


def test_corpus_rate_is_total_errors_over_total_words_not_a_mean_of_rates() -> None:
    assert wer(["a", "b c d e"], ["x", "b c d e"]) == 1 / 5
    assert wer("a b", "a b c d e") == 3 / 2
    assert cer("ab", "b") == 1 / 2


# jitsi/jiwer c1b0d5e, tests/test_measures.py, test_cer.py and test_empty_ref.py, Apache-2.0; X, Y and Z come from
# Morris, Maier and Green 2004, "From WER and RIL to MER and WIL: improved evaluation measures for connected speech".
@pytest.mark.parametrize(
    ("references", "hypotheses", "word_rate", "character_rate"),
    [
        ("X", "X", 0, 0),
        ("X", "X X Y Y", 3, 6),
        ("X Y X", "X Z", 2 / 3, 3 / 5),
        ("X", "Y", 1, 1),
        ("X", "Y Z", 2, 3),
        ("This is a test", "This is a test", 0, 0),
        ("This is a test", "", 1, 1),
        ("This is a test", "This test", 2 / 4, 5 / 14),
        (["i", "am i good"], ["i am", "i good"], 2 / 4, 6 / 10),
        (["am i good", "i"], ["i good", "i am"], 2 / 4, 6 / 10),
        ("", "", 0, 0),
        ("", "a b c", 3, 5),
        (["hello world", ""], ["hello world", "done"], 1 / 2, 4 / 11),
    ],
)
def test_rates_that_jiwer_and_its_source_publish(references, hypotheses, word_rate, character_rate) -> None:
    assert wer(references, hypotheses) == pytest.approx(word_rate, abs=1e-15)
    assert cer(references, hypotheses) == pytest.approx(character_rate, abs=1e-15)


def test_errors_of_sclites_example() -> None:
    """In all 51 utterances as many errors; in one of them, of two shortest alignments, sclite takes the other."""
    total, other = ErrorCounts(), []
    with open(Path(__file__).with_name("csrnab.tsv"), encoding="utf-8") as file:
        rows = [line.split() for line in file if not line.startswith("#")]
    for name, *numbers, reference, hypothesis in rows:
        hits, substitutions, deletions, insertions = map(int, numbers)
        counts = word_errors(" ".join(reference), " ".join(hypothesis))
        assert counts.errors == substitutions + deletions + insertions, name
        assert counts.reference_length == hits + substitutions + deletions, name
        if (counts.hits, counts.substitutions) != (hits, substitutions):
            other.append(name)
        total += counts
    assert (len(rows), total.reference_length, total.errors) == (51, 1406, 169)
    assert other == ["4t0c0207"]  # sclite's insertions and deletions cost 3, its substitutions 4


def test_empty_texts() -> None:
    assert word_errors("", "") == ErrorCounts()
    assert wer("a b", "") == 1


def test_white_space_is_the_only_convention() -> None:
    assert word_errors(" a \t b\n", "a b").errors == 0
    assert character_errors(" a   b ", "a b") == ErrorCounts(reference_length=3)
    assert character_errors("a b", "ab") == ErrorCounts(deletions=1, reference_length=3)
    assert character_errors("a b", "ab", spaces=False) == ErrorCounts(reference_length=2)
    assert cer("好 棒 棒", "好棒", spaces=False) == 1 / 3
    assert wer("Don't", "don't") == wer("don't", "don\u2019t") == wer("a.", "a") == 1


def test_rates_refuse_texts_that_do_not_pair_up() -> None:
    with pytest.raises(InputError, match="must both be one str, or both a list of them; got str and list"):
        wer("a", ["a"])
    with pytest.raises(InputError, match="each reference must have a hypothesis; got 2 and 1"):
        cer(["a", "b"], ["a"])
    with pytest.raises(InputError, match="at least one reference; got none"):
        wer([], [])


def test_error_counts_refuse_what_cannot_be() -> None:
    with pytest.raises(InputError, match="insertions must be an integer >= 0; got -1"):
        ErrorCounts(insertions=-1)
    with pytest.raises(InputError, match=r"reference_length must be an integer >= 0; got 2\.0"):
        ErrorCounts(reference_length=2.0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"substitutions \+ deletions must not exceed the reference_length; got .*=2"):
        ErrorCounts(substitutions=1, deletions=2, reference_length=2)


def test_interval_of_binomial_errors_has_the_analytic_width() -> None:
    number, wrong = 2000, 200  # one-word utterances: the rate is a binomial proportion
    low, high = bootstrap_interval([utterance(int(i < wrong), 1) for i in range(number)])
    half = 1.959964 * math.sqrt(0.1 * 0.9 / number)
    assert low == pytest.approx(0.1 - half, abs=0.05 * half)
    assert high == pytest.approx(0.1 + half, abs=0.05 * half)
    narrow = bootstrap_interval([utterance(int(i < wrong), 1) for i in range(number)], level=0.5)
    assert narrow[1] - narrow[0] == pytest.approx(2 * 0.674490 * half / 1.959964, rel=0.1)


def test_interval_of_a_ratio_matches_the_delta_method() -> None:
    rng = np.random.default_rng(5)
    lengths = rng.integers(1, 30, size=1000)
    errors = rng.binomial(lengths, 0.2)
    rate = errors.sum() / lengths.sum()
    half = 1.959964 * math.sqrt(((errors - rate * lengths) ** 2).sum()) / lengths.sum()
    low, high = bootstrap_interval([utterance(int(e), int(n)) for e, n in zip(errors, lengths, strict=True)])
    assert (high - low) / 2 == pytest.approx(half, rel=0.05)
    assert (high + low) / 2 == pytest.approx(rate, abs=0.1 * half)


def test_interval_over_speakers_sees_that_errors_of_a_speaker_go_together() -> None:
    counts = [utterance(speaker % 2, 1) for speaker in range(40) for _ in range(25)]
    speakers = [f"s{speaker}" for speaker in range(40) for _ in range(25)]
    low, high = bootstrap_interval(counts)
    low_by_speaker, high_by_speaker = bootstrap_interval(counts, groups=speakers)
    # 25 equal utterances each: the interval is that of 40 draws, not of 1000.
    assert (high_by_speaker - low_by_speaker) / (high - low) == pytest.approx(math.sqrt(25), rel=0.1)
    totals = [utterance(25 * (speaker % 2), 25) for speaker in range(40)]
    assert bootstrap_interval(totals) == (low_by_speaker, high_by_speaker)
    assert bootstrap_interval(counts, groups=range(1000)) == (low, high)


def test_interval_is_repeatable_by_its_seed_and_covers_its_rate() -> None:
    counts = [utterance(i % 3, 5 + i % 7) for i in range(60)]
    low, high = bootstrap_interval(counts, seed=1)
    assert (low, high) == bootstrap_interval(counts, seed=1) != bootstrap_interval(counts, seed=2)
    assert low < sum(counts, start=ErrorCounts()).rate < high
    assert bootstrap_interval([utterance(0, 3)] * 4) == (0.0, 0.0)
    assert bootstrap_interval([utterance(1, 4)] * 4) == (0.25, 0.25)
    assert bootstrap_interval([utterance(1, 0), utterance(0, 4)]) == (0.0, 2.0)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    covered = 0
    for trial in range(300):
        errors = rng.binomial(10, 0.15, size=80)
        low, high = bootstrap_interval([utterance(int(e), 10) for e in errors], level=0.9, resamples=500, seed=trial)
        covered += low <= 0.15 <= high
    assert 0.85 <= covered / 300 <= 0.95


def sign_flip_by_enumeration(differences: list[int]) -> float:
    sums = [
        abs(sum(sign * d for sign, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    return sum(value >= abs(sum(differences)) for value in sums) / len(sums)


def test_p_value_is_that_of_all_choices_of_signs() -> None:
    rng = random.Random(2)
    for _ in range(50):
        a = [rng.randrange(5) for _ in range(rng.randrange(2, 11))]
        b = [rng.randrange(5) for _ in a]
        found = paired_test([utterance(e, 6) for e in a], [utterance(e, 6) for e in b], resamples=10)
        assert found.p_value == pytest.approx(sign_flip_by_enumeration([x - y for x, y in zip(a, b, strict=True)]))


def test_p_value_by_hand() -> None:
    # Five utterances, each one error better: only the two extreme choices of signs of 32 are as large.
    found = paired_test([utterance(0, 10)] * 5, [utterance(1, 10)] * 5)
    assert found.p_value == pytest.approx(2 / 32)
    assert (found.difference, found.low, found.high) == pytest.approx((-0.1, -0.1, -0.1))


def test_p_value_in_a_large_set_approaches_the_normal_one_of_gillick_and_cox() -> None:
    rng = np.random.default_rng(9)
    a, b = rng.binomial(20, 0.10, size=3000), rng.binomial(20, 0.103, size=3000)
    z = (a - b).sum() / math.sqrt(((a - b) ** 2).sum())
    found = paired_test([utterance(int(e), 20) for e in a], [utterance(int(e), 20) for e in b])
    assert found.p_value == pytest.approx(math.erfc(abs(z) / math.sqrt(2)), rel=0.05)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * math.sqrt(3000) * (a - b).std() / 60000, rel=0.05)


def test_p_value_is_calibrated_when_the_systems_are_equally_good() -> None:
    rng = np.random.default_rng(4)
    p_values = []
    for _ in range(1000):
        hard = rng.uniform(0, 0.3, size=60)  # some utterances are hard for both systems
        a, b = rng.binomial(12, hard), rng.binomial(12, hard)
        found = paired_test([utterance(int(e), 12) for e in a], [utterance(int(e), 12) for e in b], resamples=1)
        p_values.append(found.p_value)
    for level in (0.05, 0.2, 0.5):
        share = np.mean(np.array(p_values) <= level)
        assert level - 0.05 <= share <= level + 0.02  # discrete: at most its level, but for the noise of 1000 trials


def test_paired_test_finds_a_planted_difference_that_unpaired_intervals_miss() -> None:
    rng = np.random.default_rng(6)
    hard = rng.integers(0, 10, size=200)
    worse = (rng.random(200) < 0.3).astype(int)
    a, b = [utterance(int(e), 20) for e in hard], [utterance(int(e), 20) for e in hard + worse]
    found, swapped = paired_test(a, b), paired_test(b, a)
    assert found.difference == pytest.approx(-worse.sum() / 4000)
    assert found.low < found.difference < found.high < 0
    assert found.p_value < 1e-6
    assert (swapped.difference, swapped.p_value) == (-found.difference, found.p_value)
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low))
    assert bootstrap_interval(a)[1] > bootstrap_interval(b)[0]


def test_paired_test_over_speakers_is_that_of_their_totals() -> None:
    rng = np.random.default_rng(8)
    a, b = rng.binomial(10, 0.2, size=(2, 60))
    speakers = [i % 8 for i in range(60)]
    rows = [[utterance(int(e), 10) for e in side] for side in (a, b)]
    totals = [
        [sum((c for c, s in zip(row, speakers, strict=True) if s == k), start=ErrorCounts()) for k in range(8)]
        for row in rows
    ]
    assert paired_test(*rows, groups=speakers) == paired_test(*totals)
    assert paired_test(*rows) != paired_test(*totals)


def test_the_same_system_twice_does_not_differ() -> None:
    counts = [utterance(i % 2, 3) for i in range(10)]
    found = paired_test(counts, counts)
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_statistics_refuse_what_says_nothing() -> None:
    two = [utterance(1, 2), utterance(0, 3)]
    with pytest.raises(InputError, match="at least two utterances to estimate a variation; got 1"):
        bootstrap_interval(two[:1])
    with pytest.raises(InputError, match="at least two groups to estimate a variation; got 1"):
        bootstrap_interval(two, groups=["anna", "anna"])
    with pytest.raises(InputError, match="each utterance must have its group; got 1 groups for 2 counts"):
        bootstrap_interval(two, groups=["anna"])
    with pytest.raises(InputError, match="at least one reference must have a word or character; all 2 are empty"):
        bootstrap_interval([utterance(1, 0), utterance(0, 0)])
    with pytest.raises(InputError, match="level must lie between 0 and 1; got 95"):
        bootstrap_interval(two, level=95)
    with pytest.raises(InputError, match="resamples must be an integer >= 1; got 0"):
        bootstrap_interval(two, resamples=0)
    with pytest.raises(InputError, match="both systems must have the same utterances; got 2 and 1 counts"):
        paired_test(two, two[:1])
    with pytest.raises(InputError, match="same references, but utterance 1 has reference_length 3 for a and 4 for b"):
        paired_test(two, [utterance(1, 2), utterance(0, 4)])


def test_calibration_error_by_hand():
    """Two bins: in the lower one 0.2 and 0.4 with one right, in the upper one 0.9 with one right."""
    error = calibration_error([0.2, 0.4, 0.9, 1.0], [False, True, True, True], num_bins=2)
    assert error == pytest.approx((abs(0.6 - 1) + abs(1.9 - 2)) / 4)
    assert calibration_error([0.05, 1.0], [False, True]) == pytest.approx(0.05 / 2)


def test_confidences_that_tell_the_truth_are_calibrated():
    rng = np.random.default_rng(0)
    confidences = rng.uniform(size=200_000)
    right = rng.uniform(size=200_000) < confidences
    assert calibration_error(confidences, right) < 0.005
    assert calibration_error(np.sqrt(confidences), right) > 0.1


@pytest.mark.parametrize(("confidences", "correct"), [([], []), ([0.5], []), ([1.5], [True]), ([math.nan], [True])])
def test_confidences_that_are_none_are_refused(confidences, correct):
    with pytest.raises(InputError, match=r"confidences must lie in 0 .. 1, at least one, with as many judgements"):
        calibration_error(confidences, correct)
