"""Numbers in words: a table of written forms, checked by hand, and an inverse for whole numbers and years."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from asr.errors import ConfigError
from asr.text import numbers
from asr.text.normalization import TextOptions, normalize
from asr.text.numbers import cardinal, ordinal, spell_numbers, year

TABLE = [line.split(" -> ") for line in (Path(__file__).parent / "numbers.txt").read_text("utf-8").splitlines()]
SPELL = TextOptions(numbers="spell")
SMALL = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


@pytest.fixture(autouse=True)
def needs_num2words() -> None:
    pytest.importorskip("num2words")


def value(words: str) -> int:
    """The number that English words say: an independent inverse of `cardinal`."""
    total, part = 0, 0
    for word in words.split():
        if word in SMALL:
            part += SMALL.index(word)
        elif word in TENS:
            part += 20 + 10 * TENS.index(word)
        elif word == "hundred":
            part *= 100
        else:
            total += part * 1000 ** (1 + ["thousand", "million", "billion", "trillion"].index(word))
            part = 0
    return total + part


def test_the_inverse() -> None:
    assert value("two million three hundred forty thousand six") == 2_340_006


def test_the_table_is_long() -> None:
    assert len(TABLE) >= 150 and len({written for written, _ in TABLE}) == len(TABLE)


@pytest.mark.parametrize(("written", "spoken"), TABLE)
def test_written_forms(written: str, spoken: str) -> None:
    assert spell_numbers(written) == spoken
    assert not any(character in "0123456789$€£%°" for character in spoken)


@pytest.mark.parametrize("number", [*range(0, 130), *range(990, 1015), 99_999, 100_000, 1_000_001, 987_654_321_012])
def test_whole_numbers_come_back(number: int) -> None:
    assert value(cardinal(number)) == number
    assert value(spell_numbers(f"{number:,}")) == number
    assert ordinal(number)[-2:] in ("st", "nd", "rd", "th")


def test_years_are_two_pairs_of_digits() -> None:
    for number in range(1110, 2000):
        first, last = year(number).split(maxsplit=1)
        tail = last.replace("oh ", "").replace("hundred", "zero")
        assert 100 * value(first) + value(tail) == number


def test_text_around_numbers_stays() -> None:
    assert spell_numbers("") == "" and spell_numbers("No numbers: none - at all.") == "No numbers: none - at all."
    assert spell_numbers("He paid $5, (or 6), didn't he?") == "He paid five dollars, (or six), didn't he?"


def test_long_places_in_an_order_are_read_digit_by_digit() -> None:
    assert (
        spell_numbers("1234567890123452nd") == "one two three four five six seven eight nine zero one two three "
        "four five second"
    )
    assert spell_numbers("9" * 5000 + "th").split() == ["nine"] * 4999 + ["ninth"]


def test_digits_of_other_scripts_are_not_lost() -> None:
    assert spell_numbers("call ٠١٢-٣٤٥٦ 5") == "call zero one two three four five six five"


def test_normalised_texts() -> None:
    assert normalize("In 1923, 100 % were 5.", SPELL) == "IN NINETEEN TWENTY THREE ONE HUNDRED PERCENT WERE FIVE"
    assert normalize("It's 10:00.", SPELL) == "IT'S TEN O'CLOCK"
    assert normalize("10 [noise] men", SPELL) == "TEN MEN"
    assert normalize("3 p.m.", TextOptions(numbers="spell", case="keep", punctuation="keep")) == "three p m"
    assert normalize("3.5 km", TextOptions()) == "3 5 KM"  # the default keeps digits
    for written, _ in TABLE:
        once = normalize(written, SPELL)
        assert normalize(once, SPELL) == once


def test_spelling_is_english_only() -> None:
    with pytest.raises(ConfigError, match="numbers can be spelled in English only, but language is 'de'"):
        TextOptions(language="de", numbers="spell")


def test_a_missing_library_is_named_only_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "num2words", None)
    numbers.cardinal.cache_clear()
    assert normalize("No digits, no library!", SPELL) == "NO DIGITS NO LIBRARY"
    with pytest.raises(ConfigError, match=r"num2words must be installed: pip install 'asr\[numbers\]'"):
        normalize("7 men", SPELL)
