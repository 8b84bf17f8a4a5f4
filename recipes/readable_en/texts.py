"""Written texts to arrays of words, marks and cases, and back to sequences with pauses and errors of a recogniser."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.corpora.overlap import Withheld
from asr.lm.corpus import read_lines as read_text_lines
from asr.readable.features import character_grams
from asr.readable.marked_text import CAPITALISED, LOWER, MARKS, UPPER, MarkedWord, case_of, marked_words
from asr.text.numbers import spell_numbers

VOCABULARY, LEAST_MIXED = 16000, 5
HELD_OUT = 50  # every so many everyday sentences, one is for tests
UNKNOWN_CASE = -100  # of a word that an error of the recogniser has replaced

_SENTENCE = re.compile(r"[\"'(]*[A-Z0-9].*[.?!][\"')]*")
_WORDS_ONLY = re.compile(r"[^<>_|{}=~^\\#@/*+\[\]¦\x80-\x9f]*")


@dataclass(frozen=True)
class Text:
    """The words of a text: numbers in a list of distinct words, marks and cases, all (N,); and starts of paragraphs."""

    words: np.ndarray
    marks: np.ndarray
    cases: np.ndarray
    starts: np.ndarray


def read_lines(path: Path, *, sentences: bool, withheld: Withheld) -> Iterator[list[MarkedWord]]:
    """The words of each line; only whole sentences if `sentences`, and none that share words with withheld texts."""
    for line in map(str.strip, read_text_lines(path)):
        if (sentences and not _SENTENCE.fullmatch(line)) or not _WORDS_ONLY.fullmatch(line) or line.isupper():
            continue
        words = [word for word in marked_words(spell_numbers(line)) if word.text.isascii()]
        if words and not withheld.shares(" ".join(word.text for word in words).upper()):
            yield words


def to_line(words: Iterable[MarkedWord]) -> str:
    """The words with their marks, as a written text."""
    return " ".join(word.text + MARKS[word.mark] for word in words)


def is_held_out(number: int) -> bool:
    """Whether the everyday sentence of this number is for tests."""
    return number % HELD_OUT == 0


def count_forms(lines: Iterable[list[MarkedWord]]) -> dict[str, Counter[str]]:
    """How often each word, by its lower case, is written in each way."""
    forms: dict[str, Counter[str]] = {}
    for line in lines:
        for word in line:
            forms.setdefault(word.text.lower(), Counter())[word.text] += 1
    return forms


def vocabulary(forms: dict[str, Counter[str]]) -> tuple[str, ...]:
    """The most frequent words, in lower case."""
    ranked = sorted(forms, key=lambda word: (-forms[word].total(), word))
    return tuple(ranked[:VOCABULARY])


def mixed_forms(forms: dict[str, Counter[str]]) -> dict[str, str]:
    """The words that are mostly written with a capital inside: mcdonald -> McDonald."""
    mixed = {}
    for word, written in forms.items():
        form, count = written.most_common(1)[0]
        if count >= LEAST_MIXED and case_of(form) == CAPITALISED and form[1:].lower() != form[1:]:
            mixed[word] = form
    return dict(sorted(mixed.items()))


def true_case(word: str, forms: dict[str, Counter[str]]) -> int:
    """The case of a word; capitals for emphasis count as lower case, but not those of USA."""
    case, written = case_of(word), forms.get(word.lower())
    if case != UPPER or written is None:
        return case
    shares = Counter[int]()
    for form, count in written.items():
        shares[case_of(form)] += count
    return UPPER if 2 * shares[UPPER] > written.total() else LOWER if shares[LOWER] else CAPITALISED


def to_text(lines: Iterable[list[MarkedWord]], forms: dict[str, Counter[str]], numbers: dict[str, int]) -> Text:
    """The lines as arrays; `numbers` gets each new word."""
    words: list[int] = []
    marks: list[int] = []
    cases: list[int] = []
    starts: list[int] = []
    for line in lines:
        starts.append(len(words))
        for word in line:
            words.append(numbers.setdefault(word.text.lower(), len(numbers)))
            marks.append(word.mark)
            cases.append(true_case(word.text, forms))
    return Text(*(np.array(values, dtype=np.int32) for values in (words, marks, cases, starts)))


def gram_table(words: Iterable[str], buckets: int) -> np.ndarray:
    """(words, P) int32 numbers of the groups of characters of each word, filled up with 0."""
    grams = [character_grams(word, buckets) for word in words]
    table = np.zeros((len(grams), max(map(len, grams))), dtype=np.int32)
    for row, numbers in zip(table, grams, strict=True):
        row[: len(numbers)] = numbers
    return table


def shuffled(text: Text, rng: np.random.Generator) -> Text:
    """The paragraphs in another order, so that sentences that do not belong together follow each other."""
    bounds = [*text.starts.tolist(), len(text.words)]
    order = rng.permutation(len(text.starts))
    places = np.concatenate([np.arange(bounds[number], bounds[number + 1]) for number in order])
    lengths = np.diff(bounds)[order]
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int32)
    return Text(text.words[places], text.marks[places], text.cases[places], starts)


def simulated_pauses(marks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(T,) seconds after words with these marks; NaN for a third of the sequences.

    The medians are those of 60 utterances of mini-LibriSpeech, between the words of `english`; there only three pauses
    in a thousand without a mark last a quarter of a second. People who do not read hesitate more often.
    """
    if rng.random() < 0.33:
        return np.full(len(marks), np.nan)
    count = len(marks)
    hesitation = rng.choice([0.01, 0.03, 0.1])
    is_long = rng.random(count) < np.array([hesitation, 0.65, 0.96, 0.93, 0.93])[marks]
    median = np.array([0.3, 0.27, 0.6, 0.45, 0.4])[marks] * np.exp(rng.normal(0.0, 0.3))
    return np.where(is_long, median * np.exp(rng.normal(0.0, 0.45, count)), rng.uniform(0.02, 0.09, count))


def with_errors(
    text: Text, frequencies: np.ndarray, rng: np.random.Generator, *, share: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Words, marks and cases of a text in which a share of the words is dropped or replaced, as a recogniser does.

    The mark of a dropped word moves to the word before it.
    """
    words, marks, cases = text.words.copy(), text.marks.copy(), text.cases.copy()
    draw = rng.random(len(words))
    replaced = draw < share / 2
    words[replaced] = frequencies[rng.integers(0, len(frequencies), int(replaced.sum()))]
    cases[replaced] = UNKNOWN_CASE
    dropped = (draw >= share / 2) & (draw < share)
    dropped[0] = False
    for place in np.flatnonzero(dropped)[::-1]:
        marks[place - 1] = max(marks[place - 1], marks[place])
    return words[~dropped], marks[~dropped], cases[~dropped]
