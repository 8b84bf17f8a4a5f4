"""The texts of language models, from a small made-up book of each layout."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from recipes.english_lm import texts
from tests.data_prep.test_books import CONTENTS, TEI, standard_ebook
from tests.data_prep.test_titles import CHAPTERS


def test_each_collection_becomes_a_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "CHAPTERS.TXT").write_text(CHAPTERS)
    (tmp_path / "README.md").write_text(CONTENTS.replace("| The Medlar |", "| The Secret Agent |"))
    (tmp_path / "novels.txt").write_text("One two.\nThree four.\nFive.\n")
    (tmp_path / "eltec" / "level1").mkdir(parents=True)
    (tmp_path / "eltec" / "level1" / "1.xml").write_text(TEI)
    standard_ebook(tmp_path / "ebooks" / "ann-pear_the-medlar")
    flags = ["--chapters", "CHAPTERS.TXT", "--novels", "novels.txt", "README.md", "--eltec", "eltec"]
    flags += ["--standard-ebooks", "ebooks", "--output", "out"]
    arguments = [flag if flag.startswith("--") else str(tmp_path / flag) for flag in flags]
    assert texts.main(arguments) == 0
    lines = {
        path.name: lzma.decompress(path.read_bytes()).decode().splitlines() for path in (tmp_path / "out").iterdir()
    }
    assert lines == {
        "novels.txt.xz": ["One two.", "Three four."],
        "eltec.txt.xz": ['"It is a quince," she said -- and that was all...', "A letter."],
        "standard_ebooks.txt.xz": [
            "First read.",
            "'Don't eat that,' said Mrs. Plum. So she -- well, did not.",
            "One line, another.",
        ],
    }
    output = capsys.readouterr()
    assert output.out.splitlines() == [
        "novels.txt.xz: 1 books, 4 words",
        "eltec.txt.xz: 1 books, 12 words",
        "standard_ebooks.txt.xz: 1 books, 16 words",
    ]
    assert "left out, as a book of a dev or test set: The Secret Agent, Ann Pear" in output.err


@pytest.mark.parametrize(
    "flags, problem",
    [
        ([], "give --novels, --eltec or --standard-ebooks"),
        (["--eltec", "."], "--eltec must be a folder with level1/*.xml, but . has none"),
        (["--standard-ebooks", "."], "--standard-ebooks must be a folder with */src, but . has none"),
    ],
)
def test_nothing_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flags: list[str], problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("CHAPTERS.TXT").write_text(CHAPTERS)
    assert texts.main(["--chapters", "CHAPTERS.TXT", "--output", "out", *flags]) == 2
    assert problem in capsys.readouterr().err
