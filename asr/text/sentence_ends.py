"""Where sentences end in a text that a person wrote, with punctuation and capitals."""

from __future__ import annotations

import re

_TERMINAL = frozenset(".!?…。！？")
_MARKS = re.compile(r"[^\w\s]*")
_ABBREVIATION = re.compile(
    r"\W*(mr|mrs|ms|dr|prof|rev|hon|st|gen|col|capt|lieut|lt|sgt|messrs|mme|mlle|vs)\.", re.IGNORECASE
)
_INITIAL = re.compile(r"\W*[^\W\d_]\.")
_OPENING = "\"'“‘«([—–-"  # marks before a word


def ends_sentence(word: str, following: str) -> bool:
    """Whether the marks of a word end a sentence: those of Mr. and J. do not, nor a mark before a small letter.

    Args:
        word: with its marks.
        following: the next word, or "".
    """
    marks = _MARKS.match(word[::-1])
    if marks is None or _TERMINAL.isdisjoint(marks[0]):
        return False
    abbreviated = _ABBREVIATION.fullmatch(word) or (word.isupper() and _INITIAL.fullmatch(word))
    return not abbreviated and not following.lstrip(_OPENING)[:1].islower()
