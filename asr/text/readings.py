"""How the words of a text are said: without unspoken marks, and with the numbers and signs that a model cannot spell.

"It cost $5.50 [laughs] & more"  ─▶  ["It", "cost", "five dollars and fifty cents", "", "and", "more"]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from asr.errors import ConfigError
from asr.text.marks import find_marks
from asr.text.normalization import TextOptions, refuse_marks
from asr.text.numbers import spell_number_places

_SIGNS = {"&": "and", "%": "percent", "+": "plus", "=": "equals", "@": "at", "#": "number", "°": "degrees"}
_DIGITS = "0123456789"


def spoken_words(text: str, spans: Sequence[tuple[int, int]], options: TextOptions) -> list[str]:
    """The words without the text of marks such as [door opens], which may span several words.

    Raises:
        InputError: the options refuse marks, and the text has one.
    """
    blanked = _without_marks(text, options)
    return [blanked[start:end].replace(" ", "") for start, end in spans]


def read_words(
    text: str, spans: Sequence[tuple[int, int]], options: TextOptions, can_spell: Callable[[str], bool]
) -> tuple[list[str], str]:
    """`spoken_words` with English numbers and signs in words where the model cannot spell them; and a remark.

    A number may be several words of the text, and is read as a whole: "May 5, 2023" -> "May", "fifth", "twenty twenty
    three". A word of a number that is read in another place gets its share of the words.

    Args:
        text, spans: with the [start, end) of each word.
        options: language and marks.
        can_spell: whether the model has a character.
    Returns:
        A reading for each word, "" for none; and a sentence about what is missing to read numbers, or "".
    """
    words = spoken_words(text, spans, options)
    if options.language != "en":
        return words, ""
    words = [_SIGNS[word] if word in _SIGNS and not can_spell(word) else word for word in words]
    if all(map(can_spell, _DIGITS)) or not any(digit in text for digit in _DIGITS):
        return words, ""
    try:
        for first, end, reading in _numbers(_without_marks(text, options), spans):
            words[first:end] = _shared(reading, [text[slice(*span)] for span in spans[first:end]])
    except ConfigError:
        return words, "numbers are not read, and get the time that is left between words: pip install 'asr[numbers]'"
    return words, ""


def _without_marks(text: str, options: TextOptions) -> str:
    """The text with spaces in the place of marks, or as it is if marks are kept."""
    if options.marks == "refuse":
        refuse_marks(text)
    pieces, position = [], 0
    for start, end in find_marks(text) if options.marks == "drop" else ():
        pieces += [text[position:start], " " * (end - start)]
        position = end
    return "".join([*pieces, text[position:]])


def _numbers(text: str, spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, str]]:
    """The words [first, end) that hold a number, or several that share a word, and their reading."""
    places = spell_number_places(text)
    index, at = 0, 0
    while at < len(places):
        while spans[index][1] <= places[at][0]:
            index += 1
        first, pieces, position = index, [], spans[index][0]
        while at < len(places) and places[at][0] < spans[index][1]:
            start, end, reading = places[at]
            pieces += [text[position:start], reading]
            position = end
            while index + 1 < len(spans) and spans[index][1] < end:
                index += 1
            at += 1
        pieces.append(text[position : max(position, spans[index][1])])
        yield first, index + 1, "".join(pieces)
        index += 1


def _shared(reading: str, words: Sequence[str]) -> list[str]:
    """The parts of a reading for each of the words that it is of: in proportion to how each is read alone."""
    if len(words) == 1:
        return [reading]
    parts = reading.split()
    sizes = [max(len(re.findall(r"\w+", "".join(_read_alone(word)))), 1) for word in words]
    bounds = [round(len(parts) * sum(sizes[:count]) / sum(sizes)) for count in range(len(words) + 1)]
    return [" ".join(parts[first:end]) for first, end in pairwise(bounds)]


def _read_alone(word: str) -> Iterator[str]:
    position = 0
    for start, end, reading in spell_number_places(word):
        yield from (word[position:start], f" {reading} ")
        position = end
    yield word[position:]
