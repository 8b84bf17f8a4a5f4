"""The characters of the words of a text, as a model spells them: a string, and the index of the word of each."""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from asr.text.alphabet import Alphabet
from asr.text.normalization import TextOptions, normalize


def spell_words(words: Sequence[str], options: TextOptions) -> tuple[str, list[int]]:
    """The normalised text of successive words, and for each of its characters the index of its word, -1 for a space.

    Marks count as words; `asr.text.readings` removes them before, as one may span several words.

    Source: `normalize`, which handles each word on its own, except for the spaces between words.
    """
    options = replace(options, marks="keep")
    pieces = [normalize(word, options) for word in words]
    owners = iter([index for index, piece in enumerate(pieces) for character in piece if character != " "])
    characters = normalize(" ".join(pieces), options)
    return characters, [-1 if character == " " else next(owners) for character in characters]


def composed(characters: str, owners: Sequence[int], alphabet: Alphabet) -> tuple[str, list[int]]:
    """The characters in those of the alphabet that are not in NFC, such as Bengali U+09DF, and their owners."""
    kept = list(owners)
    for spelling, character in alphabet.outside_nfc:
        places = [match.start() for match in re.finditer(re.escape(spelling), characters)]
        for place in reversed(places):
            del kept[place + 1 : place + len(spelling)]
        characters = characters.replace(spelling, character)
    return characters, kept


def known_characters(
    characters: str, owners: Sequence[int], alphabet: Alphabet, dropped: Counter[str]
) -> tuple[str, list[int]]:
    """The characters that the alphabet has, and their owners; the others are counted."""
    lacking = {character for character in set(characters) if not alphabet.spell(character)}
    dropped.update(character for character in characters if character in lacking and character != " ")
    return _kept(characters, owners, lambda character, _: character not in lacking)


def without_words(characters: str, owners: Sequence[int], left_out: set[int]) -> tuple[str, list[int]]:
    """The characters of other words, and their owners."""
    return _kept(characters, owners, lambda _, owner: owner not in left_out)


def _kept(characters: str, owners: Sequence[int], keep: Callable[[str, int], bool]) -> tuple[str, list[int]]:
    """Some of the characters, and their owners; spaces neither doubled nor at an edge."""
    pairs: list[tuple[str, int]] = []
    for character, owner in zip(characters, owners, strict=True):
        if keep(character, owner) and (character != " " or (pairs and pairs[-1][0] != " ")):
            pairs.append((character, owner))
    if pairs and pairs[-1][0] == " ":
        pairs.pop()
    return "".join(character for character, _ in pairs), [owner for _, owner in pairs]


def unread_words(readings: Sequence[str], owners: Sequence[int]) -> set[int]:
    """The words that are said, but of which no character is aligned."""
    known = set(owners)
    return {word for word, reading in enumerate(readings) if word not in known and any(map(str.isalnum, reading))}


def first_characters(owners: Sequence[int]) -> Callable[[int], int]:
    """The first character of a word or of one after it; the number of characters if there is none."""
    firsts = [index for index, owner in enumerate(owners) if owner >= 0]
    inside = [owners[index] for index in firsts]
    firsts.append(len(owners))
    return lambda word: firsts[bisect_left(inside, word)]


def spelled_tokens(characters: str, owners: Sequence[int]) -> tuple[list[str], list[int]]:
    """The words as the model spells them, and the word of the text that each is of: two for U.S."""
    groups = itertools.groupby(zip(characters, owners, strict=True), key=lambda pair: pair[1])
    pairs = [("".join(character for character, _ in group), owner) for owner, group in groups if owner >= 0]
    return [token for token, _ in pairs], [owner for _, owner in pairs]
