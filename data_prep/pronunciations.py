"""A training lexicon from CMUdict: its words without stress, and derived forms of them that occur in a text.

CMUdict: Carnegie Mellon University, https://github.com/cmusphinx/cmudict, BSD-style licence; 126 052 words of US
English. Half of the words in books that it lacks are names; most others are regular forms or compounds of its words,
which are derived here. For utterances with still unknown words, `asr.training.lexicon` trains without phones.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from asr.errors import DataError
from asr.lm.corpus import read_lines

Phones = tuple[str, ...]
Dictionary = dict[str, Phones]

_SIBILANTS = frozenset({"S", "Z", "SH", "ZH", "CH", "JH"})
_VOICELESS = frozenset({"P", "T", "K", "F", "TH", "S", "SH", "CH", "HH"})
_VOWELS = frozenset("AEIOU")

# Endings that sound the same after every word; plural and past tense depend on the last phone.
_ENDINGS: dict[str, Phones] = {
    "ING": ("IH", "NG"),
    "LY": ("L", "IY"),
    "ER": ("ER",),
    "EST": ("AH", "S", "T"),
    "ETH": ("AH", "TH"),
    "NESS": ("N", "AH", "S"),
    "LESS": ("L", "AH", "S"),
    "FUL": ("F", "AH", "L"),
    "ABLE": ("AH", "B", "AH", "L"),
    "'LL": ("AH", "L"),
}
_BEGINNINGS: dict[str, Phones] = {"UN": ("AH", "N"), "RE": ("R", "IY"), "NON": ("N", "AA", "N")}
_SMALLEST_PART = 3  # letters of a word in a compound; with fewer, any name is a compound


def read_cmudict(path: str | os.PathLike[str]) -> Dictionary:
    """The first pronunciation of each word in CMUdict, in upper case and without stress digits.

    Args:
        path: `cmudict.dict` as published; may be compressed (.gz, .xz).
    Raises:
        DataError: as `read_lines`, or a word has no phones.
    """
    words: Dictionary = {}
    for number, line in enumerate(read_lines(path), start=1):
        if not (entry := line.partition("#")[0].split()):
            continue
        word, *phones = entry
        if not phones:
            raise DataError(f"each word must have phones, but {word!r} has none", path=path, line=number)
        words.setdefault(word.partition("(")[0].upper(), tuple(phone.rstrip("012") for phone in phones))
    return words


def lexicon(words: Iterable[str], dictionary: Dictionary) -> str:
    """The dictionary and the derivable ones of other words, as lines of `WORD PH PH ...`.

    The lexicon has the whole dictionary, so it also fits other texts, and its phones do not depend on the text.

    Args:
        words: in upper case.
        dictionary: from `read_cmudict`.
    """
    derived = {word: derive(word, dictionary) for word in set(words) - dictionary.keys()}
    entries = dictionary | {word: phones for word, phones in derived.items() if phones}
    return "".join(f"{word} {' '.join(phones)}\n" for word, phones in sorted(entries.items()))


def derive(word: str, dictionary: Dictionary) -> Phones | None:
    """The phones of a regular form (buffaloes, Kara's, uplifted) or a compound (doorstep) of known words, or None.

    Args:
        word: in upper case, not in the dictionary.
        dictionary: from `read_cmudict`.
    """
    for ending in ("'S", "ES", "S"):
        if word.endswith(ending) and (stem := dictionary.get(word.removesuffix(ending))):
            return stem + _plural(stem[-1])
    for ending in ("'D", "ED", "D"):
        if word.endswith(ending) and (stem := _stem(word.removesuffix(ending), ending, dictionary)):
            return stem + _past(stem[-1])
    for ending, phones in _ENDINGS.items():
        if word.endswith(ending) and (stem := _stem(word.removesuffix(ending), ending, dictionary)):
            return stem + phones
    for beginning, phones in _BEGINNINGS.items():
        if word.startswith(beginning) and (stem := dictionary.get(word.removeprefix(beginning))):
            return phones + stem
    for length in range(_SMALLEST_PART, len(word) - _SMALLEST_PART + 1):
        first, second = dictionary.get(word[:length]), dictionary.get(word[length:])
        if first and second:
            return first + second
    return None


def _stem(stem: str, ending: str, dictionary: Dictionary) -> Phones | None:
    """The phones of the stem of a word: as spelled, with a dropped E restored, or without its doubled last letter."""
    spellings = [stem]
    if ending[0] in _VOWELS:
        spellings.append(f"{stem}E")
        if len(stem) > 2 and stem[-1] == stem[-2]:
            spellings.append(stem[:-1])
    return next((dictionary[spelling] for spelling in spellings if spelling in dictionary), None)


def _plural(last: str) -> Phones:
    return ("IH", "Z") if last in _SIBILANTS else ("S",) if last in _VOICELESS else ("Z",)


def _past(last: str) -> Phones:
    return ("IH", "D") if last in ("T", "D") else ("T",) if last in _VOICELESS else ("D",)
