"""Text as models see it: normalised spelling, and the `Alphabet` that maps characters to labels with Φ = 0."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from typing import Literal

from asr.errors import ConfigError, InputError
from asr.options import check_options, option
from asr.text.marks import find_marks, without_marks

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

    language: str = option("en", "language of the text: a BCP-47 primary tag such as en or zh")
    case: Case = option("upper", "write letters in upper case, in lower case, or as they are")
    punctuation: Punctuation = option(
        "drop", "drop punctuation and symbols (but keep apostrophes inside words), or keep all"
    )
    marks: Marks = option(
        "drop",
        "drop marks that nobody speaks, as [noise], <unk>, (laughs) or NARRATOR:, keep their words, or refuse them",
    )

    def __post_init__(self) -> None:
        if not isinstance(self.language, str) or not re.fullmatch("[a-z]{2,3}", self.language):
            raise ConfigError(
                "language must be a BCP-47 primary tag of two or three lower-case letters, "
                f"without a region or script; got {self.language!r}; give for example 'en' or 'zh'",
                "language",
            )
        check_options(self)


def normalize(text: str, options: TextOptions) -> str:
    """The text in one spelling: NFC, one case, punctuation by policy, words parted by single spaces.

    0. `marks`: what `asr.text.marks.find_marks` finds, [noise] or NARRATOR:, goes, stays as words, or is refused.
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
    text = "".join(" " if character.isspace() else character for character in text if not is_invisible(character))
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
            f"a text must have no marks, but has {text[start:end]!r:.60} in {excerpt(text, start)!r}; mend the text, "
            "or have marks dropped (marks: drop)"
        )


def without_refusal(options: TextOptions) -> TextOptions:
    """The options for texts that nobody can be asked to mend, such as what a model has heard: marks go."""
    return replace(options, marks="drop") if options.marks == "refuse" else options


def is_invisible(character: str) -> bool:
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


def excerpt(text: str, position: int, reach: int = 20) -> str:
    start, end = max(position - reach, 0), position + reach + 1
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")
