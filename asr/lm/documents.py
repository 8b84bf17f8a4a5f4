"""People's texts as sentences: plain text, Markdown, Word documents, manifests.

Mails, manuals and notes have paragraphs, not one sentence a line. A sentence ends where `asr.text.sentence_ends` says,
or at a line's end; but a line that begins in lower case continues a paragraph, as in text that an editor has wrapped. A
paragraph does not begin in lower case, so a text without capitals has a sentence a line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from zipfile import ZipFile

from asr.data.manifest import is_manifest
from asr.errors import ConfigError, DataError
from asr.lm.corpus import read_lines, read_texts
from asr.text.sentence_ends import ends_sentence

MOST_BYTES = 1 << 28  # of the parts of a Word document; all of them are in memory at once
_FENCE = re.compile(r"\s*(```|~~~)")
_MARKDOWN = (
    (re.compile(r"!?\[([^\[\]]*)\]\([^()]*\)"), r"\1"),  # links and pictures: what is read of them
    (re.compile(r"<[^<>]*>|https?://\S+|`[^`]*`"), " "),  # tags, addresses, code
    (re.compile(r"^\s*(?:[#>*+-]+|\d+[.)])\s+"), "\n"),  # headings, quotes and items begin a line of their own
    (re.compile(r"[*_|#]+"), " "),
)


def read_sentences_of(path: str | os.PathLike[str]) -> Iterator[str]:
    """The sentences of a document, not normalised; texts of a manifest as they are.

    Args:
        path: Markdown (.md), a Word document (.docx, needs `asr[documents]`), a manifest, or any other text: plain, .gz
            or .xz.
    Raises:
        DataError: the file cannot be read, or is not of its kind.
        ConfigError: a package that the kind needs is missing.
    """
    name = os.fspath(path).lower()
    if is_manifest(path):
        return read_texts(path)
    if name.endswith(".docx"):
        return split_sentences(_word_paragraphs(Path(path)))
    if name.endswith((".md", ".markdown")):
        return split_sentences(_without_markdown(read_lines(path)))
    return split_sentences(read_lines(path))


def split_sentences(lines: Iterable[str]) -> Iterator[str]:
    """The sentences of some lines; see the module."""
    paragraph: list[str] = []  # words
    for line in lines:
        is_open = paragraph and not paragraph[0][0].islower() and not ends_sentence(paragraph[-1], "")
        if not (is_open and line[:1].islower()):
            yield from _sentences(paragraph)
            paragraph = []
        paragraph += line.split()
    yield from _sentences(paragraph)


def _sentences(words: Sequence[str]) -> Iterator[str]:
    """The sentences of a paragraph, with single spaces."""
    first = 0
    for end in range(1, len(words) + 1):
        if end == len(words) or ends_sentence(words[end - 1], words[end]):
            yield " ".join(words[first:end])
            first = end


def _without_markdown(lines: Iterable[str]) -> Iterator[str]:
    """The lines without code, addresses and marks of Markdown."""
    fence = ""
    for line in lines:
        mark = _FENCE.match(line)
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1] == fence:
            fence = ""
        elif not fence:
            for pattern, replacement in _MARKDOWN:
                line = pattern.sub(replacement, line)
            yield from line.split("\n")


def _word_paragraphs(path: Path) -> Iterator[str]:
    try:
        from docx import Document
    except ImportError:
        raise ConfigError(f"to read {path.name}, install python-docx: pip install 'asr[documents]'") from None
    try:
        with ZipFile(path) as archive:
            if (size := sum(part.file_size for part in archive.infolist())) > MOST_BYTES:
                raise ValueError(f"its parts must have at most {MOST_BYTES >> 20} MB, but have {size >> 20}")
        document = Document(os.fspath(path))
    except Exception as error:  # python-docx lets errors of zip files, XML and packages through
        raise DataError(f"the Word document cannot be read: {error}", path=path) from None
    for paragraph in document.paragraphs:
        yield paragraph.text
    for table in document.tables:
        for row in table.rows:
            yield from (cell.text for cell in row.cells)
