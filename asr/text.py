"""Text as models see it: normalised spelling, and the `Alphabet` that maps characters to labels with Φ = 0."""

from __future__ import annotations

import operator
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, Literal

from asr.errors import ConfigError, InputError
from asr.marks import find_marks, without_marks
from asr.options import check_choices

BLANK: Final = 0
"""The label of Φ, the CTC blank, which stands for no character."""

_CHINESE = frozenset({"zh", "cmn", "yue"})
HAN = "\u2e80-\u2fdf\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # inside [ ] of a pattern
_HAN = re.compile(f"[{HAN}]")
_PLAIN = re.compile("[A-Za-z]+(?: [A-Za-z]+)*")
_SPACE_BESIDE_HAN = re.compile(f"(?<={_HAN.pattern}) | (?={_HAN.pattern})")
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F) if chr(code).isalnum()}
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2019\u2018\uff07", "'"))
_ENGLISH_APOSTROPHES = _APOSTROPHES | {0x02BC: "'"}  # elsewhere U+02BC is a letter, the glottal stop of many languages
_ROCK_N_ROLL = re.compile(r"(?<!\w)'[nN]'(?!\w)")
_JOINERS = frozenset("\u200c\u200d")  # invisible, but part of the spelling of Persian and of Indic scripts

Case = Literal["upper", "lower", "keep"]
Punctuation = Literal["drop", "keep"]
Marks = Literal["drop", "keep", "refuse"]


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """How transcripts are spelled before they become labels or are scored; see `normalize`."""

    language: str = field(
        default="en", metadata={"help": "language of the text: a BCP-47 primary tag such as en or zh"}
    )
    case: Case = field(default="upper", metadata={"help": "letters all upper case, all lower case, or as written"})
    punctuation: Punctuation = field(
        default="drop", metadata={"help": "drop punctuation and symbols (apostrophes inside words stay), or keep all"}
    )
    marks: Marks = field(
        default="drop",
        metadata={
            "help": "drop what nobody speaks, as [noise], <unk>, (laughs) or NARRATOR:, keep its words, or refuse it"
        },
    )

    def __post_init__(self) -> None:
        if not isinstance(self.language, str) or not re.fullmatch("[a-z]{2,3}", self.language):
            raise ConfigError(
                "language must be a BCP-47 primary tag of two or three lower-case letters, "
                f"without a region or script; got {self.language!r}; give for example 'en' or 'zh'"
            )
        check_choices(self)


def normalize(text: str, options: TextOptions) -> str:
    """The text in one spelling: NFC, one case, punctuation by policy, words parted by single spaces.

    0. `marks`: what `asr.marks.find_marks` finds, [noise] or NARRATOR:, goes, stays as words, or is refused.
    1. Invisible characters (controls, byte-order marks, soft hyphens, variation selectors) go; joiners stay. Any
       white space counts as a space, and NFC puts accents and their letters together.
    2. `case`: upper and lower are Unicode's full mappings, so ß becomes SS.
    3. `punctuation`: dropped, every mark and symbol ends the word it stands in, as a hyphen does (U.S.A. -> U S A),
       except an apostrophe inside a word, which stays, typographic or not, as ' (don't, l'eau). One at the edge of a
       word is taken for a quote and dropped (dogs' -> dogs), but for the English word 'n' (rock 'n' roll).
    4. Chinese (zh, cmn, yue): full-width letters and digits become plain ones, and spaces beside Han characters go,
       so that 我 用 Python 写 and 我用Python写 are one text. Traditional and simplified are not converted.

    Normalising twice changes nothing more. Not handled: rules of case that depend on the language (the dotless i of
    Turkish and Azeri, the dots of Lithuanian); numbers, abbreviations and symbols as spoken (50% -> 50; 3.14 -> 3 14);
    inner marks other than the apostrophe (Hebrew gershayim, Catalan l·l); the spaces of Japanese and Thai.

    Args:
        text: any text; may be empty.
        options: language, case and punctuation policy, and what becomes of marks.
    Returns:
        The normalised text, possibly empty.
    Raises:
        InputError: there is a mark, and `marks` is refuse.
    Source: Unicode Standard Annex 15 (NFC); general categories as in `unicodedata`.
    """
    if _PLAIN.fullmatch(text):  # as most texts are, and all that is left is the case
        return text.upper() if options.case == "upper" else text.lower() if options.case == "lower" else text
    if options.marks == "drop":
        text = without_marks(text)
    elif options.marks == "refuse":
        refuse_marks(text)
    if options.language in _CHINESE:
        text = text.translate(_FULL_WIDTH)
    text = "".join(" " if character.isspace() else character for character in text if not _is_invisible(character))
    text = unicodedata.normalize("NFC", text)
    if options.case != "keep":
        text = unicodedata.normalize("NFC", text.upper() if options.case == "upper" else text.lower())
    if options.punctuation == "drop":
        text = _without_punctuation(text, options.language)
    text = " ".join(text.split())
    return _SPACE_BESIDE_HAN.sub("", text) if options.language in _CHINESE else text


def refuse_marks(text: str) -> None:
    """Nothing, if the text has no marks. Raises: InputError: it has one, which is shown."""
    if marks := find_marks(text):
        start, end = marks[0]
        raise InputError(
            f"a text must have no marks, but has {text[start:end]!r:.60} in {_excerpt(text, start)!r}; mend the text, "
            "or have marks dropped (marks: drop)"
        )


