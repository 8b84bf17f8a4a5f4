"""A training lexicon from CMUdict: its words without stress, and words derived from them where a text needs more.

CMUdict: Carnegie Mellon University, https://github.com/cmusphinx/cmudict, BSD-style licence; 126 052 words of US
English. Books hold many words that it lacks: half of them are names, most of the rest regular forms or compounds of
words that it has. Those are derived here; `asr.training.lexicon` lets utterances with the others train without phones.
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

# Endings that sound the same after every word; those of a plural or a past tense depend on its last phone.
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
_SMALLEST_PART = 3  # letters of a word in a compound; with fewer, any name falls into words


def read_cmudict(path: str | os.PathLike[str]) -> Dictionary:
    """The first pronunciation of each word of CMUdict, in upper case and without digits of stress.

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
    """The dictionary, and what can be derived of the words that it lacks, as lines of `WORD PH PH ...`.

    All of the dictionary is there, so that a lexicon serves other texts too, and the phones don't depend on the text.

    Args:
        words: in upper case.
        dictionary: as `read_cmudict` gives it.
    """
    derived = {word: derive(word, dictionary) for word in set(words) - dictionary.keys()}
    found = dictionary | {word: phones for word, phones in derived.items() if phones}
    return "".join(f"{word} {' '.join(phones)}\n" for word, phones in sorted(found.items()))


def derive(word: str, dictionary: Dictionary) -> Phones | None:
    """The phones of a regular form (buffaloes, Kara's, uplifted) or a compound (doorstep) of known words, or None.

    Args:
        word: in upper case, not in the dictionary.
        dictionary: as `read_cmudict` gives it.
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
    """The phones of what an ending was put to: as it stands, with an E dropped, or with its last letter doubled."""
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
