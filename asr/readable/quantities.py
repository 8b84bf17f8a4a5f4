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
}  # fmt: skip  # fmt: skip
_COUNTED = (
    "meter",
    "metre",
    "gram",
    "liter",
    "litre",
    "degree",
    "watt",
    "volt",
    "byte",
)  # their names stay  # their names stay
AFTER_AMOUNTS = frozenset(("hundred", *SCALES, *_COUNTED, *(f"{unit}s" for unit in _COUNTED), "percent", "dollars"))
"""Words after which a number is an amount, not a time."""
BEFORE_YEARS = ("in", "since", "of", "year", "early", "late", "circa")
"""Words before a year."""
_DECIMALS = str.maketrans(
    {"½": ".5", "¼": ".25", "¾": ".75"}
)  # a percentage or measure has no fractions  # a percentage or measure has no fractions


def read_quantity(words: Sequence[str], start: int) -> list[Token] | None:
    """A number with what follows it: five percent -> 5%, twenty five dollars -> $25, sixty miles per hour -> 60 mph."""
    is_negative = word_at(words, start) in ("minus", "negative") and word_at(words, start - 1) not in (
        *NUMBER_WORDS,
        "or",
    )
    number = _number(words, start + is_negative)
    if number is None:
        return None
    tokens, is_small = number
    if is_negative:
        tokens[0] = Token(f"-{tokens[0].text}", tokens[0].end)
    end = tokens[-1].end
    if after := _percent(words, end):
        return _extended(tokens, after, suffix="%")
    if word_at(words, end) == "to" and (other := _number(words, end + 1)):
        last = other[0][-1].end
        if after := _percent(words, last):
            return [*tokens, Token("to", end + 1), *_extended(other[0], after, suffix="%")]
        if is_small and not other[1] and not has_unit(words, last):
            return [*tokens, Token("to", end + 1), *other[0]]
    if money := _money(words, tokens):
        return money
    if unit := _unit(words, end):
        return [*_extended(tokens, end), unit]
    stays = word_at(words, start) == "a" or (is_small and not (is_negative and end == len(words)))
    return [Token("", end)] if stays else tokens


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
        if (scale := word_at(words, decimal[1])) in SCALES:
            tokens.append(Token(scale, decimal[1] + 1))
        return tokens, False
    if word_at(words, start) == "a" and word_at(words, start + 1) in ("hundred", *SCALES):
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
    is_year = (2001 <= number < 2100 and not has_unit(words, end)) or (
        number == 2000 and word_at(words, start - 1) in BEFORE_YEARS and not word_at(words, end).endswith("s")
    )
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
        return _extended(tokens, end, prefix=sign)
    if word_at(words, place) in ("pound", "pounds") and word_at(words, place + 1) == "and":
        pence = read_below_hundred(words, place + 2)
        if pence and word_at(words, pence.end) in _CENTS["£"]:
            return _extended(tokens, pence.end + 1, prefix="£", suffix=f".{pence.number:02d}")
    return None


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
