"""Numbers in figures: a table written by hand, the way back through `asr.text.numbers`, and the spans of the words."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.readable.number_words import NUMBER_WORDS
from asr.readable.numbers import Written, find_numbers, write_numbers
from asr.text.numbers import cardinal, ordinal, spell_numbers, year

TABLE = [line.split(" -> ") for line in (Path(__file__).parent / "numbers.txt").read_text("utf-8").splitlines()]
WORDS = [*sorted(NUMBER_WORDS), "a", "and", "point", "past", "to", "may", "dollars", "percent", "m", "p", "of", "boy"]


def test_the_table_is_long() -> None:
    assert len(TABLE) >= 500 and len({spoken for spoken, _ in TABLE}) == len(TABLE)


@pytest.mark.parametrize(("spoken", "written"), TABLE)
def test_written_forms(spoken: str, written: str) -> None:
    assert write_numbers(spoken) == written


def test_capitals_change_nothing_but_themselves() -> None:
    assert write_numbers("IN NINETEEN TWENTY THREE HE PAID TWENTY FIVE DOLLARS") == "IN 1923 HE PAID $25"


def test_most_written_forms_come_back_from_their_words() -> None:
    """To words by an independent module with the cardinals, ordinals and years of num2words, and to figures again."""
    pytest.importorskip("num2words")
    lost = []
    for _, written in TABLE:
        spoken = spell_numbers(written).replace("p.m.", "p m").replace("a.m.", "a m").replace(",", "")
        if write_numbers(spoken).lower() != written.lower():
            lost.append(written)
    assert len(lost) <= 0.02 * len(TABLE), lost


@pytest.mark.parametrize("number", [*range(10, 130), *range(990, 1015), 9_999, 10_000, 99_999, 1_000_001, 987_654_321])
def test_whole_numbers_come_back(number: int) -> None:
    pytest.importorskip("num2words")
    assert write_numbers(cardinal(number)).replace(",", "") == str(number)


@pytest.mark.parametrize("number", [*range(10, 130), 365, 1000, 1001])
def test_ordinals_come_back(number: int) -> None:
    pytest.importorskip("num2words")
    if number not in (100, 1000):  # one hundredth is a fraction
        assert int(write_numbers(ordinal(number)).rstrip("stndrh").replace(",", "")) == number


@pytest.mark.parametrize("number", [*range(1810, 2025), 1066, 1492])
def test_years_come_back(number: int) -> None:
    pytest.importorskip("num2words")
    assert write_numbers(f"in {year(number)}") == f"in {number}"


def test_each_token_has_its_words() -> None:
    words = ["ON", "MAY", "FIFTH", "NINETEEN", "TWENTY", "THREE", "FIVE", "MILLION", "DOLLARS"]
    assert find_numbers(words) == [
        Written(1, 2, "May"),
        Written(2, 3, "5,"),
        Written(3, 6, "1923"),
        Written(6, 7, "$5"),
        Written(7, 9, "million"),
    ]
    assert find_numbers(["at", "ten", "thirty", "p", "m"]) == [Written(1, 3, "10:30"), Written(3, 5, "p.m.")]
    assert find_numbers(["the", "twenty-first", "of", "twenty-one's"]) == [Written(1, 2, "21st"), Written(3, 4, "21's")]


def test_a_mark_ends_a_number() -> None:
    words = ["in", "nineteen", "twenty", "three", "hundred", "men"]
    assert [number.text for number in find_numbers(words, [False, False, True, False, False, False])] == ["1920", "300"]
    words = ["two", "thousand", "five", "hundred"]
    assert [number.text for number in find_numbers(words, [False, True, False, False])] == ["2,500"]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("call five five five. oh, one nine nine.", ["555-0199"]),
        ("at seven. oh, five a m", ["7:05", "a.m."]),
        ("room two, oh, five", ["205"]),
        ("nineteen, oh, five", ["1905"]),
        ("i have seven. oh, one more.", []),
        ("he said two. oh, three of them", []),
        ("at seven. oh, one thing", []),
        ("five. oh, no", []),
    ],
)
def test_a_zero_is_no_exclamation(text, numbers):
    words = text.split()
    marks = [word[-1] in ".," for word in words]
    assert [number.text for number in find_numbers([word.strip(".,") for word in words], marks)] == numbers


@given(st.lists(st.sampled_from(WORDS), max_size=25))
def test_any_words_give_tokens_in_order(words: list[str]) -> None:
    place = 0
    for first, end, text in find_numbers(words):
        assert place <= first < end <= len(words) and text and not set(text) & set(" \t")
        place = end


def test_no_words_and_many() -> None:
    assert find_numbers([]) == []
    assert len(find_numbers(["twenty", "boys"] * 5_000)) == 5_000
    assert write_numbers("4 boys 12 ÄÖ 五") == "4 boys 12 ÄÖ 五"
