"""Pronunciations, read from a plain lexicon, as a second target for the encoder's middle."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from asr.errors import DataError

_VARIANT = re.compile(r"\(\d+\)$")


class Lexicon:
    """Words and their phones, as labels with Φ = 0.

    Args:
        path: lines of `WORD PH PH ...` (CMUdict, Kaldi's lexicon.txt); `WORD(2)` is a variant, and the first of
            several counts; `;;;` and `#` begin comments.
    Raises:
        DataError: the file is missing or empty, or a line has a word without phones.
    """

    def __init__(self, path: str | os.PathLike[str]):
        path = Path(path)
        if not path.is_file():
            raise DataError("the lexicon does not exist", path=path)
        self._phones: dict[str, tuple[str, ...]] = {}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if not line.strip() or line.startswith(";;;"):
                continue
            word, *phones = line.split(" #")[0].split()
            if not phones:
                raise DataError(f"the word {word!r} has no phones", path=path, line=number)
            self._phones.setdefault(_VARIANT.sub("", word).upper(), tuple(phones))
        if not self._phones:
            raise DataError("the lexicon holds no words", path=path)
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

    def decode(self, labels: Sequence[int]) -> list[str]:
        """The phones of the labels."""
        return [self.phones[label - 1] for label in labels]
