"""Text as models see it, in normalised spelling."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from typing import Literal

from asr.errors import ConfigError, InputError
from asr.options import check_options, option
from asr.text.marks import find_marks, without_marks
from asr.text.numbers import spell_numbers

_CHINESE = frozenset({"zh", "cmn", "yue"})
HAN = "\u2e80-\u2fdf\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # inside [ ] of a pattern
HYPHENS = "-\u2010\u2011"  # inside [ ] of a pattern, at its start
_HAN = re.compile(f"[{HAN}]")
_PLAIN = re.compile("[A-Za-z]+(?: [A-Za-z]+)*")
_ASCII_MARKS = {code: " " for code in range(33, 127) if not chr(code).isalnum() and chr(code) != "'"}
_ASCII_QUOTE = re.compile("(?<![A-Za-z0-9])'|'(?![A-Za-z0-9])")
_SPACE_BESIDE_HAN = re.compile(f"(?<={_HAN.pattern}) | (?={_HAN.pattern})")
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F) if chr(code).isalnum()}
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2019\u2018\uff07", "'"))
_ENGLISH_APOSTROPHES = _APOSTROPHES | {0x02BC: "'"}  # elsewhere U+02BC is a letter, the glottal stop of many languages
_ROCK_N_ROLL = re.compile(r"(?<!\w)'[nN]'(?!\w)")
_JOINERS = frozenset("\u200c\u200d")  # invisible, but part of the spelling of Persian and of Indic scripts
Case = Literal["upper", "lower", "keep"]
Punctuation = Literal["drop", "keep"]
Marks = Literal["drop", "keep", "refuse"]
Numbers = Literal["keep", "spell"]


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """The spelling of transcripts for training and scoring; see `normalize`."""

    language: str = option("en", "language of the text: a BCP-47 primary tag such as en or zh")
    case: Case = option("upper", "write letters in upper case, in lower case, or as they are")
    punctuation: Punctuation = option(
        "drop", "drop punctuation and symbols (but keep apostrophes inside words), or keep all"
    )
    marks: Marks = option(
        "drop",
        "drop unspoken marks, such as [noise], <unk>, (laughs) or NARRATOR:, keep their words, or refuse them",
    )
    numbers: Numbers = option(
        "keep", "keep digits, or spell numbers in English words, 1923 as NINETEEN TWENTY THREE (needs asr[numbers])"
    )

    def __post_init__(self) -> None:
        if not isinstance(self.language, str) or not re.fullmatch("[a-z]{2,3}", self.language):
            raise ConfigError(
                "language must be a BCP-47 primary tag of two or three lower-case letters, "
                f"without a region or script; got {self.language!r}; give for example 'en' or 'zh'",
                "language",
            )
        check_options(self)
        if self.numbers == "spell" and self.language != "en":
            message = f"numbers can be spelled in English only, but language is {self.language!r}"
            raise ConfigError(message, "numbers", "language")


def normalize(text: str, options: TextOptions) -> str:
    """The text in one spelling: NFC, one case, punctuation by policy, single spaces between words.

    0. `marks`: drop, keep or refuse the marks of `asr.text.marks.find_marks`, [noise] or NARRATOR:.
       Then `numbers`: keep digits, or spell numbers in words as `asr.text.numbers.spell_numbers` does.
    1. Remove invisible characters (controls, byte-order marks, soft hyphens, variation selectors), except joiners. Any
       white space counts as a space, and NFC composes letters with their accents.
    2. `case`: upper and lower are Unicode's full mappings, so ß becomes SS.
    3. `punctuation`: if dropped, every mark and symbol ends a word, as a hyphen does (U.S.A. -> U S A). An apostrophe
       inside a word stays, typographic or not, as ' (don't, l'eau). At the edge of a word it is a quote and is dropped
       (dogs' -> dogs), except in the English word 'n' (rock 'n' roll).
    4. Chinese (zh, cmn, yue): make full-width letters and digits plain, and remove spaces beside Han characters, so
       that 我 用 Python 写 and 我用Python写 are one text. Traditional and simplified are not converted.

    Normalising twice changes nothing more. Not handled: rules of case that depend on the language (the dotless i of
    Turkish and Azeri, the dots of Lithuanian); spoken forms of abbreviations, and of numbers and symbols unless
    `numbers` is spell (50% -> 50; 3.14 -> 3 14); inner marks other than the apostrophe (Hebrew gershayim, Catalan
    l·l); the spaces of Japanese and Thai.

    Args:
        text: any text; may be empty.
        options: language, case, and policies for punctuation and marks.
    Returns:
        The normalised text, possibly empty.
    Raises:
        InputError: there is a mark, and `marks` is refuse.
        ConfigError: there is a number, `numbers` is spell, and num2words is not installed.
    Source: Unicode Standard Annex 15 (NFC); general categories as in `unicodedata`.
    """
    if _PLAIN.fullmatch(text):  # most texts are plain and need only the case
        return text.upper() if options.case == "upper" else text.lower() if options.case == "lower" else text
    if options.marks == "drop":
        text = without_marks(text)
    elif options.marks == "refuse":
        refuse_marks(text)
    if options.numbers == "spell":
        text = spell_numbers(text)
    if options.language in _CHINESE:
        text = text.translate(_FULL_WIDTH)
    if not (text.isascii() and text.isprintable()):
        text = "".join(" " if character.isspace() else character for character in text if not is_invisible(character))
        text = unicodedata.normalize("NFC", text)
    if options.case != "keep":
        text = unicodedata.normalize("NFC", text.upper() if options.case == "upper" else text.lower())
    if options.punctuation == "drop":
        text = _without_punctuation(text, options.language)
    text = " ".join(text.split())
    return _SPACE_BESIDE_HAN.sub("", text) if options.language in _CHINESE else text


def refuse_marks(text: str) -> None:
    """Raise an InputError with the first mark of the text, if it has one."""
    if marks := find_marks(text):
        start, end = marks[0]
        raise InputError(
            f"a text must have no marks, but has {text[start:end]!r:.60} in {excerpt(text, start)!r}; correct the "
            "text, or drop marks (marks: drop)"
        )


def without_refusal(options: TextOptions) -> TextOptions:
    """The options for texts that cannot be corrected, such as a model's hypotheses: marks are dropped, not refused."""
    return replace(options, marks="drop") if options.marks == "refuse" else options


def is_invisible(character: str) -> bool:
    variation_selector = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    formatting = unicodedata.category(character) in ("Cc", "Cf") and character not in _JOINERS
    return variation_selector or (formatting and not character.isspace())


def _without_punctuation(text: str, language: str) -> str:
    english = language == "en"
    if text.isascii() and not _ROCK_N_ROLL.search(text):  # the rules below, ten times as fast
        return _ASCII_QUOTE.sub(" ", text.translate(_ASCII_MARKS))
    text = text.translate(_ENGLISH_APOSTROPHES if english else _APOSTROPHES)
    quotes_of_n = {i for match in _ROCK_N_ROLL.finditer(text) for i in (match.start(), match.end() - 1) if english}
    characters: list[str] = []
    for i, character in enumerate(text):
        kind = unicodedata.category(character)[0]
        before = characters[-1] if characters else " "
        inside_word = character == "'" and _can_touch(before, "LMN") and _can_touch(text[i + 1 : i + 2] or " ", "LN")
        if inside_word or i in quotes_of_n:
            characters.append(character)
        elif kind in "PSZ":
            characters.append(" ")
        elif (kind != "M" and character not in _JOINERS) or before != " ":  # drop accents and joiners of dropped marks
            characters.append(character)
    return "".join(characters)


def _can_touch(neighbour: str, kinds: str) -> bool:
    """Whether an apostrophe beside this character can belong to a word: beside Han it can only be a quote."""
    return unicodedata.category(neighbour)[0] in kinds and not _HAN.match(neighbour)


def is_han(character: str) -> bool:
    """Whether a character is Chinese, and so a word by itself."""
    return _HAN.match(character) is not None


def excerpt(text: str, position: int, reach: int = 20) -> str:
    start, end = max(position - reach, 0), position + reach + 1
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")