def without_refusal(options: TextOptions) -> TextOptions:
    """The options for texts that nobody can be asked to mend, such as what a model has heard: marks go."""
    return replace(options, marks="drop") if options.marks == "refuse" else options


def _is_invisible(character: str) -> bool:
    variation_selector = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    formatting = unicodedata.category(character) in ("Cc", "Cf") and character not in _JOINERS
    return variation_selector or (formatting and not character.isspace())


def _without_punctuation(text: str, language: str) -> str:
    english = language == "en"
    text = text.translate(_ENGLISH_APOSTROPHES if english else _APOSTROPHES)
    kept_apostrophes = {i for found in _ROCK_N_ROLL.finditer(text) for i in (found.start(), found.end() - 1) if english}
    kept: list[str] = []
    for i, character in enumerate(text):
        kind = unicodedata.category(character)[0]
        before = kept[-1] if kept else " "
        inside_word = character == "'" and _can_touch(before, "LMN") and _can_touch(text[i + 1 : i + 2] or " ", "LN")
        if inside_word or i in kept_apostrophes:
            kept.append(character)
        elif kind in "PSZ":
            kept.append(" ")
        elif (kind != "M" and character not in _JOINERS) or before != " ":
            kept.append(character)  # but an accent or joiner goes with the mark that carried it
    return "".join(kept)


def _can_touch(neighbour: str, kinds: str) -> bool:
    """Whether an apostrophe beside this character can belong to a word: beside Han it can only be a quote."""
    return unicodedata.category(neighbour)[0] in kinds and not _HAN.match(neighbour)


def is_han(character: str) -> bool:
    """Whether a character is Chinese, and a word by itself where words are not parted by spaces."""
    return _HAN.match(character) is not None


@dataclass(frozen=True)
class Alphabet:
    """The characters of a model and their labels: Φ is label 0 (`BLANK`), `characters[i]` is label i + 1.

    A character is one code point of text in NFC: é is one, while an accent or vowel sign that NFC leaves apart (as in
    Devanagari) is a character of its own. The space between words is a character like any other.

    A model of somebody else may have a character that NFC spells otherwise, Bengali U+09DF or Hebrew U+FB2A. It stays
    as it is where labels are decoded, and where text is encoded it takes the place of its NFC spelling.

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
            raise InputError(f"the characters of an alphabet must differ; more than once came {repeated}")

    @cached_property
    def _labels(self) -> dict[str, int]:
        return {character: label for label, character in enumerate(self.characters, start=1)}

    @cached_property
    def _outside_nfc(self) -> list[tuple[str, str]]:
        """NFC spelling of each character that NFC spells otherwise, and the character; the longest spelling first."""
        spellings = [(unicodedata.normalize("NFC", character), character) for character in self.characters]
        # Where both are labels, text in NFC means the other one.
        apart = [pair for pair in spellings if pair[0] != pair[1] and pair[0] not in self._labels]
        return sorted(apart, key=lambda pair: -len(pair[0]))

    def _in_characters(self, text: str) -> str:
        """The text in NFC, but for the characters of the alphabet that NFC spells otherwise."""
        text = unicodedata.normalize("NFC", text)
        for spelling, character in self._outside_nfc:
            text = text.replace(spelling, character)
        return text

    @property
    def size(self) -> int:
        """V, the number of labels, Φ included."""
        return len(self.characters) + 1

    def encode(self, text: str, *, dropped: Counter[str] | None = None) -> list[int]:
        """Labels of the text, one for each character of its NFC form (but see the class), none of them Φ.

        Args:
            text: the transcript, already normalised as the model's texts are; may be empty.
            dropped: where to count characters outside the alphabet, which are then left out; None refuses them.
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
                    f"of {_excerpt(text, position)!r} is {character!r} ({_code_point(character)}); normalize the text "
                    "first, add the character to the alphabet, or pass dropped=Counter() to count and leave it out"
                )
        return labels

    def spell(self, text: str) -> tuple[int, ...] | None:
        """As `encode`, in a third of the time; None if a character is outside the alphabet."""
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
            texts: transcripts, already normalised; one at least has a character.
        Raises:
            InputError: a single str came, there is no character at all, or one that an alphabet refuses.
        """
        if isinstance(texts, str):
            raise InputError(f"texts must be several texts, not one str; got {_excerpt(texts, 0)!r}; put it in a list")
        return cls(tuple(sorted({character for text in texts for character in unicodedata.normalize("NFC", text)})))


def _fault(character: object) -> str | None:
    """What keeps `character` out of every alphabet, or None."""
    if not isinstance(character, str):
        return f"is {type(character).__name__}, not str"
    if len(character) != 1:
        return f"has {len(character)} code points"
    if character.isspace() and character != " ":
        return f"is white space ({_code_point(character)})"
    if _is_invisible(character) or unicodedata.category(character) == "Cs":
        return f"is a control, an invisible character or half a surrogate pair ({_code_point(character)})"
    return None


def _code_point(character: str) -> str:
    return f"U+{ord(character):04X} {unicodedata.name(character, '')}".rstrip()


def _excerpt(text: str, position: int, reach: int = 20) -> str:
    start, end = max(position - reach, 0), position + reach + 1
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")
