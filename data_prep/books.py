"""Books as paragraphs of plain text, from three layouts.

- TEI: COST-ELTeC/ELTeC-eng, a hundred English novels of 1840 to 1920, level1/*.xml; texts in the public domain, mark-up
  CC BY 4.0. https://github.com/COST-ELTeC/ELTeC-eng
- Standard Ebooks: a repository per book, src/epub/content.opf and src/epub/text/*.xhtml; CC0 1.0.
  https://github.com/standardebooks
- A plain text of many books, a paragraph per line, with a table in Markdown of each book's author, title and number of
  lines.

Headings, notes, tables, verse outside paragraphs, and all before and after the body of a book are left out. Quotes,
dashes and ellipses become ASCII.
"""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from xml.etree.ElementTree import Element

from asr.corpora.overlap import RUN_WORDS
from asr.errors import DataError
from asr.files.texts import read_text
from asr.lm.corpus import read_lines
from asr.text.normalization import TextOptions, normalize

_TEI_LEFT_OUT = {"head", "note", "trailer", "label", "table", "figure"}
_XHTML_LEFT_OUT = {"header", "hgroup", "h1", "h2", "h3", "h4", "h5", "h6", "footer", "nav", "cite", "figure", "table"}
_LEFT_OUT = frozenset(_TEI_LEFT_OUT | _XHTML_LEFT_OUT)
_BREAKS = frozenset({"br", "lb", "pb", "l"})
_ASCII = str.maketrans(
    {"…": "...", "\u2060": None}
    | dict.fromkeys("“”„", '"')
    | dict.fromkeys("‘’`´", "'")
    | dict.fromkeys("\u2010\u2011", "-")
    | dict.fromkeys("–—―⸺⸻", " -- ")
)
_DEEPEST = 100  # elements within each other
_OPF = "{http://www.idpf.org/2007/opf}"
_EPUB_TYPE = "{http://www.idpf.org/2007/ops}type"
_ROW = re.compile(r"\|[^|]*\|(?P<author>[^|]*)\|(?P<title>[^|]*)\|[^|]*\|\s*(?P<lines>\d+)\s*\|[^|]*\|\s*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Book:
    """A book: its title, its author as published, and its paragraphs in reading order."""

    title: str
    author: str
    paragraphs: tuple[str, ...]

    @property
    def num_words(self) -> int:
        """Its words between spaces; a dash is none."""
        return sum(len(words) - words.count("--") for words in map(str.split, self.paragraphs))


def read_tei(path: str | os.PathLike[str]) -> Book:
    """The book in a TEI file: the paragraphs of its body.

    Raises:
        DataError: the file is missing, is no TEI, or has no title or paragraph.
    """
    root = _parse(Path(path))
    namespace = root.tag.removesuffix("TEI")
    statement, body = (
        root.find(f"{namespace}{way}") for way in (f"teiHeader//{namespace}titleStmt", f"text/{namespace}body")
    )
    if root.tag == namespace or statement is None or body is None:
        raise DataError("must be TEI with a titleStmt and a body, but is not", path=path)
    title = re.sub(r"\s*:\s*(?i:ELTeC) edition\s*$", "", _spelled(statement.find(f"{namespace}title")))
    author = _spelled(statement.find(f"{namespace}author"))
    return _book(Path(path), title=title, author=author, paragraphs=_paragraphs(body))


def read_standard_ebook(folder: str | os.PathLike[str]) -> Book:
    """The book in a checkout of a repository of Standard Ebooks: the paragraphs of its body matter.

    Raises:
        DataError: a file is missing or damaged, or the book has no title or paragraph.
    """
    epub = Path(folder) / "src" / "epub"
    package = _parse(epub / "content.opf")
    files = {item.get("id"): item.get("href", "") for item in package.iter(f"{_OPF}item")}
    paragraphs: list[str] = []
    for item in package.iter(f"{_OPF}itemref"):
        if (file := files.get(item.get("idref"))) is None:
            raise DataError(
                f"must name each item of the spine, but does not name {item.get('idref')}", path=epub / "content.opf"
            )
        for body in _parse(epub / file).iter("{http://www.w3.org/1999/xhtml}body"):
            if "bodymatter" in body.get(_EPUB_TYPE, ""):
                paragraphs += _paragraphs(body)
    title, author = (
        _spelled(package.find(f".//{{http://purl.org/dc/elements/1.1/}}{name}")) for name in ("title", "creator")
    )
    return _book(epub / "content.opf", title=title, author=author, paragraphs=paragraphs)


def read_collection(text: str | os.PathLike[str], contents: str | os.PathLike[str]) -> Iterator[Book]:
    """The books of a text of many books, one paragraph per line, one after the other.

    Args:
        text: plain or compressed.
        contents: Markdown with a heading that ends in the name of the text without .xz or .gz, and below it a table
            with the columns key, author, title, year, lines and words, in the order of the text.
    Raises:
        DataError: a file is missing or damaged; the table is missing, or has not as many lines as the text.
    """
    text, contents = Path(text), Path(contents)
    name = re.sub(r"\.(xz|gz)$", "", text.name)
    sections = re.split("^#+ (.*)$", read_text(contents), flags=re.MULTILINE)
    rows = [
        row
        for heading, section in zip(sections[1::2], sections[2::2], strict=True)
        if heading.split()[-1:] == [name]
        for row in map(_ROW.fullmatch, section.splitlines())
        if row
    ]
    if not rows:
        raise DataError(f"must have a table of the books below a heading {name}, but has none", path=contents)
    lines = read_lines(text)
    for row in rows:
        paragraphs = tuple(islice(lines, int(row["lines"])))
        if len(paragraphs) < int(row["lines"]):
            break
        yield Book(title=row["title"].strip(), author=row["author"].strip(), paragraphs=paragraphs)
    else:
        if next(lines, None) is None:
            return
    num_lines = sum(int(row["lines"]) for row in rows)
    raise DataError(f"must have {num_lines} lines, as in the table of {contents}, but has not", path=text)


def distinct(books: Iterable[Book], earlier: set[str], *, note: Callable[[str], None]) -> Iterator[Book]:
    """The books without duplicates in other editions or collections; each duplicate is noted.

    A book is a duplicate if more than half of its paragraphs start with the same eight words as a paragraph of earlier
    books. Paragraphs of fewer words are not counted.

    Args:
        books: of a collection.
        earlier: the first words of paragraphs in earlier collections, empty before the first; those of `books` are
            added.
        note: called with a sentence for each duplicate.
    """
    for book in books:
        openings = [opening for paragraph in book.paragraphs if (opening := _opening(paragraph))]
        if sum(opening in earlier for opening in openings) > len(openings) / 2:
            note(f"left out, as a duplicate: {book.title}, {book.author}")
        else:
            yield book
        earlier.update(openings)


def _opening(paragraph: str) -> str:
    words = normalize(paragraph[:200], TextOptions()).split()
    return " ".join(words[:RUN_WORDS]) if len(words) >= RUN_WORDS else ""


def _parse(path: Path) -> Element:
    try:
        root = ElementTree.fromstring(read_text(path))
    except ElementTree.ParseError as error:
        raise DataError(f"must be XML, but is not: {error}", path=path) from error
    level = [root]
    for _ in range(_DEEPEST):
        level = [child for element in level for child in element]
    if level:
        raise DataError(f"must have elements at most {_DEEPEST} deep, but has deeper ones", path=path)
    return root


def _book(path: Path, *, title: str, author: str, paragraphs: Iterable[str]) -> Book:
    book = Book(title=title, author=author, paragraphs=tuple(filter(None, paragraphs)))
    if not (book.title and book.paragraphs):
        raise DataError("must have a title and paragraphs, but has not", path=path)
    return book


def _paragraphs(element: Element) -> Iterator[str]:
    """The text of each paragraph in an element; a paragraph in another is part of it."""
    if (name := _local(element)) == "p":
        yield _spelled(element)
    elif name not in _LEFT_OUT:
        for child in element:
            yield from _paragraphs(child)


def _spelled(element: Element | None) -> str:
    """The text of an element in one line, with ASCII quotes and dashes."""
    return "" if element is None else " ".join("".join(_texts(element)).translate(_ASCII).split())


def _texts(element: Element) -> Iterator[str]:
    name = _local(element)
    if name in _BREAKS:
        yield " "
    if name not in _LEFT_OUT and "noteref" not in element.get(_EPUB_TYPE, ""):
        yield element.text or ""
        for child in element:
            yield from _texts(child)
            yield child.tail or ""


def _local(element: Element) -> str:
    """The name of an element without its namespace; empty for comments."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
