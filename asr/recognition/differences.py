"""Where a text and what a model hears differ by whole passages: a page that is missing, or words that nobody says.

text   w w w w w w w w w w        words of the text
       │ │ │ ╲ ╲ ╲   ╱ ╱          anchors: three words in a row that occur once in both; between them the best alignment
heard  h h h h h h h h h          of characters, in which a long run without a partner is cheap
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

LEAST_WORDS = 5  # of a passage; shorter ones are errors of the model, or slips of the reader
# Scores of an equal pair of characters, of an unequal one, and of a character without a partner: below 0 for texts that
# have nothing to do with each other. Then of a run without partners, and of each character in it.
_MATCH, _OTHER, _ALONE = 50, -50, -50
_RUN, _NEXT = -500, -1
_NEVER = -(10**9)
_MOST_PAIRS = 6_000_000  # of characters between two anchors; more means that the text or the model fits badly


@dataclass(frozen=True)
class Difference:
    """A passage: words [first, end) of the text in the place of heard words [heard_first, heard_end); one is empty."""

    first: int
    end: int
    heard_first: int
    heard_end: int


def find_differences(text: Sequence[str], heard: Sequence[str]) -> list[Difference]:
    """Passages of at least five words that only the text has, or that only were heard, in order.

    Words that are misrecognised are no passage: they stand in the place of about as many others.

    Args:
        text, heard: words in the same spelling.
    """
    anchors = [(0, 0), *_anchors(text, heard), (len(text), len(heard))]
    differences: list[Difference] = []
    for (row, column), (row_end, column_end) in pairwise(anchors):
        sizes = [len("".join(words)) for words in (text[row:row_end], heard[column:column_end])]
        if abs(sizes[0] - sizes[1]) >= 2 * LEAST_WORDS:  # else about as much was heard: nothing but errors
            runs = _runs(text[row:row_end], heard[column:column_end])
            differences += (
                Difference(first + row, end + row, heard_first + column, heard_end + column)
                for first, end, heard_first, heard_end in runs
            )
    return [item for item in differences if not _is_misheard(item, text, heard, differences)]


def _anchors(text: Sequence[str], heard: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Places of equal words, in order in both sequences: of three words that occur once in each."""
    places = [dict(_unique(words)) for words in (text, heard)]
    pairs = sorted((places[0][words], places[1][words]) for words in places[0].keys() & places[1].keys())
    # the longest rising sequence of the second places: most pairs that do not cross
    tails: list[int] = []
    tail_pairs: list[int] = []
    before = [-1] * len(pairs)
    for index, (_, place) in enumerate(pairs):
        length = bisect_left(tails, place)
        before[index] = tail_pairs[length - 1] if length else -1
        tails[length:] = [place] if length == len(tails) else [place, *tails[length + 1 :]]
        tail_pairs[length : length + 1] = [index]
    chain, index = [], tail_pairs[-1] if tail_pairs else -1
    while index >= 0:
        chain.append(pairs[index])
        index = before[index]
    yield from reversed(chain)


def _unique(words: Sequence[str]) -> Iterator[tuple[tuple[str, ...], int]]:
    """Three words in a row that occur once, with their place."""
    triples = list(zip(words, words[1:], words[2:], strict=False))
    counts = Counter(triples)
    yield from ((triple, place) for place, triple in enumerate(triples) if counts[triple] == 1)


def _runs(text: Sequence[str], heard: Sequence[str]) -> list[tuple[int, int, int, int]]:
    """The runs of at least five words, [first, end) of both, without a partner in the best alignment of characters."""
    owners = [np.repeat(np.arange(len(words)), [len(word) for word in words]) for words in (text, heard)]
    runs = []
    for bounds in _character_runs("".join(text), "".join(heard)):
        (first, end), (heard_first, heard_end) = (
            _whole_words(own, *pair) for own, pair in zip(owners, (bounds[:2], bounds[2:]), strict=True)
        )
        if max(end - first, heard_end - heard_first) >= LEAST_WORDS:
            runs.append((first, end, heard_first, heard_end))
    return runs[::-1]


