"""Amounts: numbers with a currency, a unit or a percentage, from a place in a list of words in lower case."""

from __future__ import annotations

from collections.abc import Sequence

from asr.readable.number_words import (
    NUMBER_WORDS,
    SCALES,
    Token,
    Value,
    read_below_hundred,
    read_cardinal,
    read_decimal,
    word_at,
)

_FACTORS = {"hundred": 100, **SCALES}
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
AFTER_AMOUNTS = frozenset(("hundred", *SCALES, *_COUNTED, *(f"{unit}s" for unit in _COUNTED), "percent", "dollars"))
"""Words after which a number is an amount, not a time."""
BEFORE_YEARS = ("in", "since", "of", "year", "early", "late", "circa")
"""Words before a year."""
_DECIMALS = str.maketrans({"½": ".5", "¼": ".25", "¾": ".75"})  # a percentage or measure has no fractions
_BEFORE_POINTS = ("a", "any", "each", "every", "no", "one", "some", "that", "the", "this", "what", "which")
_SAME_PLURALS = ("yen", "hertz", "percent", "cent")
_COUNTED_PEOPLE = ("men", "women", "people", "children")
_AFTER_CENTS = ("", "for", "a", "an", "each", "per", "and", "in", "at", "on", "to")


def read_quantity(words: Sequence[str], start: int) -> list[Token] | None:
    """A number with what follows it: five percent -> 5%, twenty five dollars -> $25, sixty miles per hour -> 60 mph."""
    before = word_at(words, start - 1)
    is_negative = word_at(words, start) in ("minus", "negative") and not (
        before in NUMBER_WORDS or before == "or" or (len(before) == 1 and before not in ("a", "i"))
    )
    number = _number(words, start + is_negative)
    if number is None:
        return None
    tokens, is_small = number
    if is_negative:
        tokens[0] = Token(f"-{tokens[0].text}", tokens[0].end)
    if both := _range(words, start, tokens, is_small=is_small):
        return both
    amount = _amount(words, tokens)
    if amount is None:
        stays = word_at(words, start) == "a" or (is_small and not (is_negative and tokens[-1].end == len(words)))
        return [Token("", tokens[-1].end)] if stays else tokens
    last = words[amount[-1].end - 1]
    is_singular = not any(word.endswith("s") for word in words[tokens[-1].end : amount[-1].end])
    is_article = word_at(words, start) == "a" and tokens[-1].end > start + 1
    if is_article and is_singular and last not in _SAME_PLURALS:  # a hundred dollar bill
        return [Token("", start + 1), *amount]
    return amount


def _amount(words: Sequence[str], tokens: list[Token]) -> list[Token] | None:
    """The number with the percentage, currency or unit after it; None if nothing of these follows."""
    end = tokens[-1].end
    if after := _percent(words, end):
        return _extended(tokens, after, suffix="%")
    if money := _money(words, tokens):
        return money
    unit = _unit(words, end)
    return [*_extended(tokens, end), unit] if unit else None


def _range(words: Sequence[str], start: int, tokens: list[Token], *, is_small: bool) -> list[Token] | None:
    """Two numbers that share what follows the second: two or three hundred dollars -> $200 or $300; None for others."""
    end = tokens[-1].end
    joiner = word_at(words, end)
    if joiner not in ("to", "or") and not (joiner == "and" and word_at(words, start - 1) == "between"):
        return None
    is_negative = word_at(words, end + 1) in ("minus", "negative")
    if (other := _number(words, end + 1 + is_negative)) is None:
        return None
    if is_negative:
        other[0][0] = Token(f"-{other[0][0].text}", other[0][0].end)
    last = other[0][-1].end
    first, scale = _shared_scale(words, tokens, end + 1, last)
    amount = _amount(words, other[0])
    if amount:
        sign = next((sign for sign in _CURRENCIES.values() if amount[0].text.startswith(sign)), "")
        is_word = scale >= 10**6
        shown = tokens if scale == 1 or is_word else [Token(f"{first * scale:,}", end)]
        return [*_extended(shown, end, prefix=sign), Token(joiner, end + 1), *amount]
    if word_at(words, end + 1) == "a":
        return None
    if scale == 1:
        is_up = joiner == "to" and is_small and not other[1]
        shown = _extended(tokens, end) if len(other[0]) > 1 else tokens
        return [*shown, Token("to", end + 1), *other[0]] if is_up else None
    second = words[end + 1 : last].index(scale_word := words[last - 1]) + end + 1
    value = read_cardinal(words[:second], end + 1)
    is_shared = SCALES.get(scale_word) == scale and value is not None and value.end == second
    if value is None or not is_shared or (scale == 1000 and value.number < 10):
        return [Token("", last)]  # two or three hundred
    return [*tokens, Token(joiner, end + 1), Token(str(value.number), second), Token(scale_word, last)]


