"""Questions to an n-gram language model, as compiled code asks them: arrays and integers, no files and no text."""

from __future__ import annotations

import numpy as np

from asr.lm.tables import NgramTables as NgramTables


def query(tables, state, word):
    """log p(word | state), and the state after the word.

    p(w | h) is listed, or p(w | h) = back_off(h) p(w | h without its first word).

    Args:
        tables: an `NgramTables`.
        state: tables.start_state, tables.empty_state, or what an earlier call gave.
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
