"""Pronunciations from a plain lexicon, a second target for a middle layer of the encoder."""

from __future__ import annotations

import os
import re

from asr.errors import DataError
from asr.files.texts import read_text

_VARIANT = re.compile(r"\(\d+\)$")
_COMMENT = re.compile(r"^;;;.*|(^|\s)#.*")


class Lexicon:
    """Words and their phones, as labels with Φ = 0.

    Words are looked up in upper case; phones are used as written, with CMUdict's stress digits.

    Args:
        path: lines of `WORD PH PH ...` in UTF-8 (CMUdict, Kaldi's lexicon.txt, but not lexiconp.txt, whose second
            column is a number). `WORD(2)` is a variant; the first variant is used. `;;;` at the start of a line and `#`
            at the start or after white space begin comments.
    Raises:
        DataError: the file is missing, empty or not UTF-8, or a line has a word without phones.
    """

    def __init__(self, path: str | os.PathLike[str]):
        lines = read_text(path).splitlines()
        self._phones: dict[str, tuple[str, ...]] = {}
        for number, line in enumerate(lines, start=1):
            if not (entry := _COMMENT.sub("", line).split()):
                continue
            word, *phones = entry
            if not phones:
                raise DataError(f"every word must have phones, but {word!r} has none", path=path, line=number)
            self._phones.setdefault(_VARIANT.sub("", word).upper(), tuple(phones))
        if not self._phones:
            raise DataError("the lexicon must have words, but has none", path=path)
        self.phones = tuple(sorted({phone for phones in self._phones.values() for phone in phones}))
        self._labels = {phone: label for label, phone in enumerate(self.phones, start=1)}

    @property
    def size(self) -> int:
        """Number of labels, Φ included."""
        return len(self.phones) + 1

    def unknown(self, text: str) -> list[str]:
        """The words of `text` that have no pronunciation."""
        return [word for word in text.upper().split() if word not in self._phones]

    def encode(self, text: str) -> list[int] | None:
        """Labels of the phones of all words, without marks between words; None if a word has no pronunciation."""
        if self.unknown(text):
            return None
        return [self._labels[phone] for word in text.upper().split() for phone in self._phones[word]]
