"""Numbers in words as editors write them: nineteen twenty three -> 1923, five dollars -> $5, may fifth -> May 5.

The inverse of `asr.text.numbers`. At each word the forms are tried in the order of `_FORMS`, and the first that fits is
written. Numbers below ten stay words, unless a currency, a unit or a time makes them figures; so do fractions,
`a hundred`, and spelled letters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from asr.readable.number_words import (
    DIGITS,
    NUMBER_WORDS,
    SCALES,
    Value,
    read_below_hundred,
    read_cardinal,
    read_decade,
    read_decimal,
    read_digits,
    read_ordinal,
    read_year,
)

_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_VERBS = ("march", "may")
_CURRENCIES = {"dollar": "$", "euro": "€", "yen": "¥", "rupee": "₹", "pound sterling": "£"}
_CENTS = {"$": ("cent", "cents"), "€": ("cent", "cents"), "£": ("penny", "pence"), "₹": ("paisa", "paise")}
_SYMBOLS = {
    "kilometer per hour": "km/h", "kilometre per hour": "km/h", "mile per hour": "mph", "meter per second": "m/s",
    "metre per second": "m/s", "square kilometer": "km²", "square meter": "m²", "cubic meter": "m³", "kilometer": "km",
    "kilometre": "km", "centimeter": "cm", "centimetre": "cm", "millimeter": "mm", "millimetre": "mm",
    "kilogram": "kg", "milligram": "mg", "milliliter": "ml", "millilitre": "ml", "kilowatt hour": "kWh",
    "kilowatt": "kW", "megawatt": "MW", "kilovolt": "kV", "kilohertz": "kHz", "megahertz": "MHz", "gigahertz": "GHz",
    "hertz": "Hz", "decibel": "dB", "kilobyte": "KB", "megabyte": "MB", "gigabyte": "GB", "terabyte": "TB",
    "degree celsius": "°C", "degree centigrade": "°C", "degree fahrenheit": "°F",
}  # fmt: skip
_COUNTED = ("meter", "metre", "gram", "liter", "litre", "degree", "watt", "volt", "byte")  # their names stay
_AFTER_AMOUNTS = frozenset(("hundred", *SCALES, *_COUNTED, *(f"{unit}s" for unit in _COUNTED), "percent", "dollars"))
_ROUND_ORDINALS = ("hundredth", "thousandth", "millionth")
# Words before a number that show its kind, and words after a time.
_BEFORE_TIMES = ("at", "by", "until", "till", "around", "about", "near", "almost", "nearly", "past")
_BEFORE_YEARS = ("in", "since", "of", "year", "early", "late", "circa")
_BEFORE_CODES = (
    *("room", "number", "flight", "route", "highway", "bus", "extension", "code", "gate", "dial", "call"),
    *("suite", "apartment", "channel", "pin", "platform", "line"),
)
_BEFORE_DATES = ("on", "by", "until", "till", "since", "of", "from", "to", "before", "after")
_BEFORE_DECADES = ("the", "early", "late", "mid", "his", "her", "their", "my", "our", "and")
_DAYTIMES = ("morning", "afternoon", "evening", "night")


class Written(NamedTuple):
    """A token without white space, and the words [first, end) for which it stands."""

    first: int
    end: int
    text: str


class Token(NamedTuple):
    """A token of a number, and the place after the last word for which it stands."""

    text: str
    end: int


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
    start = 0
    for index in range(len(words)):
        if index + 1 == len(words) or (breaks is not None and breaks[index] and not _continues(words, index)):
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
    """Whether a number goes on after a mark: two thousand, five hundred."""
    return words[index].lower() in SCALES and words[index + 1].lower() in NUMBER_WORDS


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


# --- one function for each form


def _idiom(words: Sequence[str], start: int) -> list[Token] | None:
    """nine eleven -> 9/11, twenty four seven -> 24/7."""
    if list(words[start : start + 2]) == ["nine", "eleven"] and _at(words, start + 2) not in NUMBER_WORDS:
        return [Token("9/11", start + 2)]
    if list(words[start : start + 3]) == ["twenty", "four", "seven"] and _at(words, start + 3) not in NUMBER_WORDS:
        return [Token("24/7", start + 3)]
    return None


def _clock_phrase(words: Sequence[str], start: int) -> list[Token] | None:
    """half past seven -> 7:30, a quarter to eight -> 7:45, ten past six -> 6:10; at ten to six -> at 5:50."""
    place = start + (_at(words, start) == "a")
    word, relation = _at(words, place), _at(words, place + 1)
    minutes = {"half": 30, "quarter": 15, "five": 5, "ten": 10, "twenty": 20}.get(word)
    hour = read_below_hundred(words, place + 2)
    if minutes is None or relation not in ("past", "to") or hour is None or hour.number > 12:
        return None
    is_word = word in ("half", "quarter")
    if (place > start and not is_word) or _at(words, hour.end) in (*_AFTER_AMOUNTS, "miles", "years"):
        return None
    if relation == "to" and (word == "half" or (not is_word and _at(words, start - 1) != "at")):
        return None
    total = (hour.number * 60 + (minutes if relation == "past" else -minutes)) % 720
    return [Token(f"{total // 60 or 12}:{total % 60:02d}", hour.end), *_half_of_day(words, hour.end)]


def _date(words: Sequence[str], start: int) -> list[Token] | None:
    """may fifth nineteen twenty three -> May 5, 1923; fifth of may -> 5th of May; june nineteen ninety -> June 1990."""
    if _at(words, start) in _MONTHS:
        return _month_first(words, start)
    day = read_ordinal(words, start)
    if day is None or day.number > 31 or _at(words, day.end) != "of" or _at(words, day.end + 1) not in _MONTHS:
        return None
    end = day.end + 2
    tokens = [Token(_ordinal(day.number), day.end), Token("of", day.end + 1), Token(words[end - 1].capitalize(), end)]
    year = _year_of_date(words, end)
    return [*tokens, Token(str(year.number), year.end)] if year else tokens


def _month_first(words: Sequence[str], start: int) -> list[Token] | None:
    month = Token(words[start].capitalize(), start + 1)
    is_verb = words[start] in _VERBS
    day, number = read_ordinal(words, month.end), read_below_hundred(words, month.end)
    if day and day.number <= 31:
        if year := _year_of_date(words, day.end):
            return [month, Token(f"{day.number},", day.end), Token(str(year.number), year.end)]
        is_unsure = is_verb and day.number < 4 and _at(words, start - 1) not in _BEFORE_DATES
        return None if is_unsure else [month, Token(str(day.number), day.end)]
    is_day = number is not None and 9 < number.number <= 31
    if number and is_day and (year := read_year(words, number.end)):
        return [month, Token(f"{number.number},", number.end), Token(str(year.number), year.end)]
    if year := _year_of_date(words, month.end):
        return [month, Token(str(year.number), year.end)]
    return [month, Token(str(number.number), number.end)] if number and is_day and not is_verb else None


def _year_of_date(words: Sequence[str], start: int) -> Value | None:
    """nineteen ninety; two thousand five."""
    if year := read_year(words, start):
        return year
    value = read_cardinal(words, start)
    return value if value and 2000 <= value.number < 2100 and words[start] == "two" else None


def _time(words: Sequence[str], start: int) -> list[Token] | None:
    """seven thirty p m -> 7:30 p.m.; at seven oh five -> at 7:05; ten o'clock -> 10 o'clock."""
    hour, before = read_below_hundred(words, start), _at(words, start - 1)
    if hour is None or hour.number > 12 or before in _BEFORE_CODES:
        return None
    if _at(words, hour.end) == "o'clock":
        return [Token(str(hour.number) if hour.number > 9 else "", hour.end)]
    if half := _half_of_day(words, hour.end):
        return [Token(str(hour.number), hour.end), *half]
    if _at(words, hour.end) == "oh" and _at(words, hour.end + 1) in DIGITS:
        minutes = Value(DIGITS[words[hour.end + 1]], hour.end + 2)
    elif (value := read_below_hundred(words, hour.end)) and 10 <= value.number < 60:
        minutes = value
    else:
        return None
    if _at(words, minutes.end) in _AFTER_AMOUNTS:
        return None
    half = _half_of_day(words, minutes.end)
    in_day = list(words[minutes.end : minutes.end + 2]) == ["in", "the"] and _at(words, minutes.end + 2) in _DAYTIMES
    is_list = before in NUMBER_WORDS or _at(words, minutes.end) in NUMBER_WORDS
    is_usual = minutes.number % (5 if hour.number > 9 else 15) == 0 or words[hour.end] == "oh"
    if half or in_day or before in _BEFORE_TIMES or (is_usual and not is_list and before not in _BEFORE_YEARS):
        return [Token(f"{hour.number}:{minutes.number:02d}", minutes.end), *half]
    return None


def _half_of_day(words: Sequence[str], start: int) -> list[Token]:
    """a m -> a.m.; nothing for other words."""
    word, following = _at(words, start), _at(words, start + 1)
    if word in ("a", "p") and following == "m":
        return [Token(f"{word}.m.", start + 2)]
    if word in ("pm", "p.m", "p.m.", "a.m", "a.m.") or (word == "am" and following not in ("i", "not")):
        return [Token(f"{word[0]}.m.", start + 1)]
    return []


def _digit_run(words: Sequence[str], start: int) -> list[Token] | None:
    """five five five one two three four -> 555-1234; after a cue also room two oh five -> room 205."""
    if _at(words, start) == "plus":
        digits, end = read_digits(words, start + 1)
        return [Token(f"+{digits}", end)] if len(digits) >= 10 else None
    if _at(words, start) in DIGITS and _at(words, start + 1) == "hundred":
        digits, end = read_digits(words, start + 2)
        if len(digits) == 7:
            return [Token(_grouped(f"{DIGITS[words[start]]}00{digits}"), end)]
    digits, end = read_digits(words, start)
    while end > start and words[end - 1] == "oh":
        digits, end = digits[:-1], end - 1
    if not digits or (_at(words, start) == "oh" and len(digits) < 7):
        return None
    if _at(words, end) in ("point", "hundred", *SCALES):
        digits, end = digits[:-1], end - 1
    is_code = _at(words, start - 1) in _BEFORE_CODES
    if len(digits) >= 4 or (len(digits) == 3 and (is_code or digits == "911" or digits.startswith("00"))):
        return [Token(_grouped(digits), end)]
    if len(digits) > 1:
        return [Token("", end)]  # one two three: counting
    if not is_code or digits in ("", "0"):
        return None
    rest = read_below_hundred(words, end)
    if rest and rest.number > 9 and _at(words, rest.end) not in ("hundred", *SCALES):
        return [Token(f"{digits}{rest.number}", rest.end)]
    return [Token(digits, end)] if _at(words, end) not in NUMBER_WORDS else None


def _grouped(digits: str) -> str:
    """Telephone numbers of North America in groups; other digits without."""
    if len(digits) == 7:
        return f"{digits[:3]}-{digits[3:]}"
    if len(digits) == 10 and digits[0] != "0":
        return f"{digits[:3]}-{digits[3:6]}-{digits[6:]}"
    if len(digits) == 11 and digits[0] == "1":
        return f"1-{_grouped(digits[1:])}"
    return digits


def _year_or_decade(words: Sequence[str], start: int) -> list[Token] | None:
    """nineteen twenty three -> 1923, nineteen twenties -> 1920s, the eighties -> the 80s."""
    before = _at(words, start - 1)
    if (decade := read_decade(words, start)) and (decade.number > 100 or before in _BEFORE_DECADES):
        return [Token(f"{decade.number}s", decade.end)]
    year = read_year(words, start)
    if year is None or _has_unit(words, year.end):
        return None
    first, second = divmod(year.number, 100)
    is_pair = second != first + 1 and (16 <= first <= 20 or (first < 13 and _at(words, year.end) not in NUMBER_WORDS))
    is_list = before in NUMBER_WORDS - SCALES.keys() and not 17 <= first <= 19
    if (is_pair and not is_list) or before in _BEFORE_YEARS:
        return [Token(str(year.number), year.end)]
    return None


def _ordinal_number(words: Sequence[str], start: int) -> list[Token] | None:
    """twenty first -> 21st; first … ninth stay, and fractions: one tenth."""
    ordinal = read_ordinal(words, start)
    if ordinal is None:
        return None
    stays = ordinal.number < 10 or words[start] in _ROUND_ORDINALS or _is_fraction(words, start, ordinal.end)
    return [Token("" if stays else _ordinal(ordinal.number), ordinal.end)]


def _is_fraction(words: Sequence[str], start: int, end: int) -> bool:
    """one tenth, a twentieth, one hundredth."""
    if end - start == 1:
        return _at(words, start - 1) in ("one", "a")
    return words[start] == "one" and end - start == 2 and words[start + 1] in _ROUND_ORDINALS


def _ordinal(number: int) -> str:
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{suffix}"


def _quantity(words: Sequence[str], start: int) -> list[Token] | None:
    """A number with what follows it: five percent -> 5%, twenty five dollars -> $25, sixty miles per hour -> 60 mph."""
    is_negative = _at(words, start) in ("minus", "negative") and _at(words, start - 1) not in (*NUMBER_WORDS, "or")
    number = _number(words, start + is_negative)
    if number is None:
        return None
    tokens, is_small = number
    if is_negative:
        tokens[0] = Token(f"-{tokens[0].text}", tokens[0].end)
    end = tokens[-1].end
    if after := _percent(words, end):
        return _extended(tokens, after, suffix="%")
    if _at(words, end) == "to" and (other := _number(words, end + 1)):
        last = other[0][-1].end
        if after := _percent(words, last):
            return [*tokens, Token("to", end + 1), *_extended(other[0], after, suffix="%")]
        if is_small and not other[1] and not _has_unit(words, last):
            return [*tokens, Token("to", end + 1), *other[0]]
    if money := _money(words, tokens):
        return money
    if unit := _unit(words, end):
        return [*_extended(tokens, end), unit]
    stays = _at(words, start) == "a" or (is_small and not (is_negative and end == len(words)))
    return [Token("", end)] if stays else tokens


_DECIMALS = str.maketrans({"½": ".5", "¼": ".25", "¾": ".75"})  # a percentage or measure has no fractions


def _extended(tokens: list[Token], end: int, *, prefix: str = "", suffix: str = "") -> list[Token]:
    """The tokens of a number that reaches to `end`, with a sign before or after them."""
    text = tokens[0].text.translate(_DECIMALS)
    sign = "-" if text.startswith("-") else ""
    tokens = [Token(f"{sign}{prefix}{text.removeprefix('-')}", tokens[0].end), *tokens[1:]]
    return [*tokens[:-1], Token(f"{tokens[-1].text}{suffix}", end)]


def _number(words: Sequence[str], start: int) -> tuple[list[Token], bool] | None:
    """A number in figures, and whether alone it stays words: 3.5 million, 1,234, 2005, 10½."""
    if decimal := read_decimal(words, start):
        tokens = [Token(*decimal)]
        if (scale := _at(words, decimal[1])) in SCALES:
            tokens.append(Token(scale, decimal[1] + 1))
        return tokens, False
    if _at(words, start) == "a" and _at(words, start + 1) in ("hundred", *SCALES):
        words = [*words[:start], "one", *words[start + 1 :]]
    value = read_cardinal(words, start)
    if value is None:
        return None
    for phrase, sign in (("and a half", "½"), ("and a quarter", "¼"), ("and three quarters", "¾")):
        end = value.end + phrase.count(" ") + 1
        if " ".join(words[value.end : end]) == phrase:
            return [Token(f"{value.number}{sign}", end)], value.number < 10
    return _whole(words, start, value), value.number < 10


def _whole(words: Sequence[str], start: int, value: Value) -> list[Token]:
    """A whole number: round millions keep their word, years have no comma."""
    number, end = value
    if (scale := words[end - 1]) in ("million", "billion", "trillion"):
        return [Token(f"{number // SCALES[scale]:,}", end - 1), Token(scale, end)]
    is_year = (2001 <= number < 2100 and not _has_unit(words, end)) or (
        number == 2000 and _at(words, start - 1) in _BEFORE_YEARS and not _at(words, end).endswith("s")
    )
    is_hundreds = "thousand" not in words[start:end] and number < 2100  # eleven hundred men: 1100
    is_plain = is_year or (is_hundreds and not any(_name_end(words, end, name) for name in _CURRENCIES))
    return [Token(str(number) if is_plain else f"{number:,}", end)]


def _percent(words: Sequence[str], place: int) -> int:
    """The place after "percent" or "per cent"; 0 without it."""
    if _at(words, place) == "percent":
        return place + 1
    return place + 2 if _at(words, place) == "per" and _at(words, place + 1) == "cent" else 0


def _money(words: Sequence[str], tokens: list[Token]) -> list[Token] | None:
    """$5 million, $25, $5.50 from an amount."""
    place = tokens[-1].end
    for name, sign in _CURRENCIES.items():
        if not (end := _name_end(words, place, name)):
            continue
        after = end + (_at(words, end) == "and")
        cents = read_below_hundred(words, after)
        is_whole = len(tokens) == 1 and tokens[0].text.strip("-").replace(",", "").isdecimal()
        if cents and is_whole and _at(words, cents.end) in _CENTS.get(sign, ()):
            return _extended(tokens, cents.end + 1, prefix=sign, suffix=f".{cents.number:02d}")
        return _extended(tokens, end, prefix=sign)
    if _at(words, place) in ("pound", "pounds") and _at(words, place + 1) == "and":
        pence = read_below_hundred(words, place + 2)
        if pence and _at(words, pence.end) in _CENTS["£"]:
            return _extended(tokens, pence.end + 1, prefix="£", suffix=f".{pence.number:02d}")
    return None


def _unit(words: Sequence[str], place: int) -> Token | None:
    """The symbol of a unit, or the word of one that keeps its name."""
    for name, symbol in _SYMBOLS.items():
        if end := _name_end(words, place, name):
            return Token(symbol, end)
    word = _at(words, place)
    return Token(word, place + 1) if word.removesuffix("s") in _COUNTED else None


def _has_unit(words: Sequence[str], place: int) -> bool:
    """Whether a currency, unit or percent follows."""
    is_money = any(_name_end(words, place, name) for name in _CURRENCIES)
    return is_money or bool(_percent(words, place)) or _unit(words, place) is not None


def _name_end(words: Sequence[str], place: int, name: str) -> int:
    """The place after a name of one or more words, each perhaps a plural; 0 without it."""
    parts = name.split()
    found = all(_at(words, place + offset) in (part, f"{part}s") for offset, part in enumerate(parts))
    return place + len(parts) if found else 0


def _at(words: Sequence[str], place: int) -> str:
    return words[place] if 0 <= place < len(words) else ""


_FORMS: tuple[Form, ...] = (
    _idiom,
    _clock_phrase,
    _date,
    _time,
    _digit_run,
    _year_or_decade,
    _ordinal_number,
    _quantity,
)
