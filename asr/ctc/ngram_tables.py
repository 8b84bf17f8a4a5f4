"""An n-gram model in flat arrays, and the query that Python and compiled code share."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

ARRAY_TYPES: Final = {
    "words": np.int32,
    "log_probs": np.float32,
    "next_states": np.int32,
    "back_offs": np.float32,
    "back_off_states": np.int32,
    "first_children": np.int32,
}
"""The arrays of `NgramTables`, in their order, and the type of each."""


class NgramTables(NamedTuple):
    """An n-gram model of N nodes, the first C of them contexts (all but the longest n-grams).

    words:           (N,) int32, the last word of the n-gram; words[0] is -1
    log_probs:       (N,) float32, natural logarithm of its probability after its context
    next_states:     (N,) int32, the state after it: a node below C
    back_offs:       (C,) float32, natural logarithm of the weight of a word that does not continue the context
    back_off_states: (C,) int32, the state to look in next: the longest shorter context
    first_children:  (C + 1,) int32
    num_words:       words are 0 .. num_words - 1; 0 is <unk>
    start_state:     the state after <s>, where a sentence begins
    empty_state:     the state of the empty context: 0
    end_word:        </s>, or 0 where the model has none
    """

    words: np.ndarray
    log_probs: np.ndarray
    next_states: np.ndarray
    back_offs: np.ndarray
    back_off_states: np.ndarray
    first_children: np.ndarray
    num_words: int
    start_state: int
    empty_state: int
    end_word: int


def contiguous(tables: NgramTables) -> NgramTables:
    """The tables with arrays as compiled code reads them: contiguous, of `ARRAY_TYPES`; copied only if necessary."""
    arrays: list[Any] = [np.ascontiguousarray(getattr(tables, name), dtype) for name, dtype in ARRAY_TYPES.items()]
    return NgramTables(*arrays, *tables[len(ARRAY_TYPES) :])


def field_values(tables: NgramTables) -> np.ndarray:
    """(10,) int64 for `asr.ctc.ngram_kernel.tables_at`: the addresses of `contiguous` arrays, then the numbers.

    Keep the arrays as long as the addresses are used.
    """
    return np.array([field.ctypes.data if isinstance(field, np.ndarray) else field for field in tables], np.int64)


def query(tables, state, word):
    """log p(word | state), and the state after the word. Plain Python that numba can compile.

    p(w | h) is listed, or p(w | h) = back_off(h) p(w | h without its first word).

    Args:
        tables: an `NgramTables`.
        state: tables.start_state, tables.empty_state, or the state from an earlier call.
        word: its number; anything outside 0 .. num_words - 1 counts as 0, <unk>.
    Returns:
        (natural logarithm, float64; state, int64 that fits in int32).
    Source: Katz 1987, in the form of ARPA files.
    """
    state = np.int64(state)
    word = np.int64(word)
    if word < 0 or word >= tables.num_words:
        word = np.int64(0)
    log_prob = 0.0
    while state != 0:
        low = np.int64(tables.first_children[state])
        end = high = np.int64(tables.first_children[state + 1])
        while low < high:
            middle = (low + high) >> 1
            if tables.words[middle] < word:
                low = middle + 1
            else:
                high = middle
        if low < end and tables.words[low] == word:
            return log_prob + tables.log_probs[low], np.int64(tables.next_states[low])
        log_prob += tables.back_offs[state]
        state = np.int64(tables.back_off_states[state])
    return log_prob + tables.log_probs[1 + word], np.int64(tables.next_states[1 + word])
