"""English numbers in words, as a reader says them: 1923 -> nineteen twenty three, 100 % -> one hundred percent.

Cardinals, ordinals and years are those of num2words (LGPL, `pip install 'asr[numbers]'`), without hyphens, commas and
"and". The written forms around them are rules of this module, one pattern each, in the order of `_RULES`: a rule sees
only what the rules before it left in digits.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec

from asr.errors import ConfigError

_LONGEST = 15  # digits of a number that is read as one
_SCALES = {"k": "thousand", "m": "million", "mn": "million", "b": "billion", "bn": "billion", "tn": "trillion"}
_SCALE_WORDS = "hundred|thousand|million|billion|trillion"
_CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "sen", "sen"),
    "₹": ("rupee", "rupees", "paisa", "paise"),
}
_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_VERBS = ("may", "march", "mar")  # months only with a capital
_SHORT_MONTHS = {"sept": "september"} | {month[:3]: month for month in _MONTHS}
_UNITS = {
    "km/h": "kilometer per hour", "kmh": "kilometer per hour", "kph": "kilometer per hour", "m/s": "meter per second",
    "mph": "mile per hour", "km²": "square kilometer", "m²": "square meter", "cm²": "square centimeter",
    "m³": "cubic meter", "cm³": "cubic centimeter", "sq ft": "square foot", "km": "kilometer", "m": "meter",
    "cm": "centimeter", "mm": "millimeter", "µm": "micrometer", "nm": "nanometer", "mi": "mile", "yd": "yard",
    "ft": "foot", "kg": "kilogram", "mg": "milligram", "g": "gram", "t": "ton", "lb": "pound", "lbs": "pound",
    "oz": "ounce", "l": "liter", "L": "liter", "ml": "milliliter", "mL": "milliliter", "ms": "millisecond",
    "sec": "second", "min": "minute", "mins": "minute", "h": "hour", "hr": "hour", "hrs": "hour",
    "kWh": "kilowatt hour",
    "kW": "kilowatt", "MW": "megawatt", "W": "watt", "kV": "kilovolt", "V": "volt", "Hz": "hertz", "kHz": "kilohertz",
    "MHz": "megahertz", "GHz": "gigahertz", "dB": "decibel", "KB": "kilobyte", "kB": "kilobyte", "MB": "megabyte",
    "GB": "gigabyte", "TB": "terabyte", "°C": "degree celsius", "°F": "degree fahrenheit", "°": "degree",
    "%": "percent", "‰": "per mille", "¢": "cent",
}  # fmt: skip
_PLURALS = {"foot": "feet", "square foot": "square feet", "percent": "percent", "per mille": "per mille"} | {
    name: name for name in ("hertz", "kilohertz", "megahertz", "gigahertz")
}
_FRACTIONS = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅛": "1/8", "⅜": "3/8",
              "⅝": "5/8", "⅞": "7/8"}  # fmt: skip
_FULL_WIDTH = {code: code - 0xFEE0 for code in (*range(0xFF10, 0xFF1A), 0xFF05)}

# Patterns: a number with or without commas and a fraction; the space before a unit may be any of Unicode.
_WHOLE = r"\d{1,3}(?:,\d{3})+(?!\d)|\d+"
_NUMBER = rf"(?:(?:{_WHOLE})(?:\.\d+)?|(?<!\d)\.\d+)"
_START = r"(?<![\w.])"  # a number begins here
_SIGN = r"(?:(?<![\w)\]])[-−+±])?"
_CURRENCY = f"[{''.join(_CURRENCIES)}]"
_UNIT = "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True))
_SURE_MONTHS = "|".join(
    (*(m for m in _MONTHS if m not in _VERBS), *(rf"{m}\.?" for m in _SHORT_MONTHS if m not in _VERBS))
)
_MONTH = rf"(?P<month>(?i:{_SURE_MONTHS})|May|MAY|March|MARCH|Mar\.?|MAR\.?)"
_DASH = "[-–—]"


def spell_numbers(text: str) -> str:
    """The text with its numbers in English words, in lower case; everything else is unchanged.

    Handled: whole and decimal numbers, negative ones, commas; years (four digits from 1010 to 2099 alone) and decades;
    ordinals; dates (May 5, 5 May, 2023-05-12, 12/25/2023 with the month first); times; money; percentages; units;
    fractions; ranges; telephone numbers and other long codes, digit by digit; signs between numbers; digits inside
    words (A4, COVID-19). Not handled: Roman numerals, exponents, digits other than 0 to 9; a number whose reading
    depends on its meaning, such as 1923 as a count, has one reading.

    Args:
        text: any text; may be empty.
    Raises:
        ConfigError: the text has a number, and num2words is not installed.
    """
    text = text.translate(_FULL_WIDTH)
    for sign, fraction in _FRACTIONS.items():
        text = re.sub(rf"(?<=\d) ?{sign}", f" {fraction}", text).replace(sign, fraction)
    if not any("0" <= character <= "9" for character in text):
        return text
    for pattern, spell in _RULES:
        text = pattern.sub(spell, text)
    return text


def can_spell_numbers() -> bool:
    """Whether num2words is installed."""
    return find_spec("num2words") is not None


def spell_number_places(text: str) -> list[tuple[int, int, str]]:
    """The numbers of a text in order, without overlap: [start, end) in characters, and what `spell_numbers` puts there.

    Raises:
        ConfigError: as `spell_numbers`.
    """
    spelled = text.translate(_FULL_WIDTH)
    origins = [(index, index + 1) for index in range(len(text))]  # for each character of `spelled`, its place in text
    rules = [(re.compile(rf"(?<=\d) ?{sign}"), f" {fraction}") for sign, fraction in _FRACTIONS.items()]
    rules += [(re.compile(sign), fraction) for sign, fraction in _FRACTIONS.items()]
    changed = [False] * len(text)
    for pattern, spell in [*((pattern, lambda _, words=words: words) for pattern, words in rules), *_RULES]:
        pieces, places, changes, position = [], [], [], 0
        for match in pattern.finditer(spelled):
            if (words := spell(match)) == match[0]:
                continue
            start, end = match.span()
            place = origins[start][0], origins[end - 1][1]
            pieces += [spelled[position:start], words]
            places += [*origins[position:start], *[place] * len(words)]
            changes += [*changed[position:start], *[True] * len(words)]
            position = end
        if pieces:
            spelled = "".join([*pieces, spelled[position:]])
            origins, changed = [*places, *origins[position:]], [*changes, *changed[position:]]
    numbers: list[tuple[int, int, str]] = []
    for character, (start, end), is_number in zip(spelled, origins, changed, strict=True):
        if not is_number:
            continue
        if numbers and start < numbers[-1][1]:
            numbers[-1] = numbers[-1][0], max(end, numbers[-1][1]), numbers[-1][2] + character
        else:
            numbers.append((start, end, character))
    return numbers


@lru_cache(maxsize=4096)
def cardinal(number: int) -> str:
    """The words of a whole number: 123 -> one hundred twenty three."""
    return _plain(_num2words(number, "cardinal"))


@lru_cache(maxsize=4096)
def ordinal(number: int) -> str:
    """The words of a place in an order: 22 -> twenty second."""
    return _plain(_num2words(number, "ordinal"))


@lru_cache(maxsize=4096)
def year(number: int) -> str:
    """The words of a year: 1905 -> nineteen oh five, 2005 -> two thousand five."""
    return _plain(_num2words(number, "year"))


def _num2words(number: int, kind: str) -> str:
    try:
        from num2words import num2words
    except ImportError:
        raise ConfigError(
            f"to spell {number} in words, num2words must be installed: pip install 'asr[numbers]'"
        ) from None
    return num2words(number, lang="en", to=kind)


def _plain(words: str) -> str:
    return " ".join(word for word in re.split("[-, ]+", words) if word != "and")


# --- the parts of written forms


def _digits(text: str) -> str:
    """Each digit alone; a plus sign before them is said."""
    plus = "plus " if text.lstrip(" (").startswith("+") else ""
    return plus + " ".join(cardinal(int(digit)) for digit in text if digit.isdecimal())


def _whole(text: str) -> str:
    """A whole number, with or without commas; codes with a leading zero, and too long numbers, digit by digit."""
    digits = text.replace(",", "")
    if len(digits) > _LONGEST or (len(digits) > 1 and digits[0] == "0"):
        return _digits(digits)
    return cardinal(int(digits))


def _ordinal(text: str) -> str:
    """A place in an order, with or without commas; a too long one digit by digit."""
    digits = text.replace(",", "")
    return ordinal(int(digits)) if len(digits) <= _LONGEST else f"{_digits(digits[:-1])} {ordinal(int(digits[-1]))}"


def _number(text: str) -> str:
    """A number with an optional sign, commas and fraction."""
    sign = {"-": "minus ", "−": "minus ", "+": "plus ", "±": "plus or minus "}.get(text[:1], "")
    whole, point, fraction = text[bool(sign) :].partition(".")
    words = _whole(whole) if whole else ""
    return sign + (f"{words} point {_digits(fraction)}".strip() if point and fraction else words)


def _counted(number: str, unit: str) -> str:
    """A number and its unit, singular or plural: one meter, two meters per second."""
    name = _UNITS[unit]
    if number.lstrip("-−+±") != "1":
        first, *rest = re.split("( per | celsius| fahrenheit)", name, maxsplit=1)
        name = _PLURALS[name] if name in _PLURALS else f"{_PLURALS.get(first, first + 's')}{''.join(rest)}"
    return f"{_number(number)} {name}"


def _money(match: re.Match[str]) -> str:
    sign = match["sign"] or ""
    currency, amount = match["currency"], match["amount"]
    one, many, one_cent, many_cents = _CURRENCIES[currency]
    scale = (match["scale"] or "").strip().lower()
    prefix = "minus " if sign else ""
    if scale:
        return f"{prefix}{_number(amount)} {_SCALES.get(scale, scale)} {many}"
    whole, _, cents = amount.partition(".")
    if len(cents) not in (0, 2):
        return f"{prefix}{_number(amount)} {many}"
    parts = [f"{_whole(whole)} {one if whole == '1' else many}"] if whole.strip("0,") or not cents.strip("0") else []
    if cents.strip("0"):
        parts.append(f"{cardinal(int(cents))} {one_cent if int(cents) == 1 else many_cents}")
    return prefix + " and ".join(parts)


def _money_range(match: re.Match[str]) -> str:
    """$5-6 million -> five to six million dollars."""
    scale = (match["scale"] or "").strip().lower()
    words = [_number(match["first"]), "to", _number(match["second"]), _SCALES.get(scale, scale)]
    return " ".join(filter(None, [*words, _CURRENCIES[match["currency"]][1]]))


def _time(match: re.Match[str]) -> str:
    parts = match.groupdict()
    hour, minute, second = int(match["hour"]), parts.get("minute"), parts.get("second")
    half = " ".join(re.findall("[a-z]", (match["half"] or "").lower()))
    if minute is None:
        words = cardinal(hour)
    elif minute == "00" and not second:
        full = "" if half else " hundred" if hour > 12 else " o'clock"
        words = f"{cardinal(hour)}{full}" if hour else "midnight"
    else:
        words = f"{cardinal(hour)} {_minutes(minute)}" + (f" {_minutes(second)}" if second else "")
    return f"{words} {half}".strip()


def _minutes(text: str) -> str:
    return f"oh {cardinal(int(text))}" if text[0] == "0" else cardinal(int(text))


def _date(day: str, month: int, year_digits: str | None, *, day_first: bool = False) -> str:
    name, number = _MONTHS[month - 1], ordinal(int(day))
    words = f"{number} of {name}" if day_first else f"{name} {number}"
    return f"{words} {_year(year_digits)}" if year_digits else words


def _the(match: re.Match[str], words: str) -> str:
    """The words with an article, if none is before them."""
    return words if match.string[: match.start()].lower().endswith("the ") else f"the {words}"


def _year(digits: str) -> str:
    return year(int(digits)) if len(digits) == 4 and digits[0] != "0" else _whole(digits)


def _numeric_date(match: re.Match[str]) -> str:
    """12/25/2023 has the month first; with a first number above 12, or with points, the day is first."""
    first, second = int(match["first"]), int(match["second"])
    day_first = first > 12 or "." in match[0]
    day, month = (first, second) if day_first else (second, first)
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return " ".join([_whole(match["first"]), _whole(match["second"]), _year(match["year"])])
    words = _date(str(day), month, match["year"], day_first=day_first)
    return _the(match, words) if day_first else words


def _iso_date(match: re.Match[str]) -> str:
    month, day = int(match["month"]), int(match["day"])
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return match[0]
    return _date(match["day"], month, match["year"])


def _month_number(name: str) -> int:
    name = name.lower().rstrip(".")
    return _MONTHS.index(_SHORT_MONTHS.get(name, name)) + 1


def _fraction(match: re.Match[str]) -> str:
    """3/4 -> three quarters, 1 1/2 -> one and a half; other pairs of numbers are said one after the other."""
    whole, top, bottom = match["whole"], int(match["top"]), int(match["bottom"])
    if not 0 < top < bottom or (bottom > 10 and bottom not in (12, 16, 20, 32, 64, 100)):
        pair = f"{_whole(match['top'])} {_whole(match['bottom'])}"
        return f"{_whole(whole)} {pair}" if whole else pair
    name = {2: "half", 4: "quarter"}.get(bottom) or ordinal(bottom)
    many = "halves" if bottom == 2 else f"{name}s"
    if whole:
        article = "a" if name != "eighth" else "an"
        return f"{_whole(whole)} and {article if top == 1 else cardinal(top)} {name if top == 1 else many}"
    return f"{cardinal(top)} {name if top == 1 else many}"


def _decade(match: re.Match[str]) -> str:
    """1920s -> nineteen twenties, 90s -> nineties."""
    words = _year(match["digits"]) if len(match["digits"]) == 4 else cardinal(int(match["digits"]))
    return f"{words[:-1]}ies" if words.endswith("y") else f"{words}es" if words.endswith("six") else f"{words}s"


def _range(match: re.Match[str]) -> str:
    first, second = match["first"], match["second"]
    years = len(first) == 4 and len(second) in (2, 4) and _is_year(first)
    if years and len(second) == 2:
        return f"{_year(first)} to {_minutes(second)}"
    return f"{_alone(first)} to {_alone(second)}"


def _is_year(digits: str) -> bool:
    return len(digits) == 4 and digits.isdecimal() and "1010" <= digits <= "2099"


def _alone(digits: str) -> str:
    """A number without context: a year, a long code digit by digit, or a cardinal."""
    if _is_year(digits):
        return year(int(digits))
    is_code = digits.isdecimal() and len(digits) >= 7 and not digits.endswith("000")
    return _digits(digits) if is_code else _number(digits)


def _inside_word(match: re.Match[str]) -> str:
    """Digits beside letters: A4 -> A four."""
    before = " " if match.start() and match.string[match.start() - 1].isalpha() else ""
    after = " " if match.string[match.end() : match.end() + 1].isalpha() else ""
    return f"{before}{_alone(match[0])}{after}"


def _telephone(match: re.Match[str]) -> str:
    """Groups of digits, unless they are a list of years or of small numbers."""
    groups = re.findall(r"\d+", match[0])
    if "-" not in match[0] and (sum(map(len, groups)) < 7 or all(map(_is_year, groups))):
        return match[0]
    return _digits(match[0])


def _grouped(match: re.Match[str]) -> str:
    return re.sub(r"\s", ",", match[0])


_SIGNS = {"+": "plus", "=": "equals", "*": "times", "÷": "divided by"}
_BEFORE = {"#": "number", "№": "number", "§": "section", "no.": "number", "nos.": "numbers"}
_HALF = r"(?P<half>[aApP](?:\.[mM]\.|[mM]\b))"
_CLOCK, _HALF_AFTER = r"\d?\d(?::\d\d)?", r"[ ]?[aApP](?:\.[mM]\.|[mM]\b)"
_SUFFIX = "(?:st|nd|rd|th|ST|ND|RD|TH)"
_DAY = rf"(?P<day>[12]\d|3[01]|0?[1-9]){_SUFFIX}?"
_SCALE = rf"[ ](?:{_SCALE_WORDS})\b|[ ]?(?:[kKmMbB]|mn|bn|tn)\b"
_AMOUNT = rf"(?P<amount>{_NUMBER})(?P<scale>{_SCALE})?"
_BETWEEN = rf"(?P<first>{_NUMBER})[ ]?{_DASH}[ ]?(?P<second>{_NUMBER})"
_MEASURE = rf"{_NUMBER}\s?(?:{_UNIT})(?![\w/²³])"
_SUM = rf"{_CURRENCY}[ ]?{_NUMBER}(?:{_SCALE})?"
_ENDS = [  # of ranges with a sign or a unit on both sides, and of times and days
    (rf"{_CLOCK}(?:{_HALF_AFTER})?", rf"{_CLOCK}{_HALF_AFTER}"),
    (_MEASURE, _MEASURE),
    (_SUM, _SUM),
    (r"\d{3}0s", r"\d{3}0s\b"),
    (rf"\d\d?{_SUFFIX}?", rf"{_DAY}[ ](?:of[ ])?{_MONTH}(?!\w)"),
]

_RULES: list[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]] = [
    # spaces between thousands
    (
        re.compile(rf"{_START}(?<![\d)+-] )[1-9]\d{{0,2}}(?:(?:[ ]000)+|(?:[\u00a0\u2009\u202f]\d{{3}})+)(?![\w])"),
        _grouped,
    ),
    # ranges of amounts, times, decades and days
    *(
        (re.compile(rf"{_START}(?P<first>{first})[ ]?{_DASH}[ ]?(?={second})"), lambda match: f"{match['first']} to ")
        for first, second in _ENDS
    ),
    # dates
    (re.compile(rf"{_START}(?P<year>\d{{4}})-(?P<month>\d\d)-(?P<day>\d\d)(?![\w-])"), _iso_date),
    (
        re.compile(rf"{_START}(?P<first>\d\d?)(?P<mark>[/.])(?P<second>\d\d?)(?P=mark)(?P<year>\d{{4}})(?!\w)"),
        _numeric_date,
    ),
    (
        re.compile(rf"\b{_MONTH}[ ]{_DAY}(?:,?[ ](?P<year>\d{{4}}))?(?![\w:%]|[.,/-]\d)"),
        lambda match: _date(match["day"], _month_number(match["month"]), match["year"]),
    ),
    (
        re.compile(rf"{_START}{_DAY}[ ](?:of[ ])?{_MONTH}(?:,?[ ](?P<year>\d{{4}}))?(?!\w)"),
        lambda match: _the(match, _date(match["day"], _month_number(match["month"]), match["year"], day_first=True)),
    ),
    # telephone numbers
    (
        re.compile(
            rf"(?<![\w.{''.join(_CURRENCIES)}])(?:\+\d{{1,3}}[ -]?)?\d{{2,5}}(?:[ -]\d{{2,5}}){{2,5}}(?![\w%]|[.,:]\d)"
        ),
        _telephone,
    ),
    (
        re.compile(r"(?<!\w)(?:\+\d{1,3}[ ]?)?\(\d{2,5}\)[ -]?\d{3,}(?:[ -]\d{2,5})*(?!\w)|(?<!\w)\+\d{7,}(?!\w)"),
        lambda match: _digits(match[0]),
    ),
    (
        re.compile(rf"{_START}(?:\d{{3}}-\d{{4}}(?![\w-])|0\d{{2,4}}[ ]\d{{3,8}}(?!\w))"),
        lambda match: _digits(match[0]),
    ),
    # times
    (re.compile(rf"(?<=:\d\d)[ ]?{_DASH}[ ]?(?=\d?\d:\d\d)"), lambda match: " to "),
    (
        re.compile(
            rf"{_START}(?P<hour>[01]?\d|2[0-4]):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d))?(?![\d:])(?:[ ]?{_HALF})?"
        ),
        _time,
    ),
    (re.compile(rf"{_START}(?P<hour>1[0-2]|0?[1-9])[ ]?{_HALF}"), _time),
    (re.compile(rf"{_START}(?P<first>\d+):(?P<second>\d+)(?![\w:])"), _range),
    # money
    (
        re.compile(rf"(?P<currency>{_CURRENCY})[ ]?{_BETWEEN}(?P<scale>{_SCALE})?(?![\w]|[.,]\d)"),
        _money_range,
    ),
    (re.compile(rf"(?P<sign>(?<!\w)[-−])?(?:\bUS|\bA|\bC)?(?P<currency>{_CURRENCY})[ ]?{_AMOUNT}"), _money),
    (re.compile(rf"(?P<sign>(?<!\w)[-−])?{_START}{_AMOUNT}\s?(?P<currency>{_CURRENCY})"), _money),
    # ordinals, decades, versions
    (
        re.compile(rf"{_START}(?P<number>{_WHOLE}){_SUFFIX}\b"),
        lambda match: _ordinal(match["number"]),
    ),
    (re.compile(rf"(?:{_START}['’])?\b(?P<digits>\d{{3}}0|[2-9]0)['’]?s\b"), _decade),
    (re.compile(rf"{_START}\d+(?:\.\d+){{2,}}(?!\w)"), lambda match: " point ".join(map(_whole, match[0].split(".")))),
    # fractions, heights
    (re.compile(rf"{_START}(?:(?P<whole>\d+)[ ])?(?P<top>\d{{1,3}})[/⁄](?P<bottom>\d{{1,3}})(?![\w/])"), _fraction),
    (
        re.compile(rf"{_START}(?P<feet>\d)['′](?P<inches>\d{{1,2}})(?:[\"″”]|'')"),
        lambda match: f"{_whole(match['feet'])} foot {_whole(match['inches'])}",
    ),
    # quantities, ranges
    (
        re.compile(rf"{_START}{_BETWEEN}\s?(?P<unit>{_UNIT})(?![\w/])"),
        lambda match: f"{_number(match['first'])} to {_counted(match['second'], match['unit'])}",
    ),
    (
        re.compile(rf"(?<![\w.])(?P<number>{_SIGN}{_NUMBER})[\s-]?(?P<unit>{_UNIT})(?![\w/²³])"),
        lambda match: _counted(match["number"], match["unit"]),
    ),
    (
        re.compile(rf"{_START}(?P<number>{_NUMBER})[ ]?(?P<scale>k|K|M|bn|tn)\b"),
        lambda match: f"{_number(match['number'])} {_SCALES[match['scale'].lower()]}",
    ),
    (
        re.compile(rf"{_START}(?P<first>\d+)[ ]?[x×][ ]?(?P<second>\d+)(?!\w)"),
        lambda match: f"{_whole(match['first'])} by {_whole(match['second'])}",
    ),
    (re.compile(rf"{_START}(?P<number>{_NUMBER})x\b"), lambda match: f"{_number(match['number'])} times"),
    (re.compile(rf"{_START}{_BETWEEN}(?![\w-]|\.\d)"), _range),
    # signs
    (re.compile(r"(?P<sign>[#№§]|\b(?:No|NO|Nos)\.)[ ]?(?=\d)"), lambda match: f"{_BEFORE[match['sign'].lower()]} "),
    (re.compile(r"(?<=[\w.)])[ ]?(?P<sign>[+=*÷])[ ]?(?=[\d(])"), lambda match: f" {_SIGNS[match['sign']]} "),
    # all others
    (
        re.compile(rf"(?<![\w.]){_SIGN}(?:\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?|\d*\.\d+)(?!\w|,\d)"),
        lambda match: _number(match[0]),
    ),
    (re.compile(r"(?<![\w)\]])[-−+±]\d+(?!\w)"), lambda match: _number(match[0])),
    (re.compile(r"(?<=[^\W\d_])\d+\.\d+(?!\w)"), lambda match: f" {_number(match[0])}"),  # v2.1
    (re.compile(r"[0-9]+"), _inside_word),
]
