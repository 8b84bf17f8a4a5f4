"""Words of a written text, each with the mark after it and its case: what the network learns, and is scored by."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MARKS: Final = ("", ",", ".", "?", "!")
COMMA, PERIOD = 1, 2
CASES: Final = ("lower", "Capitalised", "UPPER")
LOWER, CAPITALISED, UPPER = range(3)

# Other marks as one of MARKS: dashes, colons, semicolons and brackets separate like commas.
_TITLES = {"mr.": "Mister", "mrs.": "Missus", "dr.": "Doctor", "st.": "Saint", "ms.": "Miz", "messrs.": "Messers"}
_ELLIPSIS = re.compile(r"\s*(?:\.\s*){2,}(?P<quotes>[\"'’”)]*)")
_DASH = re.compile(r"\s*(?:--+|—|–|\s-\s|\s-$)\s*")
_TOKEN = re.compile(r"[^\s]+")
_INITIALS = re.compile(r"(?:[A-Za-z]\.)+")
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


@dataclass(frozen=True)
class MarkedWord:
    """A word as it is written, and the number in `MARKS` of the mark after it."""

    text: str
    mark: int

    @property
    def case(self) -> int:
        """The number in `CASES`; McCoy counts as capitalised, and a single capital letter too."""
        return case_of(self.text)


def case_of(word: str) -> int:
    """The number in `CASES` of a written word."""
    if not word[:1].isupper():
        return LOWER
    letters = sum(map(str.isalpha, word))
    return UPPER if letters > 1 and word.upper() == word and not word.startswith("I'") else CAPITALISED


def marked_words(text: str) -> list[MarkedWord]:
    """The words of a written text, without quotes, brackets and hyphens.

    Mr., Mrs., Dr. and St. become the words that are said. Semicolons, colons and dashes count as commas; an ellipsis is
    a period before a capital, otherwise a comma. Of several marks together the strongest counts: ? and ! before a
    period, and this before a comma.
    """
    text = _ELLIPSIS.sub(_ellipsis, text.replace("’", "'").replace("…", "..."))
    words: list[MarkedWord] = []
    for token in _TOKEN.findall(_DASH.sub(" , ", text)):
        for word, mark in _parts(token):
            if word:
                words.append(MarkedWord(word, mark))
            elif mark and words:
                words[-1] = MarkedWord(words[-1].text, _stronger(words[-1].mark, mark))
    return words


def _ellipsis(match: re.Match[str]) -> str:
    following = match.string[match.end() :].lstrip(" \"'“‘(")
    return f"{'.' if not following or following[0].isupper() else ','}{match['quotes']} "


def _parts(token: str) -> Iterator[tuple[str, int]]:
    """The words of a token with their marks; "" for marks alone."""
    bare = token.strip("\"'“”‘()[]*")
    if title := _TITLES.get(bare.rstrip(",;:").lower()):
        yield title, COMMA if bare[-1] != "." else 0
        return
    if _INITIALS.fullmatch(bare) and len(bare) > 2:
        letters = bare.replace(".", "")
        yield from ((letter.upper(), 0) for letter in letters)
        return
    if len(bare) == 2 and bare[0].isupper() and bare[1] == "." and bare[0] != "I":  # J. Smith
        yield bare[0], 0
        return
    matches = list(_WORD.finditer(token))
    yield "", _mark_in(token[: matches[0].start()] if matches else token)
    for number, match in enumerate(matches):
        end = matches[number + 1].start() if number + 1 < len(matches) else len(token)
        yield match[0], _mark_in(token[match.end() : end])


def _mark_in(text: str) -> int:
    mark = 0
    for character in text:
        number = COMMA if character in ";:" else MARKS.index(character) if character in MARKS[1:] else 0
        mark = _stronger(mark, number)
    return mark


def _stronger(first: int, second: int) -> int:
    return max(first, second)
