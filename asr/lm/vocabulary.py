"""The tokens of a language model, words or characters, and their numbers.

Token 0 is <eos>, which ends a sentence and precedes the first token. A vocabulary of words has <unk> as token 1,
for every word that it lacks. A vocabulary of characters has no <unk>: other characters have probability 0. The words or
characters follow, the most frequent first, as an adaptive softmax needs them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, get_args

import numpy as np

from asr.errors import DataError, InputError
from asr.options import check_options, option

Unit = Literal["word", "character"]

EOS: Final = 0
UNK: Final = 1
EOS_TEXT: Final = "<eos>"
UNK_TEXT: Final = "<unk>"
NUM_SPECIAL: Final = {"word": 2, "character": 1}  # tokens that are no entries, by unit

MOST_TYPES = 4_000_000  # different words in memory while counting a text, about half a gigabyte


@dataclass(frozen=True, kw_only=True)
class VocabularyOptions:
    """Unit of the tokens, and choice of the tokens in the vocabulary."""

    unit: Unit = option("word", "make tokens of words or of characters")
    max_size: int = option(40000, "keep the N most frequent words; 0: all", least=0)
    min_count: int = option(2, "leave out words that occur fewer than N times; <unk> is trained on them", least=1)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class Vocabulary:
    """Words or characters, and the numbers of all tokens.

    Args:
        unit: what a token is.
        entries: the words or characters, most frequent first, all different.
    Raises:
        InputError: there are no entries, one occurs twice, or one cannot occur in a text.
    """

    unit: Unit
    entries: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.unit not in get_args(Unit):
            raise InputError(f"the unit of a vocabulary must be one of {', '.join(get_args(Unit))}, not {self.unit!r}")
        if not self.entries:
            raise InputError(f"a vocabulary must have at least one {self.unit}, but it is empty")
        for entry in self.entries:
            if not isinstance(entry, str) or (
                len(entry) != 1 if self.unit == "character" else entry.split() != [entry]
            ):
                raise InputError(f"every entry of the vocabulary must be one {self.unit}; got {entry!r}")
        if len(self._numbers) < len(self.entries):
            twice = next(entry for entry, count in Counter(self.entries).items() if count > 1)
            raise InputError(f"the entries of a vocabulary must differ; repeated: {twice!r}")

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {entry: number for number, entry in enumerate(self.entries, start=self._num_special)}

    @property
    def _num_special(self) -> int:
        return NUM_SPECIAL[self.unit]

    @property
    def size(self) -> int:
        """V, the number of tokens, <eos> and <unk> included."""
        return len(self.entries) + self._num_special

    def __contains__(self, entry: object) -> bool:
        return entry in self._numbers

    def encode(self, text: str, *, dropped: Counter[str] | None = None) -> list[int]:
        """Tokens of a text, without <eos>.

        Args:
            text: normalised; may be empty.
            dropped: for characters: counts unknown characters, which are left out; None refuses them. Unknown words
                become <unk>.
        Returns:
            Numbers in 1 .. V - 1.
        Raises:
            InputError: a character is not in the vocabulary, and `dropped` is None.
        """
        if self.unit == "word":
            return [self._numbers.get(word, UNK) for word in text.split()]
        tokens = [self._numbers[character] for character in text if character in self._numbers]
        if len(tokens) < len(text):
            missing = Counter(character for character in text if character not in self._numbers)
            if dropped is None:
                listed = ", ".join(map(repr, sorted(missing)[:8]))
                raise InputError(
                    f"every character must be one of the model's {len(self.entries)}, but the text has {listed}"
                )
            dropped.update(missing)
        return tokens

    def count_unknown(self, tokens: np.ndarray) -> int:
        """The number of tokens that are <unk>."""
        return int((tokens == UNK).sum()) if self.unit == "word" else 0

    def token_text(self, token: int) -> str:
        """The word or character of a token, or <eos> or <unk>.

        Raises:
            InputError: there is no such token.
        """
        if not 0 <= token < self.size:
            raise InputError(f"a token must lie in 0 .. {self.size - 1}, not {token}")
        if token < self._num_special:
            return (EOS_TEXT, UNK_TEXT)[token]
        return self.entries[token - self._num_special]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens without <eos>."""
        return (" " if self.unit == "word" else "").join(map(self.token_text, tokens))


def build_vocabulary(sentences: Iterable[str], options: VocabularyOptions) -> Vocabulary:
    """The words or characters of a text, the most frequent first, ties in code-point order.

    Args:
        sentences: normalised.
        options: the unit, and limits for words; all characters are taken.
    Raises:
        DataError: nothing is left.
    """
    words = options.unit == "word"
    counts: Counter[str] = Counter()
    rare = 0
    for sentence in sentences:
        counts.update(sentence.split() if words else sentence)
        while len(counts) > MOST_TYPES:  # of a huge text; words as rare as this are hardly chosen in the end
            rare += 1
            counts = Counter({entry: count for entry, count in counts.items() if count > rare})
    least = options.min_count if words else 1
    entries = [entry for entry, count in counts.items() if count >= least and entry not in (EOS_TEXT, UNK_TEXT)]
    if not entries:
        raise DataError(f"the text must have a {options.unit} that occurs at least {least} times, but has none")
    entries.sort(key=lambda entry: (-counts[entry], entry))
    return Vocabulary(options.unit, tuple(entries[: options.max_size or None] if words else entries))
