"""Words, marks and cases of written texts: tables by hand, and the marks of any text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.readable.marked_text import CASES, MARKS, case_of, marked_words

TABLE = [
    ("He went home.", "He went home."),
    ('"Uncle," she said, "I do wish -- why?"', "Uncle, she said, I do wish, why?"),
    ("Well; it is: (so)!", "Well, it is, so!"),
    ("Mr. Smith and Mrs. Jones met Dr. Who.", "Mister Smith and Missus Jones met Doctor Who."),
    ("J. Smith of the U.S. Army", "J Smith of the U S Army"),
    ("He said... nothing", "He said, nothing"),
    ("He left... Nobody knew.", "He left. Nobody knew."),
    ("a week-end at St. Paul's", "a week end at Saint Paul's"),
    ("What?! No.", "What! No."),
    ("the boys' room, o'clock", "the boys room, o'clock"),
    ("", ""),
    ('"--"', ""),
]


@pytest.mark.parametrize(("written", "expected"), TABLE)
def test_words_and_marks(written: str, expected: str) -> None:
    assert " ".join(word.text + MARKS[word.mark] for word in marked_words(written)) == expected


@pytest.mark.parametrize(
    ("word", "case"),
    [("he", "lower"), ("He", "Capitalised"), ("I", "Capitalised"), ("I'LL", "Capitalised"), ("USA", "UPPER"),
     ("McCoy", "Capitalised"), ("iPhone", "lower"), ("'tis", "lower")],
)  # fmt: skip
def test_cases(word: str, case: str) -> None:
    assert CASES[case_of(word)] == case


@given(st.text(max_size=200))
def test_any_text_has_words_without_marks(text: str) -> None:
    for word in marked_words(text):
        assert word.text and 0 <= word.mark < len(MARKS)
        assert not set(word.text) & set(" \t\n,.?!;:")
