from __future__ import annotations

import pytest

from asr.errors import InputError
from asr.text.alphabet import Alphabet, byte_character, join_bytes
from asr.text.subwords import Subwords, spell_labels

E2, A9, C3 = (byte_character(byte) for byte in (0xE2, 0xA9, 0xC3))


@pytest.mark.parametrize(
    ("labels", "pieces"),
    [
        (["▁the", "s", "▁", "▁a|b"], [" the", "s", " ", " a|b"]),  # SentencePiece
        (["▁of▁the", "<0x41>", "<0xE2>", "<0x0A>", "<0x00>"], [" of the", "A", E2, " ", ""]),
        (["the", "##s", "##'", "▁", "##"], [" the", "s", "'", " ", " ##"]),  # WordPiece
        (["Ġthe", "s", "Ġ", "Ã©", "Ċ"], [" the", "s", " ", C3 + A9, " "]),  # bytes
        (["TH", "E", "|"], ["TH", "E", " "]),  # letters
        (["TH", "E", "▁"], ["TH", "E", " "]),
        (["th", "e", "<space>", "|"], ["th", "e", " ", " "]),
        (["th", "e", " ", "<0xC3>"], ["th", "e", " ", C3]),
        (["▁cafe\u0301", "\u0301", "a\u00adb", "\u200b"], [" caf\u00e9", "\u0301", "ab", ""]),  # NFC, visible
    ],
)
def test_each_style_spells_its_pieces(labels, pieces):
    assert spell_labels(labels) == pieces


def test_a_byte_level_vocabulary_has_bytes_alone():
    with pytest.raises(InputError, match=r"labels of a byte-level vocabulary .* got '我' in '我Ġ'"):
        spell_labels(["Ġthe", "我Ġ"])


def test_the_bytes_of_byte_level_labels_are_all_bytes():
    """Oracle: the published order, printable bytes first."""
    bytes_of = dict(zip("Ġ!~¡¬®ÿĀġ", spell_labels(list("Ġ!~¡¬®ÿĀġ")), strict=True))
    expected = {"Ġ": 0x20, "!": 0x21, "~": 0x7E, "¡": 0xA1, "¬": 0xAC, "®": 0xAE, "ÿ": 0xFF, "Ā": 0, "ġ": 0x7F}
    for label, byte in expected.items():
        visible = byte_character(byte) if byte not in (0, 0x7F) else ""
        assert bytes_of[label] == visible


def test_subwords_have_the_characters_of_their_pieces():
    subwords = Subwords((" the", "s", "t"))
    assert subwords.size == 4
    assert subwords.alphabet == Alphabet((" ", "e", "h", "s", "t"))
    assert subwords.spellings == [(), (1, 5, 3, 2), (4,), (5,)]
    assert subwords.decode([1, 2]) == " thes"
    assert subwords.begins_words and not Subwords(("the", " ")).begins_words


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ((), "pieces must have at least one character each"),
        (("a", ""), "pieces must have at least one character each"),
        (("a\tb",), "white space"),
    ],
)
def test_other_pieces_are_refused(pieces, message):
    with pytest.raises(InputError, match=message):
        Subwords(pieces)


def test_characters_outside_the_alphabet_are_spelled_in_bytes():
    every_byte = tuple(byte_character(byte) for byte in range(0x80, 0x100))
    alphabet = Alphabet((" ", "a", "c", "f", "é", *every_byte))
    for text in ("café", "ca€fé", "a😀", "a ß"):
        labels = alphabet.spell(text)
        assert labels and join_bytes(alphabet.decode(labels)) == text
    assert alphabet.spell("é") == (5,)
    assert len(alphabet.encode("€")) == 3
    assert alphabet.spell("b") is None  # an ASCII character has no other byte


@pytest.mark.parametrize(
    ("spelled", "text"),
    [
        ("abc", "abc"),
        (f"a{C3}{A9}b", "aéb"),
        (f"a{E2}b", "a\ufffdb"),  # an incomplete character
        (f"a{A9} {C3}", "a\ufffd \ufffd"),
        ("".join(map(byte_character, "\u00a0\u200b".encode())), "\ufffd\ufffd"),  # white space, an invisible character
    ],
)
def test_bytes_become_characters(spelled, text):
    assert join_bytes(spelled) == text
