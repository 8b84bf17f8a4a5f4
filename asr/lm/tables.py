"""The arrays of an n-gram model: a trie of its n-grams, without files, text or compiled code.

Nodes are numbered by length, then by context, then by last word, so that the continuations of a context are consecutive
and sorted:

    node 0             the empty context
    node 1 + w         the word w alone
    longer ones        children of node c are first_children[c] .. first_children[c + 1] - 1, by ascending word

A state is the node of the longest context that the model distinguishes from shorter ones. Two texts with the same state
have the same probabilities from there on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from asr.ctc.ngram_tables import ARRAY_TYPES, NgramTables


class Level(NamedTuple):
    """The n-grams of one length, sorted by context and word, as they enter `assemble`: arrays (n,).

    contexts, suffixes: int, nodes of the n-gram without its last word, and of its longest suffix in the model (0 for
    single words); words: int; log_probs, back_offs: float, natural logarithms.
    """

    contexts: np.ndarray
    words: np.ndarray
    suffixes: np.ndarray
    log_probs: np.ndarray
    back_offs: np.ndarray


def assemble(levels: Sequence[Level], *, start_word: int, end_word: int) -> NgramTables:
    """The tables of a model, from its n-grams of each length, single words first.

    Only the last lengths may have no n-grams; they are left out, unless the back-offs before them are not 0. A context
    without continuations and with a back-off of 0 is equivalent to its suffix, and is no state.
    """
    levels = list(levels)
    while not len(levels[-1].words) and not levels[-2].back_offs.any():
        levels.pop()
    num_nodes = 1 + np.cumsum([0, *(len(level.words) for level in levels)])
    num_contexts = int(num_nodes[-2])
    next_states = np.zeros(num_nodes[-1], np.int32)
    back_off_states = np.zeros(num_contexts, np.int32)
    back_offs = np.concatenate([[0], *(level.back_offs for level in levels[:-1])]).astype(np.float32)
    num_children = np.bincount(np.concatenate([level.contexts for level in levels]), minlength=num_contexts)
    matters = (num_children > 0) | (back_offs != 0)
    for level, start, stop in zip(levels, num_nodes[:-1], num_nodes[1:], strict=True):
        shorter = next_states[level.suffixes]
        next_states[start:stop] = shorter
        if stop <= num_contexts:
            back_off_states[start:stop] = shorter
            next_states[start:stop][matters[start:stop]] = np.flatnonzero(matters[start:stop]) + start
    return NgramTables(
        words=np.concatenate([[-1], *(level.words for level in levels)]).astype(np.int32),
        log_probs=np.concatenate([[0], *(level.log_probs for level in levels)]).astype(np.float32),
        next_states=next_states,
        back_offs=back_offs,
        back_off_states=back_off_states,
        first_children=np.concatenate([[1], 1 + np.cumsum(num_children)]).astype(np.int32),
        num_words=len(levels[0].words),
        start_state=int(next_states[1 + start_word]) if start_word >= 0 else 0,
        empty_state=0,
        end_word=end_word,
    )


def child_keys(tables: NgramTables) -> np.ndarray:
    """(N - 1,) int64, ascending: context · num_words + word of each node but the first, for `query_together`."""
    contexts = np.repeat(np.arange(len(tables.back_offs)), np.diff(tables.first_children))
    return contexts * np.int64(tables.num_words) + tables.words[1:]


def query_together(
    tables: NgramTables, keys: np.ndarray, states: np.ndarray, words: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`asr.ctc.ngram_tables.query` for many states and words at once, without compiled code.

    Args:
        keys: from `child_keys`.
    Returns:
        (n,) float64 log p(word | state), and (n,) int64 the states after.
    """
    states, log_probs = states.copy(), np.zeros(len(states))
    nodes = np.empty(len(states), np.int64)
    waiting = np.arange(len(states))
    while len(waiting):
        pair_keys = states[waiting] * tables.num_words + words[waiting]
        indices = np.minimum(np.searchsorted(keys, pair_keys), len(keys) - 1)
        listed = keys[indices] == pair_keys
        nodes[waiting[listed]] = 1 + indices[listed]
        waiting = waiting[~listed]
        log_probs[waiting] += tables.back_offs[states[waiting]]
        states[waiting] = tables.back_off_states[states[waiting]]
    return log_probs + tables.log_probs[nodes], tables.next_states[nodes].astype(np.int64)


def level_bounds(tables: NgramTables) -> list[int]:
    """The first node of each length, single words first; then N."""
    bounds = [1, 1 + tables.num_words]
    while bounds[-2] < len(tables.back_offs):  # the longest n-grams are no contexts
        bounds.append(int(tables.first_children[bounds[-1]]))
    return bounds


def is_sound(tables: NgramTables) -> bool:
    """Whether all indices that a query follows are within the arrays, and back-offs lead to shorter contexts.

    Compiled code checks nothing: check tables from a file before the first query.
    """
    arrays = [getattr(tables, name) for name in ARRAY_TYPES]
    num_nodes, num_contexts, num_words = len(tables.words), len(tables.back_offs), tables.num_words
    lengths = [num_nodes, num_nodes, num_nodes, num_contexts, num_contexts, num_contexts + 1]
    if (
        any(array.dtype != kind or array.ndim != 1 for array, kind in zip(arrays, ARRAY_TYPES.values(), strict=True))
        or [len(array) for array in arrays] != lengths
        or not 0 < num_contexts <= num_nodes
        or not 0 < num_words < num_nodes
        or tables.first_children[0] != 1
        or tables.first_children[1] != 1 + num_words
        or tables.first_children[-1] != num_nodes
        or (tables.first_children[1:] < tables.first_children[:-1]).any()
    ):
        return False
    ascending = tables.words[1:-1] < tables.words[2:]
    begins = tables.first_children[1:-1]
    ascending[begins[begins < num_nodes] - 2] = True  # from one context's children to the next one's
    return bool(
        np.array_equal(tables.words[1 : 1 + num_words], np.arange(num_words))
        and _has_levels(tables)
        and _within(tables.words[1:], num_words)
        and ascending.all()
        and _within(tables.next_states, num_contexts)
        and _within(tables.back_off_states, num_contexts)
        and (tables.back_off_states[1:] < np.arange(1, num_contexts)).all()
        and (tables.log_probs <= 0).all()
        and np.isfinite(tables.log_probs).all()
        and np.isfinite(tables.back_offs).all()
        and 0 <= tables.start_state < num_contexts
        and tables.empty_state == 0
        and 0 <= tables.end_word < num_words
    )


def _has_levels(tables: NgramTables) -> bool:
    """Whether n-grams are ordered by length, and the contexts are all n-grams up to some length."""
    end, num_contexts = 1, len(tables.back_offs)
    while end < num_contexts:
        start, end = end, int(tables.first_children[end])
        if end <= start:
            return False
    return end == num_contexts


def _within(numbers: np.ndarray, end: int) -> bool:
    return bool(numbers.min(initial=0) >= 0 and numbers.max(initial=0) < end)
