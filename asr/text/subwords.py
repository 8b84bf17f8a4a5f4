"""`Subwords`: labels that are pieces of words, and the characters that they spell."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from asr.errors import InputError
from asr.text.alphabet import Alphabet, byte_character
from asr.text.normalization import is_invisible

NAMED_SPACES = ("<space>", "[space]")  # compared without case
SPACES = ("|", " ", "▁")  # of vocabularies of letters
BYTE = re.compile("<0x([0-9a-fA-F]{2})>")


@dataclass(frozen=True)
class Subwords:
    """The pieces of a model and their labels: Φ is label 0, `pieces[i]` is label i + 1.

    A space in a piece separates words: " the" begins a word, "the" continues one. Different labels may have equal
    pieces. A byte of UTF-8 is a `asr.text.alphabet.byte_character`.

    Args:
        pieces: V - 1 texts of one character or more.
    Raises:
        InputError: there is no piece, an empty one, or one with a control character.
    """

    pieces: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.pieces or not all(self.pieces):
            raise InputError(f"pieces must have at least one character each; got {self.pieces!r:.80}")
        _ = self.alphabet  # which checks the characters

    @cached_property
    def alphabet(self) -> Alphabet:
        """The characters of the pieces, in code-point order."""
        return Alphabet(tuple(sorted(set().union(*self.pieces))))

    @property
    def size(self) -> int:
        """V, the number of labels, Φ included."""
        return len(self.pieces) + 1

    @cached_property
    def spellings(self) -> list[tuple[int, ...]]:
        """The labels of `alphabet` for each of the V labels; none for Φ."""
        numbers = {character: label for label, character in enumerate(self.alphabet.characters, start=1)}
        return [(), *(tuple(map(numbers.__getitem__, piece)) for piece in self.pieces)]

    @cached_property
    def begins_words(self) -> bool:
        """Whether pieces begin with the space before a word, so that the first word of a text may have one, too."""
        return any(piece.startswith(" ") and len(piece) > 1 for piece in self.pieces)

    def decode(self, labels: Sequence[int]) -> str:
        """The characters that the labels, 1 .. V - 1, spell."""
        return "".join(self.pieces[label - 1] for label in labels)


def spell_labels(labels: Sequence[str]) -> list[str]:
    """The text that each label of a vocabulary spells; empty for a label without a visible character.

    The vocabulary shows its style:

    - SentencePiece: ▁ is a space: ▁the, s
    - WordPiece: ## continues a word, other labels begin one: the, ##s
    - byte-level BPE: each character is a byte of UTF-8, Ġ a space: Ġthe
    - otherwise: labels are letters as they are; |, a space, ▁ or <space> separates words

    In all of them <0xE2> is a byte.

    Raises:
        InputError: a label of a byte-level vocabulary has other characters.
    """
    plain = [label for label in labels if label not in SPACES]
    word_pieces = any(label.startswith("##") and len(label) > 2 for label in plain)
    sentence_pieces = any("▁" in label for label in plain)
    space = next((label for label in SPACES if label in labels), None)
    has_space = space is not None or any(label.casefold() in NAMED_SPACES for label in labels)
    spaced = [label for label in plain if "Ġ" in label]  # one alone beside a space is a letter of Maltese
    in_bytes = not (word_pieces or sentence_pieces) and bool(spaced) and not (spaced == ["Ġ"] and has_space)
    return [
        _visible(_spell(label, space, word_pieces=word_pieces, sentence_pieces=sentence_pieces, in_bytes=in_bytes))
        for label in labels
    ]


def _spell(label: str, space: str | None, *, word_pieces: bool, sentence_pieces: bool, in_bytes: bool) -> str:
    if byte := BYTE.fullmatch(label):
        return byte_character(int(byte[1], 16))
    if label.casefold() in NAMED_SPACES:
        return " "
    if word_pieces:
        return label[2:] if label.startswith("##") and len(label) > 2 else " " if label == "▁" else f" {label}"
    if sentence_pieces:
        return label.replace("▁", " ")
    if in_bytes:
        if foreign := [character for character in label if character not in _BYTES]:
            raise InputError(
                f"labels of a byte-level vocabulary (with Ġ for the space) must hold no other characters; "
                f"got {foreign[0]!r} in {label!r}"
            )
        return "".join(byte_character(_BYTES[character]) for character in label)
    return " " if label == space else label


def _visible(piece: str) -> str:
    """The piece in NFC, without invisible characters; other white space is a space."""
    piece = "".join(" " if character.isspace() else character for character in piece if not _is_control(character))
    return piece if len(piece) == 1 else unicodedata.normalize("NFC", piece)


def _is_control(character: str) -> bool:
    return is_invisible(character) and not character.isspace()


def _byte_alphabet() -> dict[str, int]:
    """The byte of each character of byte-level BPE.

    Printable bytes of Latin-1 are their own characters, the other bytes the code points from 256 on, in order.

    Source: Radford et al. 2019, "Language models are unsupervised multitask learners", and their published code.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (byte for byte in range(256) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {chr(256 + rank): byte for rank, byte in enumerate(others)}


_BYTES = _byte_alphabet()
