"""Numbers in words as editors write them: nineteen twenty three -> 1923, five dollars -> $5, may fifth -> May 5.

The inverse of `asr.text.numbers`. At each word the forms are tried in the order of `_FORMS`, and the first that fits is
written. Numbers below ten stay words, unless a currency, a unit or a time makes them figures; so do fractions,
`a hundred`, and spelled letters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from asr.readable.number_words import (
    CENTURIES,
    DIGITS,
    NUMBER_WORDS,
    SCALES,
    Token,
    read_below_hundred,
    read_digits,
    read_ordinal,
    word_at,
)
from asr.readable.quantities import read_quantity
from asr.readable.times import (
    BEFORE_CODES,
    ordinal_figures,
    read_clock_phrase,
    read_date,
    read_time,
    read_year_or_decade,
)

_LONGEST_CODE = 16  # digits that are looked at on each side of oh
_DETERMINERS = (
    "a",
    "an",
    "the",
    "this",
    "that",
    "each",
    "every",
    "no",
    "my",
    "your",
    "his",
    "her",
    "its",
    "our",
    "their",
)
_ROUND_ORDINALS = ("hundredth", "thousandth", "millionth")


class Written(NamedTuple):
    """A token without white space, and the words [first, end) for which it stands."""

    first: int
    end: int
    text: str


Form = Callable[[Sequence[str], int], "list[Token] | None"]
"""From words and a place to the tokens there: one with an empty text for words that stay, None for no number."""


def find_numbers(words: Sequence[str], breaks: Sequence[bool] | None = None) -> list[Written]:
    """The numbers of a text that are written in figures, in order, without overlap.

    Handled: cardinals, decimals, ordinals, years, decades, dates, times, money, percentages, units, ranges of
    percentages, telephone numbers and other digits one by one. Not handled: Roman numerals, fractions below ten and a
    half, foreign currencies without a sign, and numbers whose form depends on their meaning, such as 4 20 as a time
    without "at".

    Args:
        words: in any case, without marks.
        breaks: whether a mark follows each word; a number never goes past one.
    """
    numbers: list[Written] = []
    start, lower = 0, [word.lower() for word in words]
    for index in range(len(words)):
        if index + 1 == len(words) or (breaks is not None and breaks[index] and not _continues(lower, index)):
            numbers += _in_run(words[start : index + 1], start)
            start = index + 1
    return numbers


def write_numbers(text: str) -> str:
    """The text, words without marks, with its numbers in figures."""
    words = text.split()
    for first, end, written in reversed(find_numbers(words)):
        words[first:end] = [written]
    return " ".join(words)


def _continues(words: Sequence[str], index: int) -> bool:
    """Whether a number goes on after a mark: two thousand, five hundred; at seven. Oh, five."""
    first, second = words[index], words[index + 1]
    if "oh" in (first, second):
        before = min(index, _LONGEST_CODE)
        return _is_zero(words[index - before : index + _LONGEST_CODE], before + (second == "oh"))
    return first in SCALES and second in NUMBER_WORDS


def _is_zero(words: Sequence[str], place: int) -> bool:
    """Whether the word oh in a place is a zero even if marks are beside it: in long codes, years and sure times."""
    start = place
    while word_at(words, start - 1) in DIGITS or word_at(words, start - 1) == "oh":
        start -= 1
    digits, end = read_digits(words, start)
    hour, after = word_at(words, place - 1), word_at(words, place + 1)
    if after not in DIGITS or read_below_hundred([hour], 0) is None:
        return len(digits) > 4 and start < place
    is_time = word_at(words, end) in ("a", "p", "am", "pm") or (word_at(words, place - 2) == "at" and after != "one")
    is_code = word_at(words, start - 1) in BEFORE_CODES
    return is_time or is_code or len(digits) > 4 or hour in CENTURIES


def _in_run(words: Sequence[str], offset: int) -> Iterator[Written]:
    """The numbers of words without a mark between them; twenty-five is one word of two."""
    parts: list[str] = []
    owners: list[int] = []
    for index, word in enumerate(words):
        split = word.lower().removesuffix("'s").split("-")
        split = split if all(part in NUMBER_WORDS for part in split) else [word.lower()]
        parts += split
        owners += [index] * len(split)
    place = 0
    while place < len(parts):
        for text, end in next(filter(None, (form(parts, place) for form in _FORMS)), [Token("", place + 1)]):
            last = words[owners[end - 1]].lower()
            if text:
                possessive = "'s" if last.endswith("'s") and parts[end - 1] != last else ""
                yield Written(offset + owners[place], offset + owners[end - 1] + 1, text + possessive)
            place = end


def _idiom(words: Sequence[str], start: int) -> list[Token] | None:
    """nine eleven -> 9/11, twenty four seven -> 24/7."""
    if list(words[start : start + 2]) == ["nine", "eleven"] and word_at(words, start + 2) not in NUMBER_WORDS:
        return [Token("9/11", start + 2)]
    if list(words[start : start + 3]) == ["twenty", "four", "seven"] and word_at(words, start + 3) not in NUMBER_WORDS:
        return [Token("24/7", start + 3)]
    return None


def _digit_run(words: Sequence[str], start: int) -> list[Token] | None:
    """five five five one two three four -> 555-1234; after a cue also room two oh five -> room 205."""
    if word_at(words, start) == "plus":
        digits, end = read_digits(words, start + 1)
        return [Token(f"+{digits}", end)] if len(digits) >= 10 else None
    if word_at(words, start) in DIGITS and word_at(words, start + 1) == "hundred":
        digits, end = read_digits(words, start + 2)
        if len(digits) == 7:
            return [Token(_grouped(f"{DIGITS[words[start]]}00{digits}"), end)]
    digits, end = read_digits(words, start)
    while end > start and words[end - 1] == "oh" and (end < len(words) or len(digits) < 5):
        digits, end = digits[:-1], end - 1
    if not digits or (word_at(words, start) == "oh" and len(digits) < 7):
        return None
    if word_at(words, end) in ("point", "hundred", *SCALES):
        digits, end = digits[:-1], end - 1
    is_code = word_at(words, start - 1) in BEFORE_CODES
    if len(digits) >= 4 or (len(digits) == 3 and (is_code or digits == "911" or digits.startswith("00"))):
        return [Token(_grouped(digits), end)]
    if len(digits) > 1:
        return [Token("", end)]  # one two three: counting
    if not is_code or digits in ("", "0") or _is_no_code(words, start - 1):
        return None
    rest = read_below_hundred(words, end)
    if rest and rest.number > 9 and word_at(words, rest.end) not in ("hundred", *SCALES):
        return [Token(f"{digits}{rest.number}", rest.end)]
    return [Token(digits, end)] if word_at(words, end) not in NUMBER_WORDS else None


def _is_no_code(words: Sequence[str], place: int) -> bool:
    """Whether a word does not name the digit after it: call one of them; in the room one man; the number two does."""
    name, before = words[place], word_at(words, place - 1)
    return name in ("call", "dial") or (name != "number" and before in _DETERMINERS)


def _grouped(digits: str) -> str:
    """Telephone numbers of North America in groups; other digits without."""
    if len(digits) == 7:
        return f"{digits[:3]}-{digits[3:]}"
    if len(digits) == 10 and digits[0] != "0":
        return f"{digits[:3]}-{digits[3:6]}-{digits[6:]}"
    if len(digits) == 11 and digits[0] == "1":
        return f"1-{_grouped(digits[1:])}"
    return digits


def _ordinal_number(words: Sequence[str], start: int) -> list[Token] | None:
    """twenty first -> 21st; first … ninth stay, and fractions: one tenth."""
    ordinal = read_ordinal(words, start)
    if ordinal is None:
        return None
    if (
        words[ordinal.end - 1] == "second"
        and ordinal.end - start == 2
        and word_at(words, start - 1) in ("a", "another")
    ):
        return [Token(str(ordinal.number - 2), ordinal.end - 1), Token("", ordinal.end)]  # a thirty second break
    stays = ordinal.number < 10 or words[start] in _ROUND_ORDINALS or _is_fraction(words, start, ordinal.end)
    return [Token("" if stays else ordinal_figures(ordinal.number), ordinal.end)]


def _is_fraction(words: Sequence[str], start: int, end: int) -> bool:
    """one tenth, a twentieth, one hundredth."""
    if end - start == 1:
        return word_at(words, start - 1) in ("one", "a")
    return words[start] == "one" and end - start == 2 and words[start + 1] in _ROUND_ORDINALS


_FORMS: tuple[Form, ...] = (
    _idiom,
    read_clock_phrase,
    read_date,
    read_time,
    _digit_run,
    read_year_or_decade,
    _ordinal_number,
    read_quantity,
)
