"""`Punctuator`: the mark after each word and its case, by a small recurrent network in onnxruntime."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from asr.compute.onnx_session import open_graph
from asr.files.model_config import EMBEDDED, read_model_config
from asr.files.model_folder import read_weights
from asr.readable.features import KIND, ReadableConfig, encode, pause_features
from asr.readable.graph import make_graph
from asr.readable.marked_text import CAPITALISED, LOWER, PERIOD, UPPER, MarkedWord

ENGLISH = EMBEDDED / "readable-en"
_I = frozenset(("i", "i'm", "i'll", "i'd", "i've"))


class Punctuator:
    """Marks and capitals for the words of a text; create it with `load` or `english_punctuator`.

    Args:
        config: its parts.
        tensors: of its folder; see `graph.make_graph`.
    """

    def __init__(self, config: ReadableConfig, tensors: dict[str, np.ndarray]):
        self.config = config
        self._compute = open_graph(make_graph(config), tensors)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Punctuator:
        """The punctuator in a folder.

        Raises:
            DataError: the folder holds no model of this kind, or is damaged.
        """
        config = read_model_config(folder, ReadableConfig, kind=KIND)
        return cls(config, read_weights(folder, shapes=make_graph(config).shapes))

    def mark(
        self, words: Sequence[str], pauses: np.ndarray | None = None, *, context: Sequence[MarkedWord] = ()
    ) -> list[MarkedWord]:
        """The words with marks and capitals.

        Args:
            words: without marks, in any case.
            pauses: (T,) seconds after each word, NaN if unknown; None if all are.
            context: words before these, which are final. Without any, a text begins.
        """
        if not words:
            return []
        before = [word.text.lower() for word in context]
        gaps = np.full(len(words), np.nan) if pauses is None else np.asarray(pauses, dtype=np.float64)
        numbers, grams = encode([*before, *(word.lower() for word in words)], self.config)
        features = pause_features(np.concatenate([np.full(len(before), np.nan), gaps]))
        marks, cases = self.scores(numbers, grams, features)
        own_marks = marks[len(before) :].argmax(axis=1)
        last = context[-1].mark if context else PERIOD
        marks_before = np.concatenate([[last], own_marks[:-1]])
        own_cases = cases[len(before) :][np.arange(len(words)), marks_before].argmax(axis=1)
        own_cases[(marks_before == PERIOD) & (own_cases == LOWER)] = CAPITALISED
        return [
            MarkedWord(self.written(word, int(case)), int(mark))
            for word, case, mark in zip(words, own_cases, own_marks, strict=True)
        ]

    def scores(self, numbers: np.ndarray, grams: np.ndarray, pauses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores of marks (T, 5), and of cases after each mark before (T, 5, 3), from the arrays of `features`."""
        marks, cases = self._compute({"words": numbers, "grams": grams, "pauses": pauses})
        return marks, cases

    def written(self, word: str, case: int) -> str:
        """A word in a case of `CASES`; capitals inside are those of the vocabulary: McDonald."""
        plain = word.lower()
        if case == UPPER:
            return word.upper()
        if case == CAPITALISED or plain in _I:
            first = 1 + plain.startswith("'")
            return self.config.mixed.get(plain, plain[:first].upper() + plain[first:])
        return plain


@lru_cache(maxsize=1)
def english_punctuator() -> Punctuator:
    """The English punctuator of the package; it is read once."""
    return Punctuator.load(ENGLISH)
