"""The `Alphabet`: characters to labels and back, with Φ = 0."""

from __future__ import annotations

import operator
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from asr.errors import InputError
from asr.text.normalization import excerpt, is_invisible

BLANK: Final = 0
"""The label of Φ, the CTC blank, which is no character."""

_FIRST_BYTE: Final = 0x10FF00  # of 256 code points for private use
_RUN_OF_BYTES = re.compile(f"[{chr(_FIRST_BYTE)}-{chr(_FIRST_BYTE + 255)}]+")


@dataclass(frozen=True)
class Alphabet:
    """The characters of a model and their labels: Φ is label 0 (`BLANK`), `characters[i]` is label i + 1.

    A character is one code point of text in NFC: é is one character, but an accent or vowel sign that NFC does not
    compose (as in Devanagari) is a character of its own. The space between words is a character like any other.

    A foreign model may have a character that NFC decomposes, such as Bengali U+09DF or Hebrew U+FB2A. Decoding writes
    it unchanged; encoding replaces its NFC spelling by it.

    A model may spell rare characters in bytes of UTF-8. A byte is a character of its own, `byte_character`; encoding
    replaces a character that the alphabet lacks by its bytes, and `join_bytes` makes characters of the bytes again.

    Args:
        characters: V - 1 different characters, at least one, each a str of one code point, in label order.
    Raises:
        InputError: no characters, one twice, an empty or longer entry, a control or invisible character, white space
            other than the plain space, or not a tuple of str.
    """

    characters: tuple[str, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.characters, tuple) or not self.characters:
            raise InputError(f"an alphabet must be a tuple of at least one character; got {self.characters!r}")
        for position, character in enumerate(self.characters):
            if fault := _fault(character):
                raise InputError(
                    f"characters[{position}] must be one visible code point, or the plain space; "
                    f"got {character!r}, which {fault}"
                )
        if len(self._labels) < len(self.characters):
            repeated = ", ".join(repr(key) for key, count in Counter(self.characters).items() if count > 1)
            raise InputError(f"the characters of an alphabet must differ; repeated: {repeated}")

    @cached_property
    def _labels(self) -> dict[str, int]:
        return {character: label for label, character in enumerate(self.characters, start=1)}

    @cached_property
    def outside_nfc(self) -> list[tuple[str, str]]:
        """(NFC spelling, character) of each character that is not in NFC; the longest spelling first."""
        spellings = [(unicodedata.normalize("NFC", character), character) for character in self.characters]
        # If both are labels, text in NFC is encoded as the spelling.
        outside = [pair for pair in spellings if pair[0] != pair[1] and pair[0] not in self._labels]
        return sorted(outside, key=lambda pair: -len(pair[0]))

    def _in_characters(self, text: str) -> str:
        """The text in NFC, except the characters of the alphabet that are not in NFC."""
        text = unicodedata.normalize("NFC", text)
        for spelling, character in self.outside_nfc:
            text = text.replace(spelling, character)
        if self._has_bytes:
            text = "".join(character if character in self._labels else _in_bytes(character) for character in text)
        return text

    @cached_property
    def _has_bytes(self) -> bool:
        return any(map(is_byte, self.characters))

    @property
    def size(self) -> int:
        """V, the number of labels, Φ included."""
        return len(self.characters) + 1

    def encode(self, text: str, *, dropped: Counter[str] | None = None) -> list[int]:
        """Labels of the text, one for each character of its NFC form (see the class), none of them Φ.

        Args:
            text: the transcript, normalised like the model's texts; may be empty.
            dropped: counts characters outside the alphabet, which are then left out; None refuses them.
        Returns:
            At most one label a character, each in 1 .. V - 1.
        Raises:
            InputError: a character is outside the alphabet and `dropped` is None.
        """
        text = self._in_characters(text)
        labels = []
        for position, character in enumerate(text):
            if label := self._labels.get(character):
                labels.append(label)
            elif dropped is not None:
                dropped[character] += 1
            else:
                raise InputError(
                    f"every character must be in the alphabet ({self.size - 1} characters), but character {position} "
                    f"of {excerpt(text, position)!r} is {character!r} ({_code_point(character)}); normalize the text "
                    "first, add the character to the alphabet, or pass dropped=Counter() to count and leave it out"
                )
        return labels

    def spell(self, text: str) -> tuple[int, ...] | None:
        """`encode` in a third of the time; None if a character is outside the alphabet."""
        labels = tuple(map(self._labels.get, self._in_characters(text)))
        return None if None in labels else labels  # type: ignore[return-value]

    def decode(self, labels: Iterable[int]) -> str:
        """The text that the labels spell.

        Args:
            labels: integers in 1 .. V - 1, after `collapse`: Φ has no spelling.
        Returns:
            One character for each label.
        Raises:
            InputError: a label is Φ, out of range, or not an integer.
        """
        text, size = [], self.size
        for position, item in enumerate(labels):
            try:
                label = operator.index(item)
            except TypeError:
                raise InputError(f"labels must be integers; labels[{position}] is {item!r}") from None
            if not 1 <= label < size:
                advice = "; collapse the path first" if label == BLANK else ""
                raise InputError(f"labels must lie in 1 .. {self.size - 1}; labels[{position}] is {label}{advice}")
            text.append(self.characters[label - 1])
        return "".join(text)

    @classmethod
    def from_texts(cls, texts: Iterable[str]) -> Alphabet:
        """The alphabet of all characters in the texts, in code-point order (the space, where there is one, is label 1).

        Args:
            texts: normalised transcripts; at least one has a character.
        Raises:
            InputError: texts is a str, there is no character, or one that an alphabet refuses.
        """
        if isinstance(texts, str):
            raise InputError(f"texts must be several texts, not one str; got {excerpt(texts, 0)!r}; put it in a list")
        return cls(tuple(sorted({character for text in texts for character in unicodedata.normalize("NFC", text)})))


def byte_character(byte: int) -> str:
    """The character that stands for a byte of UTF-8, 0 .. 255; an ASCII byte is its own character."""
    return chr(byte if byte < 0x80 else _FIRST_BYTE + byte)


def is_byte(character: str) -> bool:
    """Whether it stands for a byte that is not ASCII."""
    return _RUN_OF_BYTES.fullmatch(character) is not None


def _in_bytes(character: str) -> str:
    return "".join(map(byte_character, character.encode("utf-8", "surrogatepass")))


def join_bytes(text: str) -> str:
    """The text with characters in place of the `byte_character`s; U+FFFD where bytes give no visible character."""
    if text.isascii():
        return text

    def joined(run: re.Match[str]) -> str:
        decoded = bytes(ord(byte) - _FIRST_BYTE for byte in run[0]).decode("utf-8", "replace")
        return "".join("\ufffd" if _fault(character) else character for character in decoded)

    return _RUN_OF_BYTES.sub(joined, text)


def _fault(character: object) -> str | None:
    """The reason why an alphabet refuses `character`, or None."""
    if not isinstance(character, str):
        return f"is {type(character).__name__}, not str"
    if len(character) != 1:
        return f"has {len(character)} code points"
    if character.isspace() and character != " ":
        return f"is white space ({_code_point(character)})"
    if is_invisible(character) or unicodedata.category(character) == "Cs":
        return f"is a control, an invisible character or half a surrogate pair ({_code_point(character)})"
    return None


def _code_point(character: str) -> str:
    return f"U+{ord(character):04X} {unicodedata.name(character, '')}".rstrip()
