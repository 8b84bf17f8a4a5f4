"""Numbers in words as editors write them: nineteen twenty three -> 1923, twenty five dollars -> $25, May fifth -> May 5.

The inverse of `asr.text.numbers`. Forms are tried at each word, in the order of `_FORMS`; the first that fits is written.
Numbers below ten stay words where nothing else makes them figures (a currency, a unit, a time), and so do fractions,
`a hundred`, and spelled letters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from asr.readable.number_words import (
    DIGITS,
    NUMBER_WORDS,
    SCALES,
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
_CENTS = {"$": "cent", "€": "cent", "£": "penny pence", "₹": "paisa paise"}
_SYMBOLS = {
    "kilometer per hour": "km/h", "kilometre per hour": "km/h", "mile per hour": "mph", "meter per second": "m/s",
    "metre per second": "m/s", "square kilometer": "km²", "square meter": "m²", "cubic meter": "m³", "kilometer": "km",
    "kilometre": "km", "centimeter": "cm", "centimetre": "cm", "millimeter": "mm", "millimetre": "mm",
    "kilogram": "kg", "milligram": "mg", "milliliter": "ml", "millilitre": "ml", "kilowatt hour": "kWh",
    "kilowatt": "kW", "megawatt": "MW", "kilovolt": "kV", "kilohertz": "kHz", "megahertz": "MHz", "gigahertz": "GHz",
    "hertz": "Hz", "decibel": "dB", "kilobyte": "KB", "megabyte": "MB", "gigabyte": "GB", "terabyte": "TB",
    "degree celsius": "°C", "degree centigrade": "°C", "degree fahrenheit": "°F",
}  # fmt: skip
_COUNTED = ("meter", "metre", "gram", "liter", "litre", "degree", "watt", "volt", "byte", "foot", "feet")
_BEFORE_TIMES = frozenset("at by until till around about near almost nearly past".split())
_BEFORE_YEARS = frozenset("in since of year early late circa".split())
_BEFORE_CODES = frozenset(
    "room number flight route highway bus extension code gate dial call suite apartment channel pin platform line".split()
)
_BEFORE_DATES = frozenset("on by until till since of from to before after".split())
_DAYTIMES = frozenset("morning afternoon evening night".split())


class WrittenNumber(NamedTuple):
    """The number of the words [first, end), as it is written."""

    first: int
    end: int
    text: str


Form = Callable[[Sequence[str], int], tuple[str, int] | None]


def find_numbers(words: Sequence[str], breaks: Sequence[bool] | None = None) -> list[WrittenNumber]:
    """The numbers of a text that are written in figures, in order, without overlap.

    Handled: cardinals, decimals, ordinals, years, decades, dates, times, money, percentages, units, ranges of
    percentages, telephone numbers and other digits one by one. Not handled: Roman numerals, fractions below ten and a
    half, foreign currencies without a sign, and numbers whose form depends on their meaning, such as 4 20 as a time
    without "at".

    Args:
        words: in any case, without marks.
        breaks: whether a mark follows each word; a number never goes past one.
    """
    numbers: list[WrittenNumber] = []
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


def _in_run(words: Sequence[str], offset: int) -> Iterator[WrittenNumber]:
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
        text, end = next(filter(None, (form(parts, place) for form in _FORMS)), ("", place + 1))
        last = words[owners[end - 1]].lower()
        if text:
            possessive = "'s" if last.endswith("'s") and parts[end - 1] != last else ""
            yield WrittenNumber(offset + owners[place], offset + owners[end - 1] + 1, text + possessive)
        place = end


# --- one function for each form: the written text and the place after its last word, "" for words that stay, or None


def _idiom(words: Sequence[str], start: int) -> tuple[str, int] | None:
    """nine eleven -> 9/11, twenty four seven -> 24/7."""
    if list(words[start : start + 2]) == ["nine", "eleven"] and _at(words, start + 2) not in NUMBER_WORDS:
        return "9/11", start + 2
    if list(words[start : start + 3]) == ["twenty", "four", "seven"] and _at(words, start + 3) not in NUMBER_WORDS:
        return "24/7", start + 3
    return None


def _clock_phrase(words: Sequence[str], start: int) -> tuple[str, int] | None:
    """half past seven -> 7:30, a quarter to eight -> 7:45, ten past six -> 6:10."""
    place = start + (_at(words, start) == "a")
    word, relation = _at(words, place), _at(words, place + 1)
    minutes = {"half": 30, "quarter": 15}.get(word) or ({"five": 5, "ten": 10, "twenty": 20}.get(word) if place == start else 0)
    hour = read_below_hundred(words, place + 2)
    if not minutes or relation not in ("past", "to") or hour is None or hour.number > 12:
        return None
    if relation == "to" and word != "quarter" and not (minutes < 30 and _at(words, start - 1) in ("at", "until", "by")):
        return None
    if word == "quarter" and relation == "to" and _at(words, hour.end) in ("percent", "hundred", *SCALES):
        return None
    if _at(words, hour.end) in ("hundred", *SCALES, *_COUNTED, "miles", "years"):
        return None
    total = (hour.number * 60 + (minutes if relation == "past" else -minutes)) % 720
    half, end = _half_of_day(words, hour.end)
    return f"{total // 60 or 12}:{total % 60:02d}{half}", end


def _date(words: Sequence[str], start: int) -> tuple[str, int] | None:
    """may fifth nineteen twenty three -> May 5, 1923; fifth of may -> 5th of May; june nineteen ninety -> June 1990."""
    if _at(words, start) in _MONTHS:
        month = words[start]
        day, year = read_ordinal(words, start + 1), read_year(words, start + 1) or _two_thousands(words, start + 1)
        if day and day.number <= 31:
            after = read_year(words, day.end) or _two_thousands(words, day.end)
            unsure = month in _VERBS and day.number < 4 and _at(words, start - 1) not in _BEFORE_DATES
            if after:
                return f"{month.capitalize()} {day.number}, {after.number}", after.end
            return None if unsure else (f"{month.capitalize()} {day.number}", day.end)
        number = read_below_hundred(words, start + 1)
        is_day = number is not None and 9 < number.number <= 31
        if number and is_day and (after := read_year(words, number.end)):
            return f"{month.capitalize()} {number.number}, {after.number}", after.end
        if year:
            return f"{month.capitalize()} {year.number}", year.end
        return (f"{month.capitalize()} {number.number}", number.end) if number and is_day and month not in _VERBS else None
    day = read_ordinal(words, start)
    if day is None or day.number > 31 or _at(words, day.end) != "of" or _at(words, day.end + 1) not in _MONTHS:
        return None
    text, end = f"{_ordinal(day.number)} of {words[day.end + 1].capitalize()}", day.end + 2
    year = read_year(words, end) or _two_thousands(words, end)
    return (f"{text} {year.number}", year.end) if year else (text, end)


def _two_thousands(words: Sequence[str], start: int):  # noqa: ANN202
    """two thousand five, as a year."""
    value = read_cardinal(words, start)
    return value if value and 2000 <= value.number < 2100 and _at(words, start) == "two" else None


def _digit_run(words: Sequence[str], start: int) -> tuple[str, int] | None:
    """five five five one two three four -> 555-1234; eight hundred five five five … -> 800-555-…; A code after a cue."""
    if _at(words, start) == "plus":
        digits, end = read_digits(words, start + 1)
        return (f"+{digits}", end) if len(digits) >= 10 else None
    digits, end = read_digits(words, start)
    while end > start and words[end - 1] == "oh":
        digits, end = digits[:-1], end - 1
    if _at(words, start) == "oh" and len(digits) < 7:
        return None
    if _at(words, end) in ("point", "hundred", *SCALES) and digits:
        digits, end = digits[:-1], end - 1
    if _at(words, start) in DIGITS and _at(words, start + 1) == "hundred":
        rest, after = read_digits(words, start + 2)
        if len(rest) == 7:
            return f"{DIGITS[words[start]]}00-{rest[:3]}-{rest[3:]}", after
    is_code = _at(words, start - 1) in _BEFORE_CODES or digits == "911" or digits.startswith("00")
    if len(digits) >= 4 or (len(digits) == 3 and is_code):
        return _grouped(digits), end
    if len(digits) > 1:
        return "", end  # one two three: counting
    if _at(words, start - 1) in _BEFORE_CODES and len(digits) == 1 and _at(words, end) not in NUMBER_WORDS:
        return digits, end
    if _at(words, start - 1) in _BEFORE_CODES and digits and digits != "0":
        rest_value = read_below_hundred(words, end)
        if rest_value and rest_value.number > 9 and _at(words, rest_value.end) not in ("hundred", *SCALES):
            return f"{digits}{rest_value.number}", rest_value.end
    return None


def _grouped(digits: str) -> str:
    """Telephone numbers of North America in groups; other digits without."""
    if len(digits) == 7:
        return f"{digits[:3]}-{digits[3:]}"
    if len(digits) == 10 and digits[0] != "0":
        return f"{digits[:3]}-{digits[3:6]}-{digits[6:]}"
    if len(digits) == 11 and digits[0] == "1":
        return f"1-{_grouped(digits[1:])}"
    return digits


def _time(words: Sequence[str], start: int) -> tuple[str, int] | None:
    """seven thirty p m -> 7:30 p.m.; at seven oh five -> at 7:05; ten o'clock -> 10 o'clock."""
    hour = read_below_hundred(words, start)
    if hour is None or hour.number > 12 or _at(words, start - 1) in _BEFORE_CODES:
        return None
    if _at(words, hour.end) == "o'clock":
        return (f"{hour.number} o'clock" if hour.number > 9 else ""), hour.end + 1
    half, end = _half_of_day(words, hour.end)
    if half:
        return f"{hour.number}{half}", end
    minutes, end = None, hour.end
    if _at(words, hour.end) == "oh" and _at(words, hour.end + 1) in DIGITS:
        minutes, end = DIGITS[words[hour.end + 1]], hour.end + 2
    elif (value := read_below_hundred(words, hour.end)) and 10 <= value.number < 60:
        minutes, end = value.number, value.end
    if minutes is None or _at(words, end) in ("hundred", "percent", "dollars", *SCALES):
        return None
    half, after = _half_of_day(words, end)
    before = _at(words, start - 1)
    in_day = _at(words, end) == "in" and _at(words, end + 1) == "the" and _at(words, end + 2) in _DAYTIMES
    is_list = before in NUMBER_WORDS or _at(words, end) in NUMBER_WORDS
    is_usual = minutes % (5 if hour.number > 9 else 15) == 0 or words[hour.end] == "oh"
    if half or in_day or before in _BEFORE_TIMES or (is_usual and not is_list and before not in _BEFORE_YEARS):
        return f"{hour.number}:{minutes:02d}{half}", after
    return None


def _half_of_day(words: Sequence[str], start: int) -> tuple[str, int]:
    """ a.m. or p.m. with the place after it; "" without one."""
    word, following = _at(words, start), _at(words, start + 1)
    if word in ("a", "p") and following == "m":
        return f" {word}.m.", start + 2
    if word in ("pm", "p.m", "p.m.", "a.m", "a.m.") or (word == "am" and following not in ("i", "not")):
        return f" {word[0]}.m.", start + 1
    return "", start


def _year_or_decade(words: Sequence[str], start: int) -> tuple[str, int] | None:
    """nineteen twenty three -> 1923, nineteen twenties -> 1920s, the eighties -> the 80s."""
    before = _at(words, start - 1)
    if (decade := read_decade(words, start)) and (
        decade.number > 100 or before in ("the", "early", "late", "mid", "his", "her", "their", "my", "our")
    ):
        return f"{decade.number}s", decade.end
    year = read_year(words, start)
    if year is None:
        return None
    first, second = divmod(year.number, 100)
    is_pair = second != first + 1 and (16 <= first <= 20 or (first < 13 and _at(words, year.end) not in NUMBER_WORDS))
    is_list = before in NUMBER_WORDS - SCALES.keys() and not 17 <= first <= 19
    is_sure = (is_pair and not is_list) or before in _BEFORE_YEARS
    if not is_sure or _suffix(words, year.end):
        return None
    return str(year.number), year.end


def _ordinal_number(words: Sequence[str], start: int) -> tuple[str, int] | None:
    """twenty first -> 21st; first … ninth stay."""
    ordinal = read_ordinal(words, start)
    if ordinal is None:
        return None
    if _at(words, start) in ("hundredth", "thousandth", "millionth") or _is_fraction(words, start, ordinal.end):
        return "", ordinal.end
    return (_ordinal(ordinal.number) if ordinal.number > 9 else ""), ordinal.end


def _is_fraction(words: Sequence[str], start: int, end: int) -> bool:
    """one tenth, a twentieth, one hundredth."""
    if end - start == 1:
        return _at(words, start - 1) in ("one", "a")
    return list(words[start:end]) in (["one", "hundredth"], ["one", "thousandth"], ["one", "millionth"])


def _ordinal(number: int) -> str:
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{_with_commas(number)}{suffix}"


def _quantity(words: Sequence[str], start: int) -> tuple[str, int] | None:
    """A number with what follows it: five percent -> 5%, twenty five dollars -> $25, sixty miles per hour -> 60 mph."""
    sign = ""
    place = start
    if _at(words, start) in ("minus", "negative") and _at(words, start - 1) not in (*NUMBER_WORDS, "or"):
        sign, place = "-", start + 1
    number = _number(words, place)
    if number is None:
        return None
    text, end, is_small = number
    if _at(words, end) == "to" and (other := _number(words, end + 1)) and _percent(words, other[1]):
        return f"{sign}{text} to {other[0]}%", _percent(words, other[1])
    if after := _percent(words, end):
        return f"{sign}{text}%", after
    if _at(words, end) == "to" and is_small and (other := _number(words, end + 1)):
        if not other[2] and not _suffix(words, other[1]):
            return f"{sign}{text} to {other[0]}", other[1]
    if money := _money(words, text, end):
        return f"{sign}{money[0]}", money[1]
    if unit := _unit(words, end):
        return f"{sign}{text} {unit[0]}", unit[1]
    if is_small and not (sign and place > start and _at(words, end) in ("", "degrees")):
        return "", end
    if _at(words, place) == "a":
        return "", end
    return f"{sign}{text}", end


def _number(words: Sequence[str], start: int) -> tuple[str, int, bool] | None:
    """A number in figures, the place after it, and whether alone it stays words: 3.5 million, 1,234, 2005, 10½."""
    if decimal := read_decimal(words, start):
        text, end = decimal
        scale = _at(words, end)
        return (f"{text} {scale}", end + 1, False) if scale in SCALES else (text, end, False)
    if _at(words, start) == "a" and _at(words, start + 1) in ("hundred", *SCALES):
        value = read_cardinal(["one", *words[start + 1 :]], 0)
        assert value is not None
        end = start + value.end
        return _written(value.number, words, start, end), end, True
    value = read_cardinal(words, start)
    if value is None:
        return None
    for phrase, sign in (("and a half", "½"), ("and a quarter", "¼"), ("and three quarters", "¾")):
        size = len(phrase.split())
        if list(words[value.end : value.end + size]) == phrase.split():
            return f"{value.number}{sign}", value.end + size, value.number < 10
    return _written(value.number, words, start, value.end), value.end, value.number < 10


def _written(number: int, words: Sequence[str], start: int, end: int) -> str:
    """A whole number: round millions keep their word, years have no comma."""
    scale = words[end - 1]
    if scale in ("million", "billion", "trillion"):
        return f"{_with_commas(number // SCALES[scale])} {scale}"
    if "thousand" not in words[start:end]:
        return str(number) if number < 10_000 else _with_commas(number)
    counted = _suffix(words, end)
    if 2001 <= number < 2100 and not counted:
        return str(number)
    if number == 2000 and _at(words, start - 1) in _BEFORE_YEARS and not _at(words, end).endswith("s"):
        return str(number)
    return _with_commas(number)


def _with_commas(number: int) -> str:
    return f"{number:,}"


def _percent(words: Sequence[str], place: int) -> int:
    """The place after "percent" or "per cent"; 0 without it."""
    if _at(words, place) == "percent":
        return place + 1
    return place + 2 if _at(words, place) == "per" and _at(words, place + 1) == "cent" else 0


def _money(words: Sequence[str], amount: str, place: int) -> tuple[str, int] | None:
    """$5 million, $25, $5.50 after an amount."""
    for name, sign in _CURRENCIES.items():
        end = _name_end(words, place, name)
        if not end:
            continue
        after = end + (_at(words, end) == "and")
        cents = read_below_hundred(words, after)
        if cents and amount.replace(",", "").isdecimal() and _at(words, cents.end).rstrip("s") in _CENTS.get(sign, "").split():
            return f"{sign}{amount}.{cents.number:02d}", cents.end + 1
        return f"{sign}{amount}", end
    if _at(words, place) in ("pounds", "pound") and _at(words, place + 1) == "and":
        pence = read_below_hundred(words, place + 2)
        if pence and _at(words, pence.end) in ("pence", "penny"):
            return f"£{amount}.{pence.number:02d}", pence.end + 1
    return None


def _unit(words: Sequence[str], place: int) -> tuple[str, int] | None:
    """The symbol of a unit, or the words of one that keeps its name; and the place after it."""
    for name, symbol in _SYMBOLS.items():
        if end := _name_end(words, place, name):
            return symbol, end
    word = _at(words, place)
    return (word, place + 1) if word.removesuffix("s") in _COUNTED and word not in ("foot", "feet") else None


def _suffix(words: Sequence[str], place: int) -> bool:
    """Whether a currency, unit or percent follows."""
    return bool(_percent(words, place) or _unit(words, place) or any(_name_end(words, place, n) for n in _CURRENCIES))


def _name_end(words: Sequence[str], place: int, name: str) -> int:
    """The place after a name of several words, whose first may be a plural; 0 without it."""
    parts = name.split()
    for offset, part in enumerate(parts):
        word = _at(words, place + offset)
        if word not in (part, f"{part}s"):
            return 0
    return place + len(parts)


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
