"""`Labels`: the columns of anybody's CTC model, and the alphabet or the subwords that they stand for."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias
from unicodedata import normalize

import numpy as np

from asr.errors import InputError
from asr.text.alphabet import Alphabet, is_byte
from asr.text.label_files import columns_fault, read_labels
from asr.text.subwords import BYTE, NAMED_SPACES, Subwords, spell_labels

PADS = ("<pad>", "[pad]")  # compared without case, like the labels below
BLANKS = ("", *PADS, "<blank>", "<blk>", "_")
APPEND = "append"
_UNUSED = ("⁇", "▁⁇▁")
_SPECIAL = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")

LabelSource: TypeAlias = Sequence[str] | Mapping[str, int] | str | os.PathLike[str]
"""A label for each column, in order; or the column of each label; or a file of labels, see `read_labels`."""


class Labels:
    """The labels of a CTC model in the order of its columns, and the same labels in our order, Φ first.

    Labels in brackets, <s>, [UNK] or <|en|>, are never spoken, except <space> and bytes such as <0xE2>. They count as
    the blank.

    Args:
        source: see `LabelSource`.
        blank: label or column of the blank; None finds it by its name; "append" if the model has one more column, the
            last, for the blank.
    Attributes:
        num_columns: V, the blank included.
        blank_column: of the blank.
        columns: of the labels of `alphabet`, in its order.
        alphabet: an `Alphabet` if each label is one character, otherwise `Subwords`.
    Raises:
        InputError: a label occurs twice, the blank is unknown, or no label has a character.
        DataError: the file cannot be read.
    """

    alphabet: Alphabet | Subwords

    def __init__(self, source: LabelSource, *, blank: str | int | None = None):
        labels = _checked_labels(source)
        if blank == APPEND:
            labels, blank = [*labels, ""], len(labels)
        self.num_columns = len(labels)
        self.blank_column = _blank_column(labels, blank)
        spoken = [column for column, label in enumerate(labels) if column != self.blank_column and is_spoken(label)]
        counts = Counter(labels[column] for column in spoken)
        if repeated := ", ".join(repr(label) for label, count in counts.items() if count > 1):
            raise InputError(f"labels must differ; repeated: {repeated}")
        pieces = spell_labels([labels[column] for column in spoken])
        self.columns = [column for column, piece in zip(spoken, pieces, strict=True) if piece]
        silent = set(range(len(labels))) - {self.blank_column, *self.columns}
        self._silent = [self.blank_column, *sorted(silent)]
        if not self.columns:
            raise InputError(f"labels must have at least one label with a character; got {labels!r:.80}")
        texts = tuple(filter(None, pieces))
        letters = all(len(piece) == 1 and not is_byte(piece) for piece in texts) and len(set(texts)) == len(texts)
        self.alphabet = Alphabet(texts) if letters else Subwords(tuple(normalize("NFC", text) for text in texts))

    def arrange(self, log_probs: np.ndarray) -> np.ndarray:
        """(T, V) log-probabilities of the model's columns as those of `alphabet`: Φ first, silent labels in it."""
        blank = np.logaddexp.reduce(log_probs[:, self._silent], axis=1, keepdims=True)
        return np.concatenate([blank, log_probs[:, self.columns]], axis=1)


def is_spoken(label: str) -> bool:
    """Whether a label is more than a mark in brackets."""
    if label.casefold() in NAMED_SPACES or BYTE.fullmatch(label):
        return True
    return bool(label) and label not in _UNUSED and not _SPECIAL.fullmatch(label)


def _checked_labels(source: object) -> list[str]:
    """A label for each column, in order."""
    labels = source
    if isinstance(source, os.PathLike) or (isinstance(source, str) and os.path.isfile(source)):
        labels = read_labels(source)
    if isinstance(labels, Mapping):
        labels = {key: int(value) if isinstance(value, np.integer) else value for key, value in labels.items()}
        if labels and all(isinstance(key, int) and isinstance(value, str) for key, value in labels.items()):
            raise InputError("labels by name must be {label: column}; this is {column: label}: swap keys and values")
        if fault := columns_fault(list(labels.values())):
            raise InputError(f"labels by name {fault}")
        labels = sorted(labels, key=labels.__getitem__)
    if isinstance(labels, (set, frozenset)):
        raise InputError("labels must be in the order of the columns, but a set has no order; give a list")
    if (
        isinstance(labels, str)
        or not isinstance(labels, Collection)
        or not all(isinstance(label, str) for label in labels)
    ):
        message = f"labels must be a list of strings, one for each column; got {labels!r:.80}"
        raise InputError(message + (", which is no file either" if isinstance(labels, str) else ""))
    return [str(label) for label in labels]


def _blank_column(labels: Sequence[str], blank: str | int | None) -> int:
    """The column of the blank, as given or by its name."""
    if isinstance(blank, str):
        columns = [column for column, label in enumerate(labels) if label == blank]
        if len(columns) != 1:
            raise InputError(f"blank must be one of the labels; {len(columns)} of them are {blank!r}")
        return columns[0]
    if blank is not None:
        if not isinstance(blank, (int, np.integer)) or not 0 <= blank < len(labels):
            raise InputError(f"blank must be a label or a column, 0 .. {len(labels) - 1}; got {blank!r}")
        return int(blank)
    columns = [column for column, label in enumerate(labels) if label.casefold() in BLANKS]
    fairseq = bool(labels) and labels[0] == "<s>"
    if len(columns) == 1 and not (fairseq and labels[columns[0]].casefold() in PADS):
        return columns[0]
    candidates = [f"{labels[column]!r} in column {column}" for column in columns] or ["none"]
    if fairseq:
        cure = "give blank='<s>' if this is a dictionary of fairseq, whose blank is its first label, else blank='<pad>'"
    elif columns:
        cure = f"name the right one, blank={labels[columns[0]]!r} for example"
    elif "-" in labels:
        cure = "give blank='-' if these are the labels of a torchaudio bundle, else the blank's label or column"
    else:
        cure = (
            "give its label or column, blank=0 for example; if the list leaves it out, put '' where its column is, or "
            f"give blank='{APPEND}' if it is the last (NeMo)"
        )
    raise InputError(
        f"labels must have one blank, one of {', '.join(map(repr, BLANKS))}; got {', '.join(candidates)}; {cure}"
    )
