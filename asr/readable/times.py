"""Dates, years and times of day, from a place in a list of words in lower case."""

from __future__ import annotations

from collections.abc import Sequence

from asr.readable.number_words import (
    DIGITS,
    NUMBER_WORDS,
    SCALES,
    Token,
    Value,
    read_below_hundred,
    read_cardinal,
    read_decade,
    read_ordinal,
    read_year,
    word_at,
)
from asr.readable.quantities import AFTER_AMOUNTS, BEFORE_YEARS, has_unit

_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_VERBS = ("march", "may")
# Words before a number that show its kind, and words after a time.
_BEFORE_TIMES = ("at", "by", "until", "till", "around", "about", "near", "almost", "nearly", "past")
BEFORE_CODES = (
    *("room", "number", "flight", "route", "highway", "bus", "extension", "code", "gate", "dial", "call"),
    *("suite", "apartment", "channel", "pin", "platform", "line"),
)
_LATE_HOURS = (13, 14, 15, 21, 22, 23)  # 16 to 20 begin years too
_BEFORE_DATES = ("on", "by", "until", "till", "since", "of", "from", "to", "before", "after")
_BEFORE_DECADES = ("the", "early", "late", "mid", "his", "her", "their", "my", "our", "and")
_DAYTIMES = ("morning", "afternoon", "evening", "night")


def read_clock_phrase(words: Sequence[str], start: int) -> list[Token] | None:
    """half past seven -> 7:30, a quarter to eight -> 7:45, ten past six -> 6:10; at ten to six -> at 5:50."""
    place = start + (word_at(words, start) == "a")
    word = word_at(words, place)
    part = {"half": Value(30, place + 1), "quarter": Value(15, place + 1)}.get(word) or read_below_hundred(words, place)
    if part is None or part.number not in (5, 10, 15, 20, 25, 30):
        return None
    minutes, relation, hour = part.number, word_at(words, part.end), read_below_hundred(words, part.end + 1)
    if relation not in ("past", "to") or hour is None or hour.number > 12:
        return None
    is_word = word in ("half", "quarter")
    if (place > start and not is_word) or word_at(words, hour.end) in (*AFTER_AMOUNTS, "miles", "years"):
        return None
    if relation == "to" and (word == "half" or (not is_word and word_at(words, start - 1) != "at")):
        return None
    total = (hour.number * 60 + (minutes if relation == "past" else -minutes)) % 720
    end = hour.end + (word_at(words, hour.end) == "o'clock")
    return [Token(f"{total // 60 or 12}:{total % 60:02d}", end), *_half_of_day(words, end)]


def read_date(words: Sequence[str], start: int) -> list[Token] | None:
    """may fifth nineteen twenty three -> May 5, 1923; fifth of may -> 5th of May; june nineteen ninety -> June 1990."""
    if word_at(words, start) in _MONTHS:
        return _month_first(words, start)
    day = read_ordinal(words, start)
    if day is None or day.number > 31 or word_at(words, day.end) != "of" or word_at(words, day.end + 1) not in _MONTHS:
        return None
    end = day.end + 2
    tokens = [
        Token(ordinal_figures(day.number), day.end),
        Token("of", day.end + 1),
        Token(words[end - 1].capitalize(), end),
    ]
    year = _year_of_date(words, end)
    return [*tokens, Token(str(year.number), year.end)] if year else tokens


def _month_first(words: Sequence[str], start: int) -> list[Token] | None:
    month = Token(words[start].capitalize(), start + 1)
    is_verb = words[start] in _VERBS
    day, number = read_ordinal(words, month.end), read_below_hundred(words, month.end)
    if day and day.number <= 31:
        if year := _year_of_date(words, day.end):
            return [month, Token(f"{day.number},", day.end), Token(str(year.number), year.end)]
        is_unsure = is_verb and day.number < 4 and word_at(words, start - 1) not in _BEFORE_DATES
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


def read_time(words: Sequence[str], start: int) -> list[Token] | None:
    """seven thirty p m -> 7:30 p.m.; at seven oh five -> at 7:05; ten o'clock -> 10 o'clock."""
    hour, before = read_below_hundred(words, start), word_at(words, start - 1)
    is_late = before == "at" and hour is not None and hour.number in _LATE_HOURS
    if hour is None or (hour.number > 12 and not is_late) or before in BEFORE_CODES:
        return None
    if word_at(words, hour.end) == "o'clock":
        return [Token(str(hour.number) if hour.number > 9 else "", hour.end)]
    if half := _half_of_day(words, hour.end):
        return [Token(str(hour.number), hour.end), *half]
    if word_at(words, hour.end) == "oh" and word_at(words, hour.end + 1) in DIGITS:
        minutes = Value(DIGITS[words[hour.end + 1]], hour.end + 2)
    elif (value := read_below_hundred(words, hour.end)) and 10 <= value.number < 60:
        minutes = value
    else:
        return None
    if word_at(words, minutes.end) in AFTER_AMOUNTS:
        return None
    half = _half_of_day(words, minutes.end)
    in_day = (
        list(words[minutes.end : minutes.end + 2]) == ["in", "the"] and word_at(words, minutes.end + 2) in _DAYTIMES
    )
    is_list = before in NUMBER_WORDS or word_at(words, minutes.end) in NUMBER_WORDS
    is_usual = minutes.number % (5 if hour.number > 9 else 15) == 0 or words[hour.end] == "oh"
    if half or in_day or before in _BEFORE_TIMES or (is_usual and not is_list and before not in BEFORE_YEARS):
        return [Token(f"{hour.number}:{minutes.number:02d}", minutes.end), *half]
    return None


def _half_of_day(words: Sequence[str], start: int) -> list[Token]:
    """a m -> a.m.; nothing for other words."""
    word, following = word_at(words, start), word_at(words, start + 1)
    if word in ("a", "p") and following == "m":
        return [Token(f"{word}.m.", start + 2)]
    if word in ("pm", "p.m", "p.m.", "a.m", "a.m.") or (word == "am" and following not in ("i", "not")):
        return [Token(f"{word[0]}.m.", start + 1)]
    return []


def read_year_or_decade(words: Sequence[str], start: int) -> list[Token] | None:
    """nineteen twenty three -> 1923, nineteen twenties -> 1920s, the eighties -> the 80s."""
    before = word_at(words, start - 1)
    if (decade := read_decade(words, start)) and (decade.number > 100 or before in _BEFORE_DECADES):
        return [Token(f"{decade.number}s", decade.end)]
    year = read_year(words, start)
    if year is None or has_unit(words, year.end):
        return None
    first, second = divmod(year.number, 100)
    is_between = before in NUMBER_WORDS or word_at(words, year.end) in NUMBER_WORDS
    is_pair = (second != first + 1 or (first in (19, 20) and not is_between)) and (
        16 <= first <= 20 or (first < 13 and word_at(words, year.end) not in NUMBER_WORDS)
    )
    is_list = before in NUMBER_WORDS - SCALES.keys() and not 17 <= first <= 19
    if (is_pair and not is_list) or before in BEFORE_YEARS:
        return [Token(str(year.number), year.end)]
    return None


def ordinal_figures(number: int) -> str:
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{suffix}"
