"""What counts as shared words, against a search for every run in every text."""

from __future__ import annotations

import numpy as np

from asr.corpora.overlap import RUN_WORDS, Withheld


def shares(text: str, withheld: list[str]) -> bool:
    """The definition, by search: a run of eight words stands in both, or both are one and the same shorter text."""
    words = text.split()
    runs = [" ".join(words[start : start + RUN_WORDS]) for start in range(len(words) - RUN_WORDS + 1)]
    if any(f" {run} " in f" {other} " for run in runs for other in withheld):
        return True
    return 0 < len(words) < RUN_WORDS and words in [other.split() for other in withheld]


def test_shared_runs_are_those_of_a_search(rng: np.random.Generator) -> None:
    def text(longest: int) -> str:
        return " ".join(rng.choice(["A", "B"], rng.integers(longest)))

    withheld = [text(14) for _ in range(10)]
    found = Withheld(withheld)
    texts = [text(16) for _ in range(2000)]
    assert [found.shares(candidate) for candidate in texts] == [shares(candidate, withheld) for candidate in texts]
    assert 200 < sum(found.shares(candidate) for candidate in texts) < 1800


def test_edges() -> None:
    withheld = Withheld(["", "YES", "A B C D E F G H"])
    assert not withheld.shares("")
    assert withheld.shares("YES")
    assert not withheld.shares("YES YES")
    assert withheld.shares("X A B C D E F G H X")
    assert not withheld.shares("A B C D E F G")
    assert not Withheld([]).shares("A")
