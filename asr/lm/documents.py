"""People's texts as sentences: plain text, Markdown, Word documents, manifests.

Mails, manuals and notes have paragraphs, not one sentence a line. A sentence ends at a full stop, a question or
exclamation mark, or a line's end; but a line that begins in lower case continues the line before, as in text that an
editor has wrapped.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from asr.data.manifest import is_manifest
from asr.errors import ConfigError, DataError
from asr.lm.corpus import read_lines, read_texts

_SENTENCE_END = re.compile(r"""(?<=[.!?…])["”’')\]]*\s+""")
_FENCE = re.compile(r"\s*(```|~~~)")
_MARKDOWN = (
    (re.compile(r"!?\[([^\]]*)\]\([^)]*\)"), r"\1"),  # links and pictures: what is read of them
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
    paragraph = ""
    for line in lines:
        continues = line[:1].islower() and paragraph and not _SENTENCE_END.search(paragraph[-3:] + " ")
        if not continues and paragraph:
            yield from _SENTENCE_END.split(paragraph)
            paragraph = ""
        paragraph = f"{paragraph} {line.strip()}".strip()
    yield from _SENTENCE_END.split(paragraph)


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
        document = Document(os.fspath(path))
    except Exception as error:  # python-docx lets errors of zip files, XML and packages through
        raise DataError(f"the Word document cannot be read: {error}", path=path) from None
    for paragraph in document.paragraphs:
        yield paragraph.text
    for table in document.tables:
        for row in table.rows:
            yield from (cell.text for cell in row.cells)
