"""Pairs of sentences that sound alike, and of which one makes sense: what a language model has to decide.

A sentence of a held-out text, and the same with one word in the place of another that is said the same way: "the apple
and pear salad", "the apple and pair salad". Groups of such words come from CMUdict. Left out are those that nobody
could decide: names, which are hardly ever written small; spellings of one word (colour, color); plurals and possessives
of one noun (sons, son's); letters, and what is no English word but in dialect.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.corpora.lm_text import split_sentences
from asr.corpora.pronunciations import Dictionary
from asr.errors import DataError
from asr.files.writing import write_whole
from asr.lm.corpus import read_lines
from asr.text.normalization import TextOptions, normalize

LEAST_COUNT = 25  # times that each word is written small in the texts that models learn from
SENTENCES_PER_WORD = 5  # of the held-out text for each word and each other that sounds like it
WORDS = range(5, 26)  # of a sentence: enough to go by, no more than is said in a breath
HEADER = "right\twrong\tword\tother\n"

_CONTRACTIONS = frozenset({"IT'S", "WHO'S", "THERE'S", "LET'S", "WHAT'S", "WHERE'S", "HE'S", "SHE'S", "THAT'S"})
_NO_WORDS = frozenset({"AI", "AR", "COM", "DOO", "DU", "FER", "KO", "LBS", "PER", "QUE", "SE", "WOR", "YU"})
# What a spelling has in common with others of the same word.
_SPELLINGS = [(re.compile(pattern), common) for pattern, common in (
    ("OUR", "OR"), ("IS(E|ED|ING|ES)$", r"IZ\1"), ("RE$", "ER"), ("LL", "L"), ("GREY", "GRAY"), ("ENCE", "ENSE"),
    ("KEY$", "KY"), ("PT$", "PED"), ("MM", "M"), ("AME$", "AM"), ("^OK$", "OKAY"), ("NT$", "NED"), ("^AUGHT", "OUGHT"),
    ("AYE", "AY"), ("IE$", "Y"), ("E$", ""), ("ORNE", "ORN"), ("^UH$", "A"),
)]  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """A sentence, and the same with `other` in the place of `word`."""

    right: str
    wrong: str
    word: str
    other: str


def homophones(dictionary: Dictionary, counts: Mapping[str, int]) -> list[tuple[str, ...]]:
    """The groups of words that sound alike, sorted.

    Args:
        dictionary: as `asr.corpora.pronunciations.read_cmudict` gives it.
        counts: how often each word, in upper case, is written small; see `count_written_small`.
    """
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for word, phones in dictionary.items():
        possessive = word.endswith("'S") and word not in _CONTRACTIONS
        if counts.get(word, 0) >= LEAST_COUNT and len(word) > 1 and not possessive and word not in _NO_WORDS:
            groups[phones].append(word)
    return sorted(tuple(sorted(group)) for group in groups.values() if len({*map(_common_spelling, group)}) > 1)


def count_written_small(texts: Iterable[str | os.PathLike[str]]) -> Counter[str]:
    """How often each word, in upper case, has a small first letter in some texts: names hardly ever have."""
    counts: Counter[str] = Counter()
    for text in texts:
        for line in read_lines(text):
            counts.update(re.findall(r"(?<![\w'])[a-z]+(?:'[a-z]+)?\b", line))
    return Counter({word.upper(): count for word, count in counts.items()})


def make_pairs(sentences: Iterable[str], groups: Sequence[tuple[str, ...]]) -> list[Pair]:
    """Pairs from normalised sentences: the same ones whatever the order of the sentences.

    A sentence has one pair at most, so that no two pairs depend on one another.
    """
    others = {word: [other for other in group if _common_spelling(other) != _common_spelling(word)]
              for group in groups for word in group}  # fmt: skip
    found: dict[tuple[str, str], list[Pair]] = defaultdict(list)
    for sentence in sorted(set(sentences), key=_order):
        words = sentence.split()
        if len(words) not in WORDS:
            continue
        choices = [(place, other) for place, word in enumerate(words) for other in others.get(word, ())]
        choices = [(place, other) for place, other in choices if len(found[words[place], other]) < SENTENCES_PER_WORD]
        if not choices:
            continue
        # The rarest pair of words first: a frequent one finds another sentence.
        place, other = min(choices, key=lambda choice: (len(found[words[choice[0]], choice[1]]), choice))
        wrong = " ".join([*words[:place], other, *words[place + 1 :]])
        found[words[place], other].append(Pair(sentence, wrong, words[place], other))
    return [pair for _, pairs in sorted(found.items()) for pair in pairs]


def write_pairs(pairs: Iterable[Pair], path: str | os.PathLike[str]) -> None:
    """Writes pairs as tab-separated values: right, wrong, word, other."""
    write_whole(path, HEADER + "".join(f"{p.right}\t{p.wrong}\t{p.word}\t{p.other}\n" for p in pairs))


def read_pairs(path: str | os.PathLike[str]) -> list[Pair]:
    """The pairs that `write_pairs` wrote.

    Raises:
        DataError: a line is not a pair.
    """
    pairs = []
    for number, line in enumerate(read_lines(path), start=1):
        columns = line.split("\t")
        if len(columns) != 4:
            raise DataError(f"a line must have 4 columns, not {len(columns)}", path=path, line=number)
        if number > 1:
            pairs.append(Pair(*columns))
    return pairs


def prepare(
    *,
    held_out: Iterable[str | os.PathLike[str]],
    texts: Iterable[str | os.PathLike[str]],
    dictionary: Dictionary,
    options: TextOptions,
    destination: str | os.PathLike[str],
) -> Path:
    """Pairs from held-out texts, written to `destination`.

    Args:
        held_out: text files that no model has learned from, a sentence or a paragraph a line.
        texts: those that models learn from, as written.
        dictionary: as `asr.corpora.pronunciations.read_cmudict` gives it.
        options: the spelling of the sentences; capitals.
        destination: a .tsv file.
    """
    groups = homophones(dictionary, count_written_small(texts))
    write_pairs(make_pairs(_sentences(held_out, options), groups), destination)
    return Path(destination)


def _sentences(paths: Iterable[str | os.PathLike[str]], options: TextOptions) -> Iterator[str]:
    for path in paths:
        for line in read_lines(path):
            yield from (normalize(sentence, options) for sentence in split_sentences(line))


def _common_spelling(word: str) -> str:
    for pattern, common in _SPELLINGS:
        word = pattern.sub(common, word)
    return word


def _order(sentence: str) -> bytes:
    return hashlib.sha256(sentence.encode()).digest()
