"""Books of each layout, made by hand, and what is read of them."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from asr.corpora.books import Book, distinct, read_collection, read_standard_ebook, read_tei
from asr.errors import DataError

TEI = """\
<?xml version="1.0" encoding="UTF-8"?>
<?xml-model href="eltec-1.rng" type="application/xml"?>
<TEI xmlns="http://www.tei-c.org/ns/1.0" xml:id="ENG1">
 <teiHeader><fileDesc><titleStmt>
  <title>The Quince: a Tale : ELTec edition</title><author>Pear, Ann (1801-1870)</author>
 </titleStmt><sourceDesc><bibl><title>Quince</title></bibl></sourceDesc></fileDesc></teiHeader>
 <text>
  <front><div type="titlepage"><p>The Quince</p></div></front>
  <body>
   <div type="chapter"><head>CHAPTER ONE</head>
    <!-- a remark -->
    <p>“It is a <hi>quince</hi>,” she<note>The <p>heroine</p>.</note> said—
      and  that was<pb n="7"/>all…</p>
    <quote><p>A letter.</p></quote>
    <p> </p>
    <l>A verse</l>
    <trailer>END OF ONE</trailer>
   </div>
  </body>
  <back><div type="notes"><p>Notes</p></div></back>
 </text>
</TEI>
"""
OPF = """\
<?xml version="1.0" encoding="utf-8"?>
<package xmlns="http://www.idpf.org/2007/opf">
 <metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
  <dc:title id="title">The Medlar</dc:title><dc:title id="subtitle">Another Tale</dc:title>
  <dc:creator id="author">Ann Pear</dc:creator>
 </metadata>
 <manifest>
  <item href="text/chapter-1.xhtml" id="chapter-1.xhtml"/><item href="text/chapter-2.xhtml" id="chapter-2.xhtml"/>
  <item href="text/preface.xhtml" id="preface.xhtml"/><item href="text/endnotes.xhtml" id="endnotes.xhtml"/>
  <item href="css/core.css" id="core.css"/>
 </manifest>
 <spine>
  <itemref idref="preface.xhtml"/><itemref idref="chapter-2.xhtml"/><itemref idref="chapter-1.xhtml"/>
  <itemref idref="endnotes.xhtml"/>
 </spine>
</package>
"""
XHTML = """\
<?xml version="1.0" encoding="utf-8"?>
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops">
 <head><title>Some title</title></head>
 <body epub:type="{matter} z3998:fiction">{body}</body>
</html>
"""


def standard_ebook(folder: Path) -> Path:
    """A checkout of a small made-up book; chapter 2 comes first."""
    bodies = {
        "preface": ("frontmatter", "<p>A preface.</p>"),
        "chapter-1": (
            "bodymatter",
            '<section epub:type="chapter"><header><h2>I</h2><p epub:type="title">The Tree</p></header>'
            '<p>‘Don’t eat <em>that</em>,’ said <abbr>Mrs.</abbr> Plum.<a href="#n1" epub:type="noteref">1</a> So\n'
            "she\u2060—well, did\u00a0not.</p>"
            "<blockquote><p><span>One line,</span><br/><span>another.</span></p><cite>Somebody</cite></blockquote>"
            "<table><tr><td><p>1</p></td></tr></table></section>",
        ),
        "chapter-2": ("bodymatter", "<section><h2>II</h2><p>First read.</p></section>"),
        "endnotes": ("backmatter", "<section><ol><li><p>A note.</p></li></ol></section>"),
    }
    text = folder / "src" / "epub" / "text"
    text.mkdir(parents=True)
    (text.parent / "content.opf").write_text(OPF)
    for name, (matter, body) in bodies.items():
        (text / f"{name}.xhtml").write_text(XHTML.format(matter=matter, body=body))
    return folder


def test_tei_gives_the_paragraphs_of_the_body(tmp_path: Path) -> None:
    (tmp_path / "book.xml").write_text(TEI)
    assert read_tei(tmp_path / "book.xml") == Book(
        title="The Quince: a Tale",
        author="Pear, Ann (1801-1870)",
        paragraphs=('"It is a quince," she said -- and that was all...', "A letter."),
    )


def test_a_standard_ebook_gives_the_paragraphs_of_the_body_matter_in_reading_order(tmp_path: Path) -> None:
    book = read_standard_ebook(standard_ebook(tmp_path / "ann-pear_the-medlar"))
    assert book == Book(
        title="The Medlar",
        author="Ann Pear",
        paragraphs=(
            "First read.",
            "'Don't eat that,' said Mrs. Plum. So she -- well, did not.",
            "One line, another.",
        ),
    )
    assert book.num_words == 2 + 11 + 3  # a dash is no word


@pytest.mark.parametrize(
    "text, problem",
    [
        (TEI[:300], r"must be XML, but is not"),
        (5000 * "<p>" + 5000 * "</p>", r"must have elements at most 100 deep, but has deeper ones"),
        ("<html/>", r"must be TEI with a titleStmt and a body, but is not"),
        (TEI.replace("<body>", "<group>").replace("</body>", "</group>"), r"must be TEI with a titleStmt and a body"),
        (TEI.replace("<p>", "<q>").replace("</p>", "</q>"), r"must have a title and paragraphs, but has not"),
    ],
)
def test_bad_tei(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "book.xml").write_text(text)
    with pytest.raises(DataError, match=rf"book\.xml.*{problem}"):
        read_tei(tmp_path / "book.xml")


def test_bad_standard_ebooks(tmp_path: Path) -> None:
    folder = standard_ebook(tmp_path)
    package = folder / "src" / "epub" / "content.opf"
    package.write_text(OPF.replace('<itemref idref="chapter-1.xhtml"/>', '<itemref idref="chapter-3.xhtml"/>'))
    with pytest.raises(DataError, match=r"must name each item of the spine, but does not name chapter-3\.xhtml"):
        read_standard_ebook(folder)
    package.write_text(OPF)
    (folder / "src" / "epub" / "text" / "chapter-1.xhtml").unlink()
    with pytest.raises(DataError, match=r"chapter-1\.xhtml.*cannot be read"):
        read_standard_ebook(folder)


CONTENTS = """\
# Texts
## novels.txt: books
| file | lines |
|---|---|
| novels.txt | 3 |
### novels.txt

