"""Leave whole books out of texts by their titles: the books that are read in LibriSpeech's dev and test sets.

`Withheld` leaves out sentences that were read; the rest of their books still has the same names and phrases.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

from asr.corpora.books import Book
from asr.errors import DataError
from asr.files.texts import read_text

_SUBTITLE = re.compile(r"[:;]| - |, or\b| or,|\([^)]*\)")
_VOLUME = re.compile(r"((\b(vol|volume|book|part))? (\d+[a-z]?|[ivx]+)( \d+)?)+$")
_ARTICLE = re.compile("^(the|an?|les?|la) ")
_HELD_OUT = ("dev-", "test-")


class Titles:
    """Titles of books, compared without articles at the start, subtitles, volumes, case, accents and punctuation.

    "The Headless Horseman: A Strange Tale" and "headless horseman - Vol. 2" are one title.
    """

    def __init__(self, titles: Iterable[str]):
        self._keys = {key for title in titles if (key := _title_key(title))}

    def __contains__(self, title: str) -> bool:
        return _title_key(title) in self._keys


def read_titles(path: str | os.PathLike[str]) -> list[str]:
    """The titles of the books read in LibriSpeech's dev and test sets, sorted.

    Args:
        path: LibriSpeech's CHAPTERS.TXT, or a table of the same columns: lines of ID | READER | MINUTES | SUBSET |
            PROJECT | BOOK | CHAPTER TITLE | PROJECT TITLE; a line with ; at its start is a comment.
    Raises:
        DataError: the file is missing, a line has not eight columns, or no chapter is of a dev or test set.
    """
    titles = set()
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.startswith(";") or not line.strip():
            continue
        columns = [column.strip() for column in line.split("|")]
        if len(columns) < 8:
            raise DataError(f"must have eight columns between |, but has {len(columns)}", path=path, line=number)
        if columns[3].startswith(_HELD_OUT):
            titles.add(columns[-1])
    if not titles:
        raise DataError("must have chapters of dev or test sets, but has none", path=path)
    return sorted(titles)


def leave_out(books: Iterable[Book], titles: Titles, *, note: Callable[[str], None]) -> Iterator[Book]:
    """The books without those of these titles; each book left out is noted."""
    for book in books:
        if book.title in titles:
            note(f"left out, as a book of a dev or test set: {book.title}, {book.author}")
        else:
            yield book


def _title_key(title: str) -> str:
    """What is compared of a title; empty if nothing is left."""
    letters = unicodedata.normalize("NFD", title.casefold())
    main = next((part for part in _SUBTITLE.split(letters) if part.strip()), "")
    spaced = re.sub(
        r"[^\w\s]", " ", "".join(mark for mark in main if mark not in "'’" and not unicodedata.combining(mark))
    )
    return _ARTICLE.sub("", _VOLUME.sub("", " ".join(spaced.split())).strip())
