"""Values of English number words: cardinals, ordinals, years, decimals and digits, from a place in a list of words.

Each function reads the words from `start` on, in lower case, and gives a value and the place after it, or None.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_UNITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = (
    *("ten", "eleven", "twelve", "thirteen", "fourteen"),
    *("fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
CENTURIES = _TEENS[3:]
DIGITS = {word: number for number, word in enumerate(_UNITS)}
_BELOW_TWENTY = {**DIGITS, **{word: number for number, word in enumerate(_TEENS, start=10)}}
_WHOLE_TENS = {word: 10 * number for number, word in enumerate(_TENS, start=2)}
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_IRREGULAR = {"first": "one", "second": "two", "third": "three", "fifth": "five", "eighth": "eight", "ninth": "nine",
              "twelfth": "twelve"}  # fmt: skip
_ORDINALS = {f"{word}th": word for word in ("four", "six", "seven", *_TEENS, "hundred", *SCALES)}
_ORDINALS |= _IRREGULAR | {f"{word[:-1]}ieth": word for word in _TENS}
del _ORDINALS["twelveth"]
_DECADES = {f"{word[:-1]}ies": value for word, value in _WHOLE_TENS.items()}

NUMBER_WORDS = frozenset((*_BELOW_TWENTY, *_WHOLE_TENS, *SCALES, *_ORDINALS, *_DECADES, "hundred", "oh", "tens"))
"""The words of numbers, without "a", "and" and "point"."""


class Value(NamedTuple):
    """A number, and the place after its last word."""

    number: int
    end: int


class Token(NamedTuple):
    """A token of a written number, and the place after the last word for which it stands."""

    text: str
    end: int


def read_below_hundred(words: Sequence[str], start: int) -> Value | None:
    """1 .. 99: five, fifteen, fifty, fifty five."""
    word = word_at(words, start)
    if tens := _WHOLE_TENS.get(word):
        ones = DIGITS.get(word_at(words, start + 1), 0)
        return Value(tens + ones, start + 1 + bool(ones))
    number = _BELOW_TWENTY.get(word)
    return Value(number, start + 1) if number else None


def read_cardinal(words: Sequence[str], start: int) -> Value | None:
    """A whole number: zero, three hundred and five, nineteen hundred, two million three hundred thousand six."""
    if word_at(words, start) == "zero":
        return Value(0, start + 1)
    total, end, last_scale = 0, start, 10**15
    while group := _below_thousand(words, end + (total > 0 and word_at(words, end) == "and")):
        scale = SCALES.get(word_at(words, group.end), 1)
        if scale > last_scale and total + group.number < 10**6:  # one thousand one hundred fifty million
            return Value((total + group.number) * scale, group.end + 1)
        if scale >= last_scale or (scale > 1 and group.number >= 1000):
            return Value(total, end) if total else None
        total, end, last_scale = total + group.number * scale, group.end + (scale > 1), scale
        if scale == 1:
            break
    return Value(total, end) if total else None


def _below_thousand(words: Sequence[str], start: int) -> Value | None:
    """1 .. 999, and 1100, 1200 … 9900 in hundreds."""
    value = read_below_hundred(words, start)
    if value is None or word_at(words, value.end) != "hundred":
        return value
    number, end = 100 * value.number, value.end + 1
    rest = read_below_hundred(words, end + (word_at(words, end) == "and"))
    if rest is None or word_at(words, rest.end) == "hundred":
        return Value(number, end)
    return Value(number + rest.number, rest.end)


def read_ordinal(words: Sequence[str], start: int) -> Value | None:
    """first, twenty first, one hundred and fifth, thousandth."""
    for end in range(start, min(start + 12, len(words))):
        if words[end] in _ORDINALS:
            cardinal = [*words[start:end], _ORDINALS[words[end]]]
            if cardinal in (["hundred"], ["thousand"], ["million"]):
                cardinal.insert(0, "one")
            value = read_cardinal(cardinal, 0)
            return Value(value.number, end + 1) if value and value.end == len(cardinal) else None
        if words[end] not in NUMBER_WORDS and words[end] != "and":
            return None
    return None


def read_year(words: Sequence[str], start: int) -> Value | None:
    """Two pairs: nineteen twenty three, nineteen oh five, twenty ten."""
    century = read_below_hundred(words, start)
    if century is None or century.number < 10:
        return None
    if century.number > 20 and century.number % 10:  # twenty five thirty
        return None
    if word_at(words, century.end) == "oh":
        ones = DIGITS.get(word_at(words, century.end + 1))
        return Value(100 * century.number + ones, century.end + 2) if ones else None
    rest = read_below_hundred(words, century.end)
    if rest is None or rest.number < 10 or word_at(words, rest.end) in ("hundred", *SCALES):
        return None
    return Value(100 * century.number + rest.number, rest.end)


def read_decade(words: Sequence[str], start: int) -> Value | None:
    """eighties, nineteen twenties, twenty tens, two thousands."""
    if decade := _DECADES.get(word_at(words, start)):
        return Value(decade, start + 1)
    if list(words[start : start + 2]) == ["two", "thousands"]:
        return Value(2000, start + 2)
    century = read_below_hundred(words, start)
    if century is None or not 10 <= century.number <= 20:
        return None
    last = word_at(words, century.end)
    if last in ("tens", "hundreds"):
        return Value(100 * century.number + 10 * (last == "tens"), century.end + 1)
    return Value(100 * century.number + _DECADES[last], century.end + 1) if last in _DECADES else None


def read_digits(words: Sequence[str], start: int) -> tuple[str, int]:
    """The digits of words that each say one, oh among them, and the place after them; perhaps none."""
    end = start
    while word_at(words, end) in DIGITS or word_at(words, end) == "oh":
        end += 1
    return "".join(str(DIGITS.get(word, 0)) for word in words[start:end]), end


def read_decimal(words: Sequence[str], start: int) -> tuple[str, int] | None:
    """three point one four -> 3.14; two point zero point one -> 2.0.1."""
    whole = Value(0, start + 1) if word_at(words, start) in ("oh", "nought", "naught") else read_cardinal(words, start)
    if whole is None:
        return None
    text, end = str(whole.number), whole.end
    while word_at(words, end) == "point":
        fraction, after = read_digits(words, end + 1)
        if not fraction or word_at(words, after) == "hundred":
            if (number := read_cardinal(words, end + 1)) is None:
                break
            fraction, after = str(number.number), number.end
        text, end = f"{text}.{fraction}", after
    return (text, end) if "." in text else None


def word_at(words: Sequence[str], place: int) -> str:
    """The word in a place; empty before the first and after the last."""
    return words[place] if 0 <= place < len(words) else ""
