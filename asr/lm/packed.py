"""N-gram models in a small binary file that loads fast: a third of the arrays' size, in safetensors.

It holds the arrays of `asr.lm.tables` with each number in the fewest bytes, logarithms in half precision, numbers of
children in place of first children, and the words as bytes separated by newlines. Nothing in the file is unpickled, and
all indices that compiled code follows are checked.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from asr.ctc.ngram_tables import NgramTables
from asr.errors import DataError
from asr.files.reading import open_regular
from asr.files.writing import write_whole
from asr.lm.arpa import UNKNOWN
from asr.lm.tables import is_sound

SUFFIX: Final = ".safetensors"

_ARRAYS = ("names", "words", "log_probs", "next_states", "back_offs", "back_off_states", "num_children", "numbers")
_HALF = ("log_probs", "back_offs")


def write_packed(path: str | os.PathLike[str], words: Sequence[str], tables: NgramTables) -> None:
    """Write a model, completely or not at all; its log-probabilities are rounded to half precision."""
    arrays = {
        "names": np.frombuffer("\n".join(words).encode(), np.uint8),
        "words": _narrow(tables.words[1:]),
        "log_probs": _half(tables.log_probs),
        "next_states": _narrow(tables.next_states),
        "back_offs": _half(tables.back_offs),
        "back_off_states": _narrow(tables.back_off_states),
        "num_children": _narrow(np.diff(tables.first_children)),
        "numbers": np.array([tables.start_state, tables.end_word], np.int32),
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
    if missing := [name for name in _ARRAYS if name not in arrays]:
        raise DataError(f"not an n-gram model: it has no {missing[0]}", path=path)
    for name in _ARRAYS:
        if arrays[name].ndim != 1:
            raise DataError(f"not an n-gram model: {name} has shape {arrays[name].shape[:9]}", path=path)
        if arrays[name].dtype.kind not in ("f" if name in _HALF else "iu"):
            raise DataError(f"not an n-gram model: {name} has {arrays[name].dtype} numbers", path=path)
    try:
        words = tuple(arrays["names"].tobytes().decode().split("\n"))
    except UnicodeDecodeError:
        raise DataError("the n-gram model is damaged: its words are not UTF-8", path=path) from None
    tables = _tables(arrays, num_words=len(words))
    if tables is None or not is_vocabulary(words) or not is_sound(tables):
        raise DataError("the n-gram model is damaged: its n-grams are inconsistent", path=path)
    return words, tables


def is_vocabulary(words: Sequence[str]) -> bool:
    """Whether the words can belong to a model: <unk> first, one word each, none twice."""
    return (
        words[0] == UNKNOWN
        and len(set(words)) == len(words)
        and all(word.encode().split() == [word.encode()] for word in words)
    )


def _half(logarithms: np.ndarray) -> np.ndarray:
    """The logarithms in half precision; its least number replaces lower ones."""
    return logarithms.clip(min=np.finfo(np.float16).min).astype(np.float16)


def _narrow(numbers: np.ndarray) -> np.ndarray:
    """The numbers, 0 or above, in the smallest type that holds them."""
    return numbers.astype(np.min_scalar_type(numbers.max(initial=0)))


def _tables(arrays: Mapping[str, np.ndarray], *, num_words: int) -> NgramTables | None:
    """The tables, not yet checked; None if the lengths of the arrays do not fit."""
    num_nodes, num_contexts = len(arrays["log_probs"]), len(arrays["back_offs"])
    lengths = {
        "words": num_nodes - 1,
        "next_states": num_nodes,
        "back_off_states": num_contexts,
        "num_children": num_contexts,
        "numbers": 2,
    }
    if any(len(arrays[name]) != length for name, length in lengths.items()) or not 0 < num_contexts <= num_nodes:
        return None
    children = arrays["num_children"].astype(np.int64)
    if children.min() < 0 or children.max() > num_nodes or 1 + children.sum() != num_nodes or children[0] != num_words:
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
