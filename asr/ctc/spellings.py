"""The characters that each label spells, for models whose labels are pieces of words.

A text of characters may have many segmentations into labels: THE is THE, T HE, TH E or T H E. Search and alignment ask
which labels end at a place of a text. A trie of the spellings, read backwards, answers this in one walk.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from asr.ctc.trie import TRIE_FIELDS, Trie
from asr.errors import InputError

SUFFIX_NODE = np.dtype([*TRIE_FIELDS, ("ending", "i8")])  # ending: the first label with this spelling, or -1


class Spellings:
    """V spellings, one for each label, in characters: integers 0 or above.

    Args:
        spellings: at least one character for each label but the blank. Labels may share a spelling.
        blank: index of the blank label, whose spelling is empty.
    Attributes:
        lengths: (V,) int64, the number of characters of each label; 0 for the blank.
        starts: (V,) int64, where each spelling begins in `characters`.
        characters: (N,) int64, all spellings, one after another.
        suffixes: records of a trie of the reversed spellings.
        next_same: (V,) int64, the next label with the same spelling, or -1.
        most_endings: the most labels that can end at one place of a text.
    Raises:
        InputError: the blank is not one of the labels or has a spelling, another label has none, or a spelling has
            anything but integers 0 or above.
    """

    def __init__(self, spellings: Sequence[Sequence[int]], *, blank: int):
        if not 0 <= blank < len(spellings):
            raise InputError(f"blank must be one of the {len(spellings)} labels; got {blank}")
        self.num_labels, self.blank = len(spellings), blank
        self.lengths = np.array([len(spelling) for spelling in spellings], dtype=np.int64)
        if self.lengths[blank]:
            raise InputError(f"the blank, label {blank}, must have no spelling; got {list(spellings[blank])}")
        if (empty := np.flatnonzero((self.lengths == 0) & (np.arange(len(spellings)) != blank))).size:
            raise InputError(f"each label but the blank must spell a character; label {empty[0]} spells none")
        labels: dict[tuple[int, ...], list[int]] = {}
        for label, spelling in enumerate(spellings):
            if label != blank:
                labels.setdefault(tuple(spelling), []).append(label)
        trie = Trie([spelling[::-1] for spelling in labels], name="spellings")
        self.suffixes = trie.records(SUFFIX_NODE)
        self.suffixes["ending"] = -1
        self.suffixes["ending"][trie.ends] = [same[0] for same in labels.values()]
        self.next_same = np.full(len(spellings), -1, dtype=np.int64)
        num_endings = np.zeros(len(trie.labels), dtype=np.int64)
        for node, same in zip(trie.ends.tolist(), labels.values(), strict=True):
            self.next_same[same[:-1]] = same[1:]
            num_endings[node] = len(same)
        for node, parent in enumerate(trie.parents[1:].tolist(), start=1):  # parents come first
            num_endings[node] += num_endings[parent]
        self.most_endings = max(int(num_endings.max()), 1)
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.characters = np.array([part for spelling in spellings for part in spelling], dtype=np.int64)
        edges = zip(trie.parents.tolist(), trie.labels.tolist(), strict=True)
        self._children = {edge: node for node, edge in enumerate(edges)}

    @property
    def num_characters(self) -> int:
        """One more than the largest character."""
        return int(self.characters.max(initial=-1)) + 1

    def endings(self, text: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The labels that lie in a text of U characters.

        Returns:
            (U + 2,) int64, the first ending of each place: those at place u, after u characters, are the entries
            [first[u], first[u + 1]) of the other two; (E,) the places where these labels begin; (E,) the labels.
        """
        first, begins, labels = [0, 0], [], []
        ending = self.suffixes["ending"].tolist()
        for place in range(1, len(text) + 1):
            node, begin = 0, place
            while begin > 0 and (node := self._children.get((node, text[begin - 1]), -1)) >= 0:
                begin -= 1
                label = ending[node]
                while label >= 0:
                    begins.append(begin)
                    labels.append(label)
                    label = int(self.next_same[label])
            first.append(len(labels))
        return np.array(first), np.array(begins, dtype=np.int64), np.array(labels, dtype=np.int64)