def _whole_words(owners: np.ndarray, first: int, end: int) -> tuple[int, int]:
    """The words of which most characters are in [first, end)."""
    num_words = int(owners[-1]) + 1 if len(owners) else 0
    sizes = np.bincount(owners, minlength=num_words)
    before = np.bincount(owners[:first], minlength=num_words)
    inside = np.bincount(owners[:end], minlength=num_words) - before
    begin = int((2 * before >= sizes).sum()) if num_words else 0
    return begin, begin + int((2 * inside > sizes).sum())


def _character_runs(text: str, heard: str) -> Iterator[tuple[int, int, int, int]]:
    """The runs without a partner in the best alignment of two texts, the last one first; none if they are too long.

    Needleman and Wunsch's alignment with a cost for each character without a partner, and a smaller one for each
    character of a long run (Gotoh 1982).
    """
    rows, columns = len(text), len(heard)
    if rows * columns > _MOST_PAIRS:
        return
    codes = [np.array(list(map(ord, characters)), dtype=int) for characters in (text, heard)]
    best = np.empty((rows + 1, columns + 1), dtype=np.int32)
    down = np.full(columns + 1, _NEVER, dtype=np.int32)  # the best score that ends in a run of the text
    moves = np.zeros((rows + 1, columns + 1), dtype=np.int8)
    steps = np.arange(columns + 1, dtype=np.int32)
    for row in range(rows + 1):
        if row == 0:
            across = np.full(columns + 1, _NEVER, dtype=np.int32)
            across[0] = 0
        else:
            down = np.maximum(down, best[row - 1] + _RUN) + _NEXT
            pair = np.full(columns + 1, _NEVER, dtype=np.int32)
            pair[1:] = best[row - 1, :-1] + np.where(codes[1] == codes[0][row - 1], _MATCH, _OTHER)
            options = np.stack([pair, best[row - 1] + _ALONE, down])
            moves[row] = options.argmax(axis=0)
            across = options.max(axis=0)
        # characters of `heard` without a partner, each alone or in a run: the running maximum over where they begin
        alone = np.maximum.accumulate(across - steps * _ALONE) + steps * _ALONE
        begin = alone - steps * _NEXT
        run = np.full(columns + 1, _NEVER, dtype=np.int32)
        run[1:] = np.maximum.accumulate(begin)[:-1] + steps[1:] * _NEXT + _RUN
        best[row] = np.maximum(alone, run)
        moves[row][alone > across] = 3
        moves[row][run > alone] = 4
    yield from _walk(best, moves)


def _walk(best: np.ndarray, moves: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
    """The runs of the best path, from the end."""
    row, column = (size - 1 for size in best.shape)
    while row or column:
        move = int(moves[row, column])
        first, heard_first = row, column
        if move == 0:
            row, column = row - 1, column - 1
            continue
        if move == 1:
            first = row - 1
        elif move == 2:
            first = _begin(best[: row + 1, column], row)
        elif move == 3:
            heard_first = column - 1
        else:
            heard_first = _begin(best[row, : column + 1], column)
        if move in (2, 4):
            yield first, row, heard_first, column
        row, column = first, heard_first


def _begin(scores: np.ndarray, end: int) -> int:
    """Where the run that ends at `end` begins: the place from which it has the score."""
    lengths = end - np.arange(end)
    return int(np.argmax(scores[:end] + _RUN + lengths * _NEXT))


def _is_misheard(
    item: Difference, text: Sequence[str], heard: Sequence[str], differences: Sequence[Difference]
) -> bool:
    """Whether about as much was heard in the place of a passage of the text, or the reverse."""
    own = len("".join([*text[item.first : item.end], *heard[item.heard_first : item.heard_end]]))
    for other in differences:
        is_beside = item.first in (other.first, other.end) or item.end == other.first
        is_heard_beside = (
            item.heard_first in (other.heard_first, other.heard_end) or item.heard_end == other.heard_first
        )
        if other is not item and is_beside and is_heard_beside:
            size = len("".join([*text[other.first : other.end], *heard[other.heard_first : other.heard_end]]))
            if own <= 2 * size:
                return True
    return False
