"""Pronunciations: the forms that lexicons come in, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from asr.errors import DataError
from asr.training.lexicon import Lexicon

CMUDICT = """\
;;; # CMUdict

# a comment
##
HELLO HH AH0 L OW1
HELLO(1) HH EH0 L OW1
aalborg AO1 L B AO0 R G # place, danish
read(2)\tR EH1 D
READ  R IY1 D
THE(12) DH IY0
'TIS T IH1 Z #slang
"""


@pytest.fixture
def lexicon(tmp_path: Path) -> Lexicon:
    (tmp_path / "cmudict").write_text(CMUDICT, encoding="utf-8")
    return Lexicon(tmp_path / "cmudict")


def phones(lexicon: Lexicon, text: str) -> str:
    labels = lexicon.encode(text)
    assert labels is not None
    return " ".join(lexicon.phones[label - 1] for label in labels)


@pytest.mark.parametrize(
    ("word", "pronunciation"),
    [
        ("HELLO", "HH AH0 L OW1"),  # the first of several
        ("AALBORG", "AO1 L B AO0 R G"),  # without its comment
        ("READ", "R EH1 D"),  # the first, though it is called a variant
        ("THE", "DH IY0"),
        ("'TIS", "T IH1 Z"),
        ("hello Read", "HH AH0 L OW1 R EH1 D"),  # in any case, without a mark between words
        ("", ""),
    ],
)
def test_words_have_the_phones_of_their_first_line(lexicon: Lexicon, word: str, pronunciation: str) -> None:
    assert phones(lexicon, word) == pronunciation


def test_comments_give_no_words_and_no_phones(lexicon: Lexicon) -> None:
    words = ["#", "##", "CMUDICT", "A", "COMMENT", "PLACE,", "#SLANG"]
    assert lexicon.unknown(" ".join(words)) == words
    assert set(lexicon.phones).isdisjoint({*words, "a", "comment", "place,", "danish", "#slang"})


def test_labels_count_from_one_and_leave_zero_to_the_blank(tmp_path: Path) -> None:
    (tmp_path / "lexicon").write_text("B Y X\nA Z X\n")
    lexicon = Lexicon(tmp_path / "lexicon")
    assert lexicon.phones == ("X", "Y", "Z")
    assert lexicon.size == 4
    assert lexicon.encode("A B") == [3, 1, 2, 1]


def test_a_text_with_an_unknown_word_has_no_phones(lexicon: Lexicon) -> None:
    assert lexicon.encode("hello world") is None
    assert lexicon.unknown("hello world the WORLD") == ["WORLD", "WORLD"]
    assert lexicon.unknown("hello") == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"HELLO HH AH0\n\nWORLD\n", r"lexicon:3: every word must have phones, but 'WORLD' has none"),
        (b"WORLD # W ER1 L D\n", r"lexicon:1: every word must have phones, but 'WORLD' has none"),
        (b"", r"lexicon: the lexicon must have words, but has none"),
        (b";;; nothing\n# at all\n", r"lexicon: the lexicon must have words, but has none"),
        ("DÉJÀ D EY2\n".encode("latin-1"), r"lexicon:1: must be text in utf-8: invalid"),
    ],
)
def test_what_is_no_lexicon_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "lexicon").write_bytes(content)
    with pytest.raises(DataError, match=message):
        Lexicon(tmp_path / "lexicon")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone: cannot be read: No such file or directory"):
        Lexicon(tmp_path / "gone")
    with pytest.raises(DataError, match=r": cannot be read: it must be a regular file, not a folder"):
        Lexicon(tmp_path)
    with pytest.raises(DataError, match=r"/dev/zero: cannot be read: it must be a regular file"):
        Lexicon("/dev/zero")