def _shared_scale(words: Sequence[str], tokens: list[Token], start: int, end: int) -> tuple[int, int]:
    """The number before a range's second one, and the scale after the second one that it shares, or 1.

    two to three thousand is 2000 to 3000, but fifty to two hundred is 50 to 200.
    """
    scale, place = 1, end
    while place > start and (value := _FACTORS.get(words[place - 1])):
        scale, place = scale * value, place - 1
    second = read_cardinal(words[:place], start)
    text = tokens[0].text
    is_plain = len(tokens) == 1 and text.isdecimal() and 0 < int(text) < 1000
    if not is_plain or second is None or second.end != place or int(text) >= second.number:
        return 0, 1
    return int(text), scale


def _extended(tokens: list[Token], end: int, *, prefix: str = "", suffix: str = "") -> list[Token]:
    """The tokens of a number that reaches to `end`, with a sign before or after them."""
    text = tokens[0].text.translate(_DECIMALS)
    sign = "-" if text.startswith("-") else ""
    tokens = [Token(f"{sign}{prefix}{text.removeprefix('-')}", tokens[0].end), *tokens[1:]]
    return [*tokens[:-1], Token(f"{tokens[-1].text}{suffix}", end)]


def _number(words: Sequence[str], start: int) -> tuple[list[Token], bool] | None:
    """A number in figures, and whether alone it stays words: 3.5 million, 1,234, 2005, 10½."""
    decimal = read_decimal(words, start) or _bare_fraction(words, start)
    if decimal:
        tokens = [Token(*decimal)]
        if (scale := word_at(words, decimal[1])) in SCALES:
            tokens.append(Token(scale, decimal[1] + 1))
        return tokens, False
    if word_at(words, start) == "a" and word_at(words, start + 1) in _FACTORS and not _is_part(words, start):
        words = [*words[:start], "one", *words[start + 1 :]]
    value = read_cardinal(words, start)
    if (
        word_at(words, start) == "a"
        and word_at(words, start + 1) in ("dollar", "euro")
        and _bare_cents(words, start + 2)
    ):
        value = Value(1, start + 1)  # a dollar fifty
    if value is None:
        return None
    for phrase, sign in (("and a half", "½"), ("and a quarter", "¼"), ("and three quarters", "¾")):
        end = value.end + phrase.count(" ") + 1
        if " ".join(words[value.end : end]) == phrase:
            return [Token(f"{value.number}{sign}", end)], value.number < 10
    return _whole(words, start, value), value.number < 10


def _bare_fraction(words: Sequence[str], start: int) -> tuple[str, int] | None:
    """point five percent -> 0.5; None without a percentage, currency, unit or scale, and for the point five of us."""
    if word_at(words, start) != "point" or word_at(words, start - 1) in _BEFORE_POINTS:
        return None
    decimal = read_decimal(("zero", *words[start:]), 0)
    if decimal is None:
        return None
    end = start + decimal[1] - 1
    other = read_cardinal(words, end + 1) if word_at(words, end) in ("to", "or") else None
    is_amount = word_at(words, end) in SCALES or has_unit(words, other.end if other else end)
    return (decimal[0], end) if is_amount else None


