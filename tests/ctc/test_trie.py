from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.ctc.trie import LEXICON_NODE, Trie, WordTrie, find_child
from asr.errors import InputError

sequences = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=5).map(tuple), max_size=12, unique=True)


@given(sequences=sequences)
def test_the_nodes_are_the_prefixes(sequences):
    trie = Trie(sequences, name="words")
    records = trie.records(LEXICON_NODE).view(np.recarray)
    prefixes = {(): 0}
    for sequence in sequences:
        for length in range(1, len(sequence) + 1):
            node = find_child(records, prefixes[sequence[: length - 1]], sequence[length - 1])
            assert prefixes.setdefault(sequence[:length], node) == node
            assert (trie.labels[node], trie.parents[node]) == (sequence[length - 1], prefixes[sequence[: length - 1]])
    assert sorted(prefixes.values()) == list(range(len(trie.labels)))
    assert [trie.depths[node] for node in prefixes.values()] == [len(prefix) for prefix in prefixes]
    assert trie.ends.tolist() == [prefixes[sequence] for sequence in sequences]
    for prefix, node in prefixes.items():
        for label in range(-1, 7):
            assert find_child(records, node, label) == prefixes.get((*prefix, label), -1)


def test_one_long_word_takes_no_more_memory_than_its_letters():
    words = [[1 + number // 64, number % 64] for number in range(4000)]
    tracemalloc.start()
    try:
        WordTrie([*words, [1] * 4000])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1000 * (2 * len(words) + 4000)  # a table of words by letters would be 128 MB


def test_a_lexicon_knows_its_words_by_number():
    lexicon = WordTrie([[2, 1], [2], [3, 3]], [7, 5, 9])
    assert lexicon.labels.tolist() == [1, 2, 3]
    records = lexicon.records.view(np.recarray)
    two = find_child(records, 0, 2)
    assert records[two].word == 5
    assert records[find_child(records, two, 1)].word == 7
    assert records[find_child(records, 0, 3)].word == -1
    assert WordTrie([[1], [2]]).records["word"].tolist()[1:3] == [0, 1]
    assert WordTrie([]).labels.size == 0


@pytest.mark.parametrize(
    ("spellings", "words", "message"),
    [
        ([[1], []], None, r"spellings\[1\] must have at least one label; it is empty"),
        ([[1], [2], [1]], None, r"spellings\[2\] must occur once; it equals spellings\[0\]"),
        ([[1, -1]], None, "spellings must hold sequences of labels, integers 0 or above; got"),
        ([[0.5]], None, "spellings must hold sequences of labels, integers 0 or above; got"),
        (
            [[1]],
            [1, 2],
            r"words must be one integer, 0 or above, for each of the 1 spellings; got shape \(2,\) in int64",
        ),
        ([[1]], [0.5], r"words must be one integer, 0 or above, .* in float64"),
        ([[1]], [-1], "words must be one integer, 0 or above"),
    ],
)
def test_what_is_not_a_lexicon_is_refused(spellings, words, message):
    with pytest.raises(InputError, match=message):
        WordTrie(spellings, words)


def test_the_best_word_ahead_of_each_node():
    lexicon = WordTrie([[2, 1], [2], [3, 3], [2, 1, 4]])
    found = lexicon.best_ahead(np.array([-3.0, -5.0, -1.0, -2.0]))
    words = {0: -1.0, 1: -2.0, 2: -1.0, 3: -2.0, 4: -1.0, 5: -2.0}  # ∅, 2, 3, 2 1, 3 3, 2 1 4
    assert dict(enumerate(found[:-1].tolist())) == words
    assert WordTrie([]).best_ahead(np.zeros(0))[0] == -np.inf
