"""Words as they are said."""

from __future__ import annotations

import pytest

from asr.errors import InputError
from asr.text.normalization import TextOptions
from asr.text.numbers import spell_number_places, spell_numbers
from asr.text.readings import read_words, spoken_words
from asr.text.transcript import find_words


def read(text: str, options: TextOptions | None = None, *, letters: str = "") -> list[str]:
    words, note = read_words(
        text, list(find_words(text)), options or TextOptions(), lambda c: c.isalpha() or c in letters
    )
    assert note == ""
    return words


@pytest.mark.parametrize(
    ("text", "readings"),
    [
        ("It cost $5.50 & more", ["It", "cost", "five dollars and fifty cents", "and", "more"]),
        ("On May 5, 2023 he", ["On", "may", "fifth", "twenty twenty three", "he"]),
        ("A4, 12-year-old, 3/4", ["A four,", "twelve-year-old,", "three quarters"]),
        ("50 % (1961)", ["fifty", "percent", "(nineteen sixty one)"]),
        ("call 555 123 4567", ["call", "five five five", "one two three", "four five six seven"]),
        ("no number — [50 laughs] here", ["no", "number", "—", "", "", "here"]),
        ("AT&T is AT & T", ["AT&T", "is", "AT", "and", "T"]),
    ],
)
def test_numbers_and_signs_are_read(text, readings):
    pytest.importorskip("num2words")
    assert read(text) == readings


def test_what_the_model_can_spell_stays():
    assert read("5 & 6", letters="0123456789&") == ["5", "&", "6"]
    assert read("5 & 6", TextOptions(language="de")) == ["5", "&", "6"]


def test_marks_are_not_said():
    text = "go [the door] ho[noise]me 🙂"
    assert spoken_words(text, list(find_words(text)), TextOptions()) == ["go", "", "", "home", "🙂"]
    assert spoken_words(text, list(find_words(text)), TextOptions(marks="keep")) == text.split()
    with pytest.raises(InputError, match="a text must have no marks"):
        spoken_words(text, list(find_words(text)), TextOptions(marks="refuse"))


def test_the_places_of_numbers_are_those_that_spell_numbers_changes():
    pytest.importorskip("num2words")
    with open("tests/text/numbers.txt", encoding="utf-8") as file:
        texts = [part for line in file for part in line.rstrip("\n").split("\t")]
    assert len(texts) > 100
    for text in texts:
        pieces, position = [], 0
        for start, end, words in spell_number_places(text):
            assert position <= start < end
            pieces += [text[position:start], words]
            position = end
        assert "".join([*pieces, text[position:]]) == spell_numbers(text)
