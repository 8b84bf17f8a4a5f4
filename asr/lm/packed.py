"""N-gram models in a small binary file that loads fast: a sixth of the arrays' size, in safetensors.

It holds the trie of `asr.lm.tables` with each number in the fewest bytes, logarithms in half precision, numbers of
children in place of first children, and the words as bytes separated by newlines. The last word of an n-gram and all
states follow from one number, its rank: the place of its suffix (the n-gram without its first word) among the children
of that suffix's context.

    children of (OF THE): CASE CITY DAY        rank of THE CITY among the children of (THE): 2
    children of (THE):    BOY CASE CITY DAY    so the last word of OF THE CITY is child 2 of (THE), CITY

A model that lacks the suffix of an n-gram, as some ARPA files do, has words and states in place of ranks, as in all
files of before. Nothing in the file is unpickled, and all indices that compiled code follows are checked.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from asr.ctc.ngram_tables import NgramTables
from asr.errors import DataError
from asr.files.reading import open_regular
from asr.files.writing import write_whole
from asr.lm.arpa import UNKNOWN
from asr.lm.tables import Level, assemble, child_keys, is_sound, level_bounds

SUFFIX: Final = ".safetensors"

_COMMON = ("names", "log_probs", "back_offs", "num_children", "numbers")
_WITH_STATES = (*_COMMON, "words", "next_states", "back_off_states")
_HALF = ("log_probs", "back_offs")


def write_packed(path: str | os.PathLike[str], words: Sequence[str], tables: NgramTables) -> None:
    """Write a model, completely or not at all; its log-probabilities are rounded to half precision."""
    arrays = {
        "names": np.frombuffer("\n".join(words).encode(), np.uint8),
        "log_probs": _half(tables.log_probs),
        "back_offs": _half(tables.back_offs),
        "num_children": _narrow(np.diff(tables.first_children)),
        "numbers": np.array([tables.start_state, tables.end_word], np.int32),
    }
    ranks = _ranks(tables)
    if ranks is not None:
        arrays |= {"ranks": _narrow(ranks)}
    else:
        arrays |= {
            "words": _narrow(tables.words[1:]),
            "next_states": _narrow(tables.next_states),
            "back_off_states": _narrow(tables.back_off_states),
        }
    write_whole(path, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def read_packed(path: str | os.PathLike[str]) -> tuple[tuple[str, ...], NgramTables]:
    """The words and tables of a file from `write_packed`.

    Raises:
        DataError: the file cannot be read, is damaged, or is no n-gram model.
    """
    try:
        open_regular(path).close()
        arrays = load_file(path)
    except MemoryError:
        raise DataError("the n-gram model cannot be read: it does not fit into memory", path=path) from None
    except (SafetensorError, OSError, TypeError, AttributeError, KeyError) as error:  # a number type that NumPy lacks
        reason = error.strerror or error if isinstance(error, OSError) else error
        raise DataError(f"the n-gram model cannot be read: {reason}", path=path) from None
    names = (*_COMMON, "ranks") if "ranks" in arrays else _WITH_STATES
    if missing := [name for name in names if name not in arrays]:
        raise DataError(f"not an n-gram model: it has no {missing[0]}", path=path)
    for name in names:
        if arrays[name].ndim != 1:
            raise DataError(f"not an n-gram model: {name} has shape {arrays[name].shape[:9]}", path=path)
        if arrays[name].dtype.kind not in ("f" if name in _HALF else "iu"):
            raise DataError(f"not an n-gram model: {name} has {arrays[name].dtype} numbers", path=path)
    try:
        words = tuple(arrays["names"].tobytes().decode().split("\n"))
    except UnicodeDecodeError:
        raise DataError("the n-gram model is damaged: its words are not UTF-8", path=path) from None
    tables = (_of_ranks if "ranks" in arrays else _of_states)(arrays, num_words=len(words))
    if tables is None or not is_vocabulary(words) or not is_sound(tables):
        raise DataError("the n-gram model is damaged: its n-grams are inconsistent", path=path)
    return words, tables


def is_vocabulary(words: Sequence[str]) -> bool:
    """Whether the words can belong to a model: <unk> first, one word each, none twice."""
    encoded = "\n".join(words).encode()
    tokens = encoded.split()
    return words[0] == UNKNOWN and len(set(words)) == len(words) == len(tokens) and tokens == encoded.split(b"\n")


def _half(logarithms: np.ndarray) -> np.ndarray:
    """The logarithms in half precision; its least number replaces lower ones."""
    return logarithms.clip(min=np.finfo(np.float16).min).astype(np.float16)


def _narrow(numbers: np.ndarray) -> np.ndarray:
    """The numbers, 0 or above, in the smallest type that holds them."""
    return numbers.astype(np.min_scalar_type(numbers.max(initial=0)))


def _ranks(tables: NgramTables) -> np.ndarray | None:
    """The rank of each node but the first; None if the model lacks a suffix."""
    first, keys = tables.first_children.astype(np.int64), child_keys(tables)
    contexts = np.repeat(np.arange(len(tables.back_offs)), np.diff(first))
    ranks = tables.words[1:].astype(np.int64)
    suffixes = np.zeros(len(tables.words), np.int64)
    for start, stop in pairwise(level_bounds(tables)[1:]):
        above = suffixes[
            contexts[start - 1 : stop - 1]
        ]  # the suffixes of the contexts are the contexts of the suffixes
        wanted = above * tables.num_words + tables.words[start:stop]
        indices = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        if (keys[indices] != wanted).any():
            return None
        suffixes[start:stop] = 1 + indices
        ranks[start - 1 : stop - 1] = 1 + indices - first[above]
    return ranks


def _of_ranks(arrays: Mapping[str, np.ndarray], *, num_words: int) -> NgramTables | None:
    """The tables of a file with ranks, not yet checked; None if the arrays contradict each other."""
    num_nodes, num_contexts = len(arrays["log_probs"]), len(arrays["back_offs"])
    children = _children(arrays, num_words=num_words)
    if children is None or len(arrays["ranks"]) != num_nodes - 1:
        return None
    first = np.concatenate([[1], 1 + np.cumsum(children)])
    contexts = np.repeat(np.arange(num_contexts), children)  # of node 1, 2, ...
    ranks = arrays["ranks"].astype(np.int64)
    words, suffixes = np.arange(-1, num_nodes - 1), np.zeros(num_nodes, np.int64)
    levels: list[Level] = []
    for start, stop in pairwise(_level_bounds(first, num_nodes)):
        nodes, above = slice(start, stop), contexts[start - 1 : stop - 1]
        if levels:
            above = suffixes[above]
            if (ranks[start - 1 : stop - 1] < 0).any() or (ranks[start - 1 : stop - 1] >= children[above]).any():
                return None
            suffixes[nodes] = first[above] + ranks[start - 1 : stop - 1]
            words[nodes] = words[suffixes[nodes]]
        logarithms = (arrays[name][nodes] for name in _HALF)  # there are no back-offs of the longest n-grams
        levels.append(Level(contexts[start - 1 : stop - 1], words[nodes], suffixes[nodes], *logarithms))
    start_state, end_word = arrays["numbers"].tolist()
    if not levels or not 0 <= start_state <= num_words:
        return None
    return assemble(levels, start_word=start_state - 1, end_word=end_word)


def _level_bounds(first_children: np.ndarray, num_nodes: int) -> list[int]:
    """As `level_bounds`, but of arrays from a file: empty if n-grams are not ordered by length."""
    num_contexts = len(first_children) - 1
    bounds = [1, int(first_children[1])]
    while bounds[-2] < num_contexts:
        if bounds[-1] > num_contexts or (bounds[-1] < num_contexts and first_children[bounds[-1]] <= bounds[-1]):
            return []
        bounds.append(int(first_children[bounds[-1]]))
    return bounds if bounds[-1] == num_nodes else []


def _of_states(arrays: Mapping[str, np.ndarray], *, num_words: int) -> NgramTables | None:
    """The tables of a file with words and states, not yet checked; None if the lengths of the arrays do not fit."""
    num_nodes, num_contexts = len(arrays["log_probs"]), len(arrays["back_offs"])
    lengths = {"words": num_nodes - 1, "next_states": num_nodes, "back_off_states": num_contexts}
    children = _children(arrays, num_words=num_words)
    if children is None or any(len(arrays[name]) != length for name, length in lengths.items()):
        return None
    start_state, end_word = arrays["numbers"].tolist()
    return NgramTables(
        words=np.concatenate([[-1], arrays["words"]]).astype(np.int32),
        log_probs=arrays["log_probs"].astype(np.float32),
        next_states=arrays["next_states"].astype(np.int32),
        back_offs=arrays["back_offs"].astype(np.float32),
        back_off_states=arrays["back_off_states"].astype(np.int32),
        first_children=np.concatenate([[1], 1 + np.cumsum(children)]).astype(np.int32),
        num_words=num_words,
        start_state=start_state,
        empty_state=0,
        end_word=end_word,
    )


def _children(arrays: Mapping[str, np.ndarray], *, num_words: int) -> np.ndarray | None:
    """(C,) int64, the number of children of each context; None if it does not fit the other arrays."""
    num_nodes, num_contexts = len(arrays["log_probs"]), len(arrays["back_offs"])
    if not 0 < num_contexts <= num_nodes or len(arrays["num_children"]) != num_contexts or len(arrays["numbers"]) != 2:
        return None
    children: np.ndarray = arrays["num_children"].astype(np.int64)
    if children.min() < 0 or children.max() > num_nodes or 1 + children.sum() != num_nodes or children[0] != num_words:
        return None
    return children
