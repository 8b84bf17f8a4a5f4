"""Sentences of people's texts."""

from __future__ import annotations

import sys
import time
import zipfile

import pytest

from asr.errors import ConfigError, DataError
from asr.lm.documents import read_sentences_of, split_sentences


@pytest.mark.parametrize(
    ("lines", "sentences"),
    [
        (["One. Two? Three!", "Four"], ["One.", "Two?", "Three!", "Four"]),
        (["A line that an editor", "has wrapped. And more"], ["A line that an editor has wrapped.", "And more"]),
        (
            ["a list of sentences.", "in lower case.", "all of it."],
            ["a list of sentences.", "in lower case.", "all of it."],
        ),
        (
            ["a text without", "capitals has a sentence", "a line"],
            ["a text without", "capitals has a sentence", "a line"],
        ),
        (["Mr. Brown went to St. Ives", "with J. Smith. So."], ["Mr. Brown went to St. Ives with J. Smith.", "So."]),
        (["HELLO", "WORLD"], ["HELLO", "WORLD"]),
        (['He said "no." Then', "", "he left"], ['He said "no', "Then", "he left"]),
        ([], []),
        (["", "  "], []),
    ],
)
def test_sentences_end_at_marks_and_lines(lines: list[str], sentences: list[str]) -> None:
    found = [sentence for sentence in split_sentences(lines) if sentence]
    assert [sentence.rstrip('."') for sentence in found] == [sentence.rstrip('."') for sentence in sentences]


def test_markdown_is_read_without_its_marks(tmp_path) -> None:
    (tmp_path / "a.md").write_text(
        "# Install it\n\nRun `pip install x` **first**, see [the docs](https://example.org/a_b).\n\n"
        "```python\nimport secret\n```\n\n- one item\n- another <br> item\n1. a third\n\n| cell | other |\n"
    )
    text = "\n".join(read_sentences_of(tmp_path / "a.md"))
    assert "secret" not in text and "pip" not in text and "example" not in text and "br" not in text
    assert [" ".join(line.split()) for line in text.split("\n") if line.strip()] == [
        "Install it",
        "Run first , see the docs.",
        "one item",
        "another item",
        "a third",
        "cell other",
    ]


@pytest.mark.parametrize("piece", ["[", "[a](", "![", "<", "`", "*"])
def test_markdown_is_read_in_linear_time(tmp_path, piece: str) -> None:
    (tmp_path / "a.md").write_text(100_000 * piece)  # a square of this takes minutes
    start = time.process_time()
    list(read_sentences_of(tmp_path / "a.md"))
    assert time.process_time() - start < 5


def test_a_long_paragraph_is_read_in_linear_time() -> None:
    start = time.process_time()
    (sentence,) = split_sentences(["A list", *["of words in lower case"] * 100_000])
    assert len(sentence.split()) == 500_002 and time.process_time() - start < 5


def test_a_word_document_gives_paragraphs_and_cells(tmp_path) -> None:
    docx = pytest.importorskip("docx")
    document = docx.Document()
    document.add_paragraph("The stent was placed. It held.")
    document.add_table(rows=1, cols=2).rows[0].cells[1].text = "dosage"
    document.save(tmp_path / "a.docx")
    found = [sentence for sentence in read_sentences_of(tmp_path / "a.docx") if sentence]
    assert found == ["The stent was placed.", "It held.", "dosage"]


def test_a_damaged_word_document_is_an_error(tmp_path) -> None:
    pytest.importorskip("docx")
    (tmp_path / "a.docx").write_bytes(b"PK not a document")
    with pytest.raises(DataError, match="the Word document cannot be read"):
        list(read_sentences_of(tmp_path / "a.docx"))


def test_a_word_document_that_unpacks_to_more_than_memory_is_an_error(tmp_path) -> None:
    pytest.importorskip("docx")
    with zipfile.ZipFile(tmp_path / "a.docx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", bytes((1 << 28) + (1 << 20)))
    with pytest.raises(DataError, match="its parts must have at most 256 MB, but have 257"):
        list(read_sentences_of(tmp_path / "a.docx"))


def test_a_missing_package_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "docx", None)
    with pytest.raises(ConfigError, match=r"to read a.docx, install python-docx: pip install 'asr\[documents\]'"):
        list(read_sentences_of(tmp_path / "a.docx"))


def test_a_missing_text_is_an_error(tmp_path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        list(read_sentences_of(tmp_path / "a.txt"))
