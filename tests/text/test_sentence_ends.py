"""Where sentences end."""

from __future__ import annotations

import time

import pytest

from asr.text.sentence_ends import ends_sentence


@pytest.mark.parametrize(
    ("word", "following", "ended"),
    [
        ("went.", "Then", True),
        ("went", "Then", False),
        ('went!"', '"Then', True),
        ("went…”", "", True),
        ("好。", "他", True),
        ("went.", "and", False),
        ("Why?", '"he', False),
        ("Mr.", "Brown", False),
        ("(Mrs.", "Brown", False),
        ("J.", "Brown", False),
        ("a.", "Then", True),
        ("3.", "Then", True),
        ("U.S.", "Then", True),
        ("", "", False),
    ],
)
def test_marks_end_a_sentence_but_not_an_abbreviation(word: str, following: str, ended: bool) -> None:
    assert ends_sentence(word, following) is ended


@pytest.mark.parametrize("word", [100_000 * ".", 100_000 * "." + "a", 100_000 * '"', 100_000 * "'" + "J."])
def test_a_long_word_takes_linear_time(word: str) -> None:
    start = time.process_time()
    ends_sentence(word, word)
    assert time.process_time() - start < 2