| key | author | title | year | lines | words |
|---|---|---|---|---|---|
| A:Quince | Ann Pear | The Quince | 1850 | 2 | 4 |
| B:Medlar | Ann Pear | The Medlar | 1860 | 1 | 1 |

### novels_dev.txt

| key | author | title | year | lines | words |
|---|---|---|---|---|---|
| B:Plum | A Plum | Other | 1860 | 9 | 1 |
"""


def test_a_collection_is_cut_at_the_lines_of_its_table(tmp_path: Path) -> None:
    text, contents = tmp_path / "novels.txt.xz", tmp_path / "README.md"
    contents.write_text(CONTENTS)
    text.write_bytes(lzma.compress(b"One two.\nThree four.\nFive.\n"))
    assert list(read_collection(text, contents)) == [
        Book(title="The Quince", author="Ann Pear", paragraphs=("One two.", "Three four.")),
        Book(title="The Medlar", author="Ann Pear", paragraphs=("Five.",)),
    ]
    for lines in (b"One two.\nThree four.\n", b"One two.\nThree four.\nFive.\nSix.\n"):
        text.write_bytes(lzma.compress(lines))
        with pytest.raises(DataError, match=r"novels\.txt\.xz.*must have 3 lines, as in the table of .*README\.md"):
            list(read_collection(text, contents))
    contents.write_text(CONTENTS.replace("### novels.txt\n", "### others.txt\n"))
    with pytest.raises(DataError, match=r"must have a table of the books below a heading novels\.txt, but has none"):
        list(read_collection(text, contents))


def test_a_book_of_an_earlier_collection_is_a_duplicate(tmp_path: Path) -> None:
    paragraphs = [f"Paragraph {number} has eight words or more, as {number} shows." for number in range(10)]
    earlier: set[str] = set()
    notes: list[str] = []

    def rest(*books: tuple[str, list[str]]) -> list[str]:
        made = [Book(title=title, author="Ann Pear", paragraphs=tuple(lines)) for title, lines in books]
        return [book.title for book in distinct(made, earlier, note=notes.append)]

    assert rest(("Quince", paragraphs), ("Medlar", ["Yes.", "No."])) == ["Quince", "Medlar"]
    edition = [f"{paragraph.upper().replace('HAS', 'has')} And more words." for paragraph in paragraphs]
    half = [*paragraphs[:5], *(f"New {paragraph}" for paragraph in paragraphs[5:])]
    most = [*paragraphs[:6], *(f"Other {paragraph}" for paragraph in paragraphs[6:])]
    assert rest(("Quince, 1850", edition), ("Half", half), ("Most", most), ("Plum", ["Yes.", "No."])) == [
        "Half",
        "Plum",
    ]
    assert notes == [f"left out, as a duplicate: {title}, Ann Pear" for title in ("Quince, 1850", "Most")]
