"""Passages that two texts do not share, against an alignment by recursion and against planted passages."""

from __future__ import annotations

import random
from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.recognition import differences
from asr.recognition.differences import Difference, find_differences

WORDS = [f"{first}{vowel}{last}" for first in "bdfgklmnprst" for vowel in "aeiou" for last in "bdglmnprst"]


def best_score(text: str, heard: str) -> int:
    """The score of the best alignment, by recursion over its last step and every length of a last run."""

    @lru_cache(None)
    def best(row: int, column: int) -> int:
        if row == column == 0:
            return 0
        options = [best(row - length, column) + max(-50 * length, -500 - length) for length in range(1, row + 1)] + [
            best(row, column - length) + max(-50 * length, -500 - length) for length in range(1, column + 1)
        ]
        if row and column:
            options.append(best(row - 1, column - 1) + (50 if text[row - 1] == heard[column - 1] else -50))
        return max(options)

    return best(len(text), len(heard))


def score_of(text: str, heard: str, runs: list[tuple[int, int, int, int]]) -> int:
    """The score of an alignment with these runs, and the best one of single steps between them."""
    total, row, column = 0, 0, 0
    for first, end, heard_first, heard_end in [*runs, (len(text), len(text), len(heard), len(heard))]:
        total += best_score(text[row:first], heard[column:heard_first])
        length = end - first + heard_end - heard_first
        total += -500 - length if length else 0
        row, column = end, heard_end
    return total


@settings(deadline=None, max_examples=60)
@given(st.text("ab", max_size=30), st.text("ab", max_size=30), st.integers(0, 30), st.text("abc", max_size=40))
def test_runs_belong_to_a_best_alignment(text, heard, place, planted):
    heard = heard[:place] + planted + heard[place:]
    runs = list(differences._character_runs(text, heard))[::-1]
    assert score_of(text, heard, runs) == best_score(text, heard)


def misheard(words: list[str], rng: random.Random, rate: float) -> list[str]:
    """The words with some of their letters replaced, and some words joined."""
    spoken = ["".join(rng.choice("aeioubdgp") if rng.random() < rate else letter for letter in word) for word in words]
    joined: list[str] = []
    for word in spoken:
        if joined and rng.random() < rate:
            joined[-1] += word
        else:
            joined.append(word)
    return joined


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.2])
@pytest.mark.parametrize("seed", range(6))
def test_a_planted_passage_is_found_in_what_is_misheard(rate, seed):
    rng = random.Random(seed)
    words = rng.choices(WORDS, k=200)
    first = rng.choice([0, 60, 120, 160])
    end = first + 40
    assert find_differences(words, misheard(words, rng, rate)) == []
    (lacking,) = find_differences(words[:first] + words[end:], misheard(words, rng, rate))
    assert lacking.first == lacking.end and abs(lacking.first - first) <= 1
    assert 40 * (1 - 2 * rate) - 3 <= lacking.heard_end - lacking.heard_first <= 43
    (unspoken,) = find_differences(words, misheard(words[:first] + words[end:], rng, rate))
    assert unspoken.heard_first == unspoken.heard_end
    assert abs(unspoken.first - first) <= 1 and abs(unspoken.end - end) <= 1


def test_a_passage_in_the_place_of_another_is_misheard():
    rng = random.Random(0)
    words, others = rng.choices(WORDS, k=90), rng.choices([word.upper() for word in WORDS], k=30)
    assert find_differences(words, words[:30] + others + words[60:]) == []


def test_a_passage_in_the_place_of_a_shorter_one_is_misheard_too():
    first, last = ["THE", "CAT", "SAT"], ["ON", "THE", "MAT"]
    text = [*first, "XYLOPHONE", "ZUCCHINI", "QUAGMIRE", "JUKEBOXES", "WIZARDRY", "BUZZWORDS", *last]
    heard = [*first, "ARENA", "LENTIL", "TEAROOM", "MOTEL", "RETINA", *last]
    assert find_differences(text, heard) == find_differences(heard, text) == []
    assert find_differences(text, first + last) == [Difference(3, 9, 3, 3)]


def test_few_words_are_no_passage():
    words = WORDS[:30]
    assert find_differences(words, words[:10] + words[14:]) == []
    assert find_differences(words, words[:10] + words[15:]) == [Difference(10, 15, 10, 10)]
    assert find_differences(words[:10] + words[15:], words) == [Difference(10, 10, 10, 15)]
    assert find_differences([], words[:9]) == [Difference(0, 0, 0, 9)]
    assert find_differences([], []) == find_differences(words[:4], []) == []


def test_long_texts_that_share_nothing_are_not_compared():
    assert find_differences(WORDS * 4, [word.upper() for word in WORDS * 4]) == []
