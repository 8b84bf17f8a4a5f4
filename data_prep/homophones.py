"""Pairs of sentences that sound the same, one right and one wrong, to test language models.

Each pair is a sentence of a held-out text, and the same sentence with one word replaced by a homophone: "the apple and
pear salad", "the apple and pair salad". Homophones are groups of words with equal phones in CMUdict, without ambiguous
words: names, which are rarely in lower case; spellings of one word (colour, color); plurals and possessives of one noun
(sons, son's); letters, abbreviations and dialect.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.corpora.lm_text import speak_titles, split_sentences
from asr.corpora.pronunciations import Dictionary
from asr.errors import DataError
from asr.files.writing import write_whole
from asr.lm.corpus import read_lines
from asr.text.normalization import TextOptions, normalize

LEAST_COUNT = 25  # of a word in lower case in the training texts
SENTENCES_PER_WORD = 5  # for each ordered pair of homophones
WORDS = range(5, 26)  # of a sentence: enough context, at most a breath
HEADER = "right\twrong\tword\tother\n"

_CONTRACTIONS = frozenset({"IT'S", "WHO'S", "THERE'S", "LET'S", "WHAT'S", "WHERE'S", "HE'S", "SHE'S", "THAT'S"})
_NO_WORDS = frozenset({"AI", "AR", "COM", "DOO", "DU", "FER", "KO", "LBS", "PER", "QUE", "SE", "WOR", "YU"})
# From a spelling to the common form of all spellings of the word.
_SPELLINGS = [(re.compile(pattern), common) for pattern, common in (
    ("OUR", "OR"), ("IS(E|ED|ING|ES)$", r"IZ\1"), ("RE$", "ER"), ("LL", "L"), ("GREY", "GRAY"), ("ENCE", "ENSE"),
    ("KEY$", "KY"), ("PT$", "PED"), ("MM", "M"), ("AME$", "AM"), ("^OK$", "OKAY"), ("NT$", "NED"), ("^AUGHT", "OUGHT"),
    ("AYE", "AY"), ("IE$", "Y"), ("E$", ""), ("ORNE", "ORN"), ("^UH$", "A"),
)]  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """A sentence, and the same sentence with `other` instead of `word`."""

    right: str
    wrong: str
    word: str
    other: str


def homophones(dictionary: Dictionary, counts: Mapping[str, int]) -> list[tuple[str, ...]]:
    """The groups of words that sound the same, sorted.

    Args:
        dictionary: from `asr.corpora.pronunciations.read_cmudict`.
        counts: from `count_written_small`.
    """
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for word, phones in dictionary.items():
        possessive = word.endswith("'S") and word not in _CONTRACTIONS
        if counts.get(word, 0) >= LEAST_COUNT and len(word) > 1 and not possessive and word not in _NO_WORDS:
            groups[phones].append(word)
    return sorted(tuple(sorted(group)) for group in groups.values() if len({*map(_common_spelling, group)}) > 1)


def count_written_small(texts: Iterable[str | os.PathLike[str]]) -> Counter[str]:
    """How often each word, in upper case, begins in lower case in the texts; names rarely do."""
    counts: Counter[str] = Counter()
    for text in texts:
        for line in read_lines(text):
            counts.update(re.findall(r"(?<![\w'])[a-z]+(?:'[a-z]+)?\b", line))
    return Counter({word.upper(): count for word, count in counts.items()})


def make_pairs(sentences: Iterable[str], groups: Sequence[tuple[str, ...]]) -> list[Pair]:
    """Pairs from normalised sentences; the order of the sentences does not matter.

    A sentence gives one pair at most, so the pairs are independent.
    """
    others = {word: [other for other in group if _common_spelling(other) != _common_spelling(word)]
              for group in groups for word in group}  # fmt: skip
    pairs: dict[tuple[str, str], list[Pair]] = defaultdict(list)
    for sentence in sorted(set(sentences), key=_order):
        words = sentence.split()
        if len(words) not in WORDS:
            continue
        choices = [(index, other) for index, word in enumerate(words) for other in others.get(word, ())]
        choices = [(index, other) for index, other in choices if len(pairs[words[index], other]) < SENTENCES_PER_WORD]
        if not choices:
            continue
        # The rarest pair of words first; a frequent pair gets another sentence.
        index, other = min(choices, key=lambda choice: (len(pairs[words[choice[0]], choice[1]]), choice))
        wrong = " ".join([*words[:index], other, *words[index + 1 :]])
        pairs[words[index], other].append(Pair(sentence, wrong, words[index], other))
    return [pair for _, row in sorted(pairs.items()) for pair in row]


def write_pairs(pairs: Iterable[Pair], path: str | os.PathLike[str]) -> None:
    """Write pairs as tab-separated values: right, wrong, word, other."""
    write_whole(path, HEADER + "".join(f"{p.right}\t{p.wrong}\t{p.word}\t{p.other}\n" for p in pairs))


def read_pairs(path: str | os.PathLike[str]) -> list[Pair]:
    """The pairs in a file of `write_pairs`.

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
    """Write pairs from held-out texts to `destination`.

    Args:
        held_out: text files not used in training, one sentence or paragraph per line.
        texts: training texts in their original spelling.
        dictionary: from `asr.corpora.pronunciations.read_cmudict`.
        options: normalisation of the sentences, to upper case.
        destination: a .tsv file.
    """
    groups = homophones(dictionary, count_written_small(texts))
    write_pairs(make_pairs(_sentences(held_out, options), groups), destination)
    return Path(destination)


def _sentences(paths: Iterable[str | os.PathLike[str]], options: TextOptions) -> Iterator[str]:
    for path in paths:
        for line in read_lines(path):
            yield from (normalize(sentence, options) for sentence in split_sentences(speak_titles(line)))


def _common_spelling(word: str) -> str:
    for pattern, common in _SPELLINGS:
        word = pattern.sub(common, word)
    return word


def _order(sentence: str) -> bytes:
    return hashlib.sha256(sentence.encode()).digest()
