"""Which titles are one, by hand, and the books that are left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from asr.corpora.books import Book
from asr.corpora.titles import Titles, leave_out, read_titles
from asr.errors import DataError

CHAPTERS = """\
;ID    |READER|MINUTES| SUBSET           | PROJ.|BOOK ID| CH. TITLE | PROJECT TITLE
1      | 110  | 19.77 | train-other-500  | 53   | 1023  | In Chancery | Bleak House
2      | 111  | 10.30 | dev-clean        | 54   | 974   | Chapter 1 | Secret Agent
3      | 112  | 10.30 | test-other       | 55   | 135   | Chapter 2 | Miserables Vol. 2
4      | 113  | 10.30 | dev-other        | 56   | 135   | Chapter 3 | Miserables Vol. 2

"""


@pytest.mark.parametrize(
    "title, other",
    [
        ("Secret Agent", "The Secret Agent: A Simple Tale"),
        ("Miserables Vol. 2", "Les Misérables"),
        ("Twenty Thousand Leagues Under The Sea (version 3)", "Twenty Thousand Leagues under the Sea"),
        ("War and Peace, Book 03: 1805", "War and Peace"),
        ("Democracy in America II", "Democracy in America"),
        ("Life of Samuel Johnson Vol. I", "The Life of Samuel Johnson"),
        ("Bostonians, Vol. 1 & 2", "The Bostonians"),
        ("Rise and Fall of the Confederate Government, Volume 1a", "The Rise and Fall of the Confederate Government"),
        (
            "Book of A Thousand Nights and a Night (Arabian Nights), Volume 02",
            "A Book of a Thousand Nights and a Night",
        ),
        ("Headless Horseman - A Strange Tale of Texas", "THE HEADLESS HORSEMAN"),
        ("Alice's Adventures in Wonderland", "Alice’s Adventures in Wonderland"),
        ("Old-Fashioned Girl (version 2)", "An Old Fashioned Girl"),
        ("Hypatia", "Hypatia, or New Foes with an Old Face"),
        ("O Pioneers!", "O Pioneers"),
    ],
)
def test_one_title(title: str, other: str) -> None:
    assert other in Titles([title])
    assert title in Titles([other])


@pytest.mark.parametrize(
    "title, other",
    [
        ("Work: A Story of Experience", "Work and Play"),
        ("The Turmoil", "Tumult"),
        ("Robin Hood.", "The Merry Adventures of Robin Hood"),
        ("Edison, His Life and Inventions", "Edison: His Life and Inventions"),  # not handled: a comma is no subtitle
        ("Mary Marston", "Mary Barton"),
        ("...", "..."),
        ("Theory", "The Ory"),
    ],
)
def test_two_titles(title: str, other: str) -> None:
    assert other not in Titles([title])


def test_titles_of_dev_and_test(tmp_path: Path) -> None:
    path = tmp_path / "CHAPTERS.TXT"
    path.write_text(CHAPTERS)
    assert read_titles(path) == ["Miserables Vol. 2", "Secret Agent"]
    path.write_text(CHAPTERS.replace("| 974 ", "").replace(" | Chapter 1", ""))
    with pytest.raises(DataError, match=r"CHAPTERS\.TXT.*3.*must have eight columns between \|, but has 6"):
        read_titles(path)
    path.write_text("\n".join(CHAPTERS.splitlines()[:2]))
    with pytest.raises(DataError, match="must have chapters of dev or test sets, but has none"):
        read_titles(path)


def test_books_go_whole() -> None:
    books = [Book(title=title, author="Ann Pear", paragraphs=("One.",)) for title in ("The Secret Agent", "Agents")]
    notes: list[str] = []
    assert list(leave_out(books, Titles(["Secret Agent"]), note=notes.append)) == books[1:]
    assert notes == ["left out, as a book of a dev or test set: The Secret Agent, Ann Pear"]
