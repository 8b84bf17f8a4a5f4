"""Words and phrases that a beam search should expect, and their places in a text of labels.

A hotword is a sequence of labels: a word, or words with a delimiter between them. It matches whole words only, the
leftmost and longest first: read from the left; at the start of each word take the longest hotword that begins there and
ends with a word; continue after it, or with the next word if there is none. So NEW YORK is not also NEW, no label
counts twice, and the matches of a text do not depend on the order of the search.

While a prefix is being spelled, its matches are not known yet. The search stores one node of a trie with it, that of
the leftmost open match, and ranks the prefix by the certain weights: of complete matches, and of complete parts of the
open one. A prefix that would be pruned becomes a guest (see `asr.ctc.beam`) if its score is high enough with a
potential:

    potential(n) = max over the hotwords h that begin with n of   weight(h) * labels of n / labels of h, or `earned`
                   or, if it is more, the weight that remains when n fails

A match fails when no hotword continues with the next label. Then the labels after its longest complete part (after its
first word, if there is no such part) have to be read again. The result depends on the node alone, so it is computed
beforehand, like the failure links of Aho and Corasick: the search never reads a label twice, and its time does not
depend on the number of hotwords.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asr.ctc.trie import TRIE_FIELDS, Trie, find_child
from asr.errors import InputError

#: the role of a label: part of a word, between two words, or a word of its own
PART, DELIMITER, STANDALONE = 0, 1, 2

HOTWORD_NODE = np.dtype(
    [*TRIE_FIELDS, ("fail", "i8"), ("next_labels", "i8")]
    + [(name, "f8") for name in ("weight", "fail_gain", "settled", "potential", "step", "fail_step")]
)


@dataclass(frozen=True, slots=True)
class HotwordMatch:
    """Hotword number `index` at the tokens [start, end)."""

    index: int
    start: int
    end: int


class Hotwords:
    """Label sequences with a weight each, for a beam search.

    Args:
        spellings: H sequences of labels without blanks; a phrase holds the delimiters between its words.
        weights: (H,) finite and > 0, in nats: added to the score of a text for each complete match.
        earned: for each hotword the value of its match after each label, up to its weight; None: it grows evenly.
    Raises:
        InputError: a spelling is empty, occurs twice or has anything but labels; or a weight is missing or not
            positive.
    """

    def __init__(
        self,
        spellings: Sequence[Sequence[int]],
        weights: Sequence[float],
        *,
        earned: Sequence[Sequence[float]] | None = None,
    ):
        self._trie = Trie(spellings, name="hotwords")
        self._spellings = [tuple(spelling) for spelling in spellings]
        self.weights = np.asarray(weights, dtype=np.float64)
        if self.weights.shape != self._trie.ends.shape:
            raise InputError(f"weights must be one for each of the {len(spellings)} hotwords; got {len(weights)}")
        if (wrong := np.flatnonzero(~(np.isfinite(self.weights) & (self.weights > 0)))).size:
            raise InputError(f"weights[{wrong[0]}] must be finite and above 0; got {self.weights[wrong[0]]}")
        if earned is None:
            evenly = [np.arange(1, len(spelling) + 1) / len(spelling) for spelling in self._spellings]
            earned = [weight * shares for weight, shares in zip(self.weights, evenly, strict=True)]
        self._earned = earned
        trie = self._trie
        edges = zip(trie.parents.tolist(), trie.labels.tolist(), strict=True)
        self._children = {edge: node for node, edge in enumerate(edges)}
        self._index = {node: index for index, node in enumerate(trie.ends.tolist())}
        self.labels = np.unique(trie.labels[1:])

    def find(self, tokens: Sequence[int], kinds: np.ndarray) -> list[HotwordMatch]:
        """The leftmost longest matches in a text, from left to right.

        Args:
            tokens: (U,) labels, blanks removed.
            kinds: (V,) PART, DELIMITER or STANDALONE for each label.
        """
        length = len(tokens)
        is_part = [kind == PART for kind in kinds[list(tokens)].tolist()]
        boundary = [i in (0, length) or not (is_part[i - 1] and is_part[i]) for i in range(length + 1)]
        matches: list[HotwordMatch] = []
        start = 0
        while start < length:
            node, end = 0, start
            for i in range(start, length if boundary[start] else start):
                node = self._children.get((node, tokens[i]), -1)
                if node < 0:
                    break
                if boundary[i + 1] and node in self._index:
                    index, end = self._index[node], i + 1
            if end > start:
                matches.append(HotwordMatch(index, start, end))
            start = max(end, start + 1)
        return matches

    def records(self, kinds: np.ndarray) -> np.ndarray:
        """(N + 1,) trie records for `spot` and `spot_end`: weight, potential and failure link of each node.

        `settled` is the part of the potential that no later label can take away, except by a longer hotword. One more
        label raises the potential by at most `step` if its bit is set in `next_labels` (bit `label & 63`, for each
        label that continues a hotword), otherwise by at most `fail_step`; of node 0 only `step` counts.

        Args:
            kinds: (V,) PART, DELIMITER or STANDALONE for each label.
        Raises:
            InputError: a hotword begins or ends with a delimiter.
        """
        for index, spelling in enumerate(self._spellings):
            if DELIMITER in (kinds[spelling[0]], kinds[spelling[-1]]):
                raise InputError(f"hotwords[{index}] must begin and end with a word; got a delimiter in {spelling}")
        trie = self._trie
        records = trie.records(HOTWORD_NODE)
        records["weight"][trie.ends] = self.weights
        potentials = np.zeros(len(trie.labels))
        for worth, end in zip(self._earned, trie.ends, strict=True):
            node = int(end)
            for earned in reversed(worth):
                potentials[node] = max(potentials[node], earned)
                node = int(trie.parents[node])
        readable = records.view(np.recarray)
        for node in range(1, len(trie.labels)):  # by length: a failure leads to a shorter node
            parent, label = int(trie.parents[node]), int(trie.labels[node])
            if parent:
                boundary = bool(kinds[label] != PART or kinds[trie.labels[parent]] != PART)
                if boundary and records["weight"][parent] > 0:
                    state, gain = 0, records["weight"][parent]
                else:
                    state, gain = int(records["fail"][parent]), records["fail_gain"][parent]
                state, more = spot(readable, state, boundary, label)
                records["fail"][node], records["fail_gain"][node] = state, gain + more
                records["settled"][node] = gain + more + records["settled"][state]
                potentials[node] = max(potentials[node], gain + more + potentials[state])
            if kinds[label] != PART and records["weight"][node] > 0:  # the word has ended already
                records["settled"][node] = records["weight"][node]
        steps, fail_steps = np.zeros(len(trie.labels)), np.zeros(len(trie.labels))
        np.maximum.at(steps, trie.parents[1:], potentials[1:] - potentials[trie.parents[1:]])
        has_standalone = bool((kinds == STANDALONE).any())
        for node in range(1, len(trie.labels)):
            # A hotword can begin with the next label where a word can: not between two labels that are parts of one.
            start = steps[0] if has_standalone or kinds[trie.labels[node]] != PART else 0.0
            fail, weight = records["fail"][node], records["weight"][node]
            further = max(steps[fail], fail_steps[fail]) if fail else start
            after = max(records["fail_gain"][node] + potentials[fail] + further, weight + start if weight else 0.0)
            fail_steps[node] = after - potentials[node]
        records["potential"][:-1], records["step"][:-1], records["fail_step"][:-1] = potentials, steps, fail_steps
        np.bitwise_or.at(records["next_labels"], trie.parents[1:], np.int64(1) << (trie.labels[1:] & 63))
        return records


def spot(records, state, boundary, label):
    """The node after one more label, and the weight of the matches that it ends.

    Plain Python that numba can compile.

    Args:
        records: `Hotwords.records`.
        state: node of the open match; 0 if there is none.
        boundary: whether the label starts a word, or is no part of a word.
        label: the next one of the text.
    """
    gain = 0.0
    while state != 0 or boundary:
        child = find_child(records, state, label)
        if child >= 0:
            return child, gain
        if state == 0:
            break
        if boundary and records[state].weight > 0.0:
            gain += records[state].weight
            state = 0
        else:
            gain += records[state].fail_gain
            state = records[state].fail
    return 0, gain


def spot_end(records, state):
    """The weight of the matches that the end of the text completes."""
    gain = 0.0
    while state != 0:
        if records[state].weight > 0.0:
            return gain + records[state].weight
        gain += records[state].fail_gain
        state = records[state].fail
    return gain