def _is_part(words: Sequence[str], start: int) -> bool:
    """half a million, a quarter of a million."""
    before = word_at(words, start - 1)
    return before == "half" or (
        before == "of" and word_at(words, start - 2) in ("half", "quarter", "third", "quarters")
    )


def _whole(words: Sequence[str], start: int, value: Value) -> list[Token]:
    """A whole number: round millions keep their word, years have no comma."""
    number, end = value
    scale = words[end - 1]
    is_round = scale in SCALES and not any(SCALES.get(word, 0) > SCALES[scale] for word in words[start:end])
    if is_round and scale != "thousand":
        return [Token(f"{number // SCALES[scale]:,}", end - 1), Token(scale, end)]
    before, after = word_at(words, start - 1), word_at(words, end)
    is_year = (2001 <= number < 2100 and not has_unit(words, end) and after not in _COUNTED_PEOPLE) or (
        number == 2000 and before in BEFORE_YEARS and not after.endswith("s")
    )
    is_year = is_year or (before == "year" and number < 2000)
    is_hundreds = "thousand" not in words[start:end] and number < 2100  # eleven hundred men: 1100
    is_plain = is_year or (is_hundreds and not any(_name_end(words, end, name) for name in _CURRENCIES))
    return [Token(str(number) if is_plain else f"{number:,}", end)]


def _percent(words: Sequence[str], place: int) -> int:
    """The place after "percent" or "per cent"; 0 without it."""
    if word_at(words, place) == "percent":
        return place + 1
    return place + 2 if word_at(words, place) == "per" and word_at(words, place + 1) == "cent" else 0


def _money(words: Sequence[str], tokens: list[Token]) -> list[Token] | None:
    """$5 million, $25, $5.50 from an amount."""
    place = tokens[-1].end
    for name, sign in _CURRENCIES.items():
        if not (end := _name_end(words, place, name)):
            continue
        after = end + (word_at(words, end) == "and")
        cents = read_below_hundred(words, after)
        is_whole = len(tokens) == 1 and tokens[0].text.strip("-").replace(",", "").isdecimal()
        if cents and is_whole and word_at(words, cents.end) in _CENTS.get(sign, ()):
            return _extended(tokens, cents.end + 1, prefix=sign, suffix=f".{cents.number:02d}")
        if is_whole and sign in _CENTS and (cents := _bare_cents(words, end)):
            return _extended(tokens, cents.end, prefix=sign, suffix=f".{cents.number}")
        return _extended(tokens, end, prefix=sign)
    if word_at(words, place) in ("pound", "pounds") and word_at(words, place + 1) == "and":
        pence = read_below_hundred(words, place + 2)
        if pence and word_at(words, pence.end) in _CENTS["£"]:
            return _extended(tokens, pence.end + 1, prefix="£", suffix=f".{pence.number:02d}")
    return None


def _bare_cents(words: Sequence[str], start: int) -> Value | None:
    """The fifty of five dollars fifty."""
    cents = read_below_hundred(words, start)
    return cents if cents and cents.number > 9 and word_at(words, cents.end) in _AFTER_CENTS else None


def _unit(words: Sequence[str], place: int) -> Token | None:
    """The symbol of a unit, or the word of one that keeps its name."""
    for name, symbol in _SYMBOLS.items():
        if end := _name_end(words, place, name):
            return Token(symbol, end)
    word = word_at(words, place)
    return Token(word, place + 1) if word.removesuffix("s") in _COUNTED else None


def has_unit(words: Sequence[str], place: int) -> bool:
    """Whether a currency, unit or percent follows."""
    is_money = any(_name_end(words, place, name) for name in _CURRENCIES)
    return is_money or bool(_percent(words, place)) or _unit(words, place) is not None


def _name_end(words: Sequence[str], place: int, name: str) -> int:
    """The place after a name of one or more words, each perhaps a plural; 0 without it."""
    parts = name.split()
    found = all(word_at(words, place + offset) in (part, f"{part}s") for offset, part in enumerate(parts))
    return place + len(parts) if found else 0
