"""Sequences of labels as a trie in flat arrays, and the lexicon of a beam search."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np

from asr.errors import InputError

TRIE_FIELDS = [("first_child", "i8"), ("label", "i8")]
LEXICON_NODE = np.dtype([*TRIE_FIELDS, ("word", "i8"), ("depth", "i8"), ("ahead", "f8")])


class Trie:
    """The prefixes of S label sequences, as N nodes; node 0 is the empty prefix.

    Nodes are numbered by length, then by parent, then by label, so that the children of a node are consecutive and
    sorted by label, for `find_child`.

    Args:
        sequences: one label or more each, no two equal; S may be 0.
        name: their name in messages.
    Attributes:
        ends: (S,) int64, the node where each sequence ends.
        parents: (N,) int64, -1 for node 0.
        labels: (N,) int64, the last label of each node, -1 for node 0.
        depths: (N,) int64, the length of each prefix.
    Raises:
        InputError: a sequence is empty, holds anything but labels 0 or above, or occurs twice.
    """

    def __init__(self, sequences: Sequence[Sequence[int]], *, name: str):
        lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
        if (empty := np.flatnonzero(lengths == 0)).size:
            raise InputError(f"{name}[{empty[0]}] must have at least one label; it is empty")
        flat = np.asarray(list(chain.from_iterable(sequences)))
        if flat.size and (flat.ndim != 1 or flat.dtype.kind not in "iu" or flat.min() < 0):
            raise InputError(f"{name} must hold sequences of labels, integers 0 or above; got {list(sequences)!r:.80}")
        starts = np.cumsum(lengths) - lengths
        self.ends = np.zeros(len(lengths), dtype=np.int64)  # the node of each sequence so far
        parents, labels = [np.array([-1])], [np.array([-1])]
        num_nodes, num_labels = 1, flat.max(initial=0) + 1
        longer = np.arange(len(lengths))  # sequences with more labels
        for depth in range(lengths.max(initial=0)):
            longer = longer[lengths[longer] > depth]
            edges, which = np.unique(self.ends[longer] * num_labels + flat[starts[longer] + depth], return_inverse=True)
            self.ends[longer] = num_nodes + which
            parents.append(edges // num_labels)
            labels.append(edges % num_labels)
            num_nodes += len(edges)
        self.parents, self.labels = np.concatenate(parents), np.concatenate(labels)
        self.depths = np.repeat(np.arange(len(labels)), [len(level) for level in labels])

        first = np.full(num_nodes, -1)
        first[self.ends[::-1]] = np.arange(len(lengths))[::-1]
        if (again := np.flatnonzero(first[self.ends] != np.arange(len(lengths)))).size:
            raise InputError(f"{name}[{again[0]}] must occur once; it equals {name}[{first[self.ends[again[0]]]}]")

    def records(self, dtype: np.dtype) -> np.ndarray:
        """(N + 1,) records that begin with TRIE_FIELDS, other fields zero; the last one ends the last children."""
        num_nodes = len(self.parents)
        records = np.zeros(num_nodes + 1, dtype=dtype)
        records["first_child"] = np.searchsorted(self.parents[1:], np.arange(num_nodes + 1)) + 1
        records["label"][:-1] = self.labels
        return records


def find_child(records, node, label):
    """The child of `node` by `label` in `Trie.records`, or -1. Plain Python that numba can compile."""
    low = records[node].first_child
    # Labels are sorted and different, so the child is at most this far up; it is there if no label is missing.
    high = min(records[node + 1].first_child - 1, low + label - records[low].label)
    if low > high:
        return -1
    if records[high].label == label:
        return high
    while low < high:
        middle = (low + high) >> 1
        if records[middle].label < label:
            low = middle + 1
        else:
            high = middle
    return low if records[low].label == label else -1


class WordTrie:
    """Words spelled in labels; a beam search identifies them by their numbers.

    Args:
        spellings: one sequence of labels for each word, without delimiters; no two equal.
        words: the number of each word in the language model; None numbers them 0, 1, ... in order.
    Raises:
        InputError: a spelling is empty, occurs twice or has anything but labels; or words has another length.
    """

    def __init__(self, spellings: Sequence[Sequence[int]], words: Sequence[int] | None = None):
        trie = Trie(spellings, name="spellings")
        numbers = np.arange(len(spellings)) if words is None else np.asarray(words)
        if numbers.shape != trie.ends.shape or (numbers.size and (numbers.dtype.kind not in "iu" or numbers.min() < 0)):
            raise InputError(
                f"words must be one integer, 0 or above, for each of the {len(spellings)} spellings; "
                f"got shape {numbers.shape} in {numbers.dtype}"
            )
        self.labels = np.unique(trie.labels[1:])
        self.words = numbers
        self.records = trie.records(LEXICON_NODE)  # word: the number of the word that ends there, or -1
        self.records["word"] = -1
        self.records["word"][trie.ends] = numbers
        self.records["depth"][:-1] = trie.depths
        self._trie = trie

    def best_ahead(self, scores: np.ndarray) -> np.ndarray:
        """(N + 1,) for each record the largest score of the words with its prefix, given the scores of all words."""
        best = np.full(len(self.records), -np.inf)
        nodes, scores = self._trie.ends, np.asarray(scores, dtype=np.float64)
        while nodes.size:
            np.maximum.at(best, nodes, scores)
            inner = nodes > 0
            nodes, scores = self._trie.parents[nodes[inner]], scores[inner]
        return best
