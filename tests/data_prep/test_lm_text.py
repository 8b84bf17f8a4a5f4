"""Text for language models: sentences, spelling, and what is kept out."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from asr.corpora.english import LETTERS
from asr.corpora.lm_text import write_lm_text
from asr.corpora.overlap import Withheld
from asr.errors import DataError
from asr.text.normalization import TextOptions

NOTHING = Withheld([])


def made(tmp_path: Path, *texts: str, withheld: Withheld = NOTHING) -> tuple[list[str], list[str]]:
    """The lines that are written for files with these texts, the second one compressed; and the notes."""
    sources = [tmp_path / "one.txt", tmp_path / "two.txt.xz"][: len(texts)]
    for source, text in zip(sources, texts, strict=True):
        source.write_bytes(lzma.compress(text.encode()) if source.suffix == ".xz" else text.encode())
    notes: list[str] = []
    path = write_lm_text(
        sources,
        tmp_path / "lm.txt",
        withheld=withheld,
        options=TextOptions(),
        characters=LETTERS,
        note=notes.append,
    )
    return path.read_text().splitlines(), notes


@pytest.mark.parametrize(
    "line, sentences",
    [
        ("It rained. It didn't stop!", ["IT RAINED", "IT DIDN'T STOP"]),
        ('"Why?" he asked. "No why."', ["WHY HE ASKED", "NO WHY"]),
        ('He left. "Now?" She did.', ["HE LEFT", "NOW", "SHE DID"]),
        ("Mr. Bennet and Dr. J. Watson.", ["MISTER BENNET AND DOCTOR J WATSON"]),
        ("Mr and Mrs. Hill left St. Ives.", ["MISTER AND MISSUS HILL LEFT SAINT IVES"]),
        ("He lived in Mill St. again.", ["HE LIVED IN MILL ST AGAIN"]),
        ("At 3.5 of it. Then more.", ["THEN MORE"]),
        ("café", []),
        ("...", []),
    ],
)
def test_sentences(tmp_path: Path, line: str, sentences: list[str]) -> None:
    assert made(tmp_path, f"{line}\n")[0] == sentences


def test_withheld_lines_go_whole(tmp_path: Path) -> None:
    withheld = Withheld(["FIVE SIX SEVEN EIGHT NINE TEN ELEVEN TWELVE", "OH NO"])
    first = "One, two, three. Four five six seven. Eight nine ten eleven. Twelve thirteen.\nOh no!\nOh no no.\n"
    lines, notes = made(tmp_path, first, "Five six seven eight. In 1984.\n", withheld=withheld)
    assert lines == ["OH NO NO", "FIVE SIX SEVEN EIGHT"]
    assert notes == [
        "one.txt: 1 sentences of 3 words; left out 2 lines that share words with a dev or test set, and 0 sentences "
        "with digits or other characters that the model lacks",
        "two.txt.xz: 1 sentences of 4 words; left out 0 lines that share words with a dev or test set, and 1 sentences "
        "with digits or other characters that the model lacks",
    ]


def test_a_bad_file_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "two.txt.xz").write_bytes(lzma.compress(b"One.\n" * 1000)[:-20])
    with pytest.raises(DataError, match=r"two\.txt\.xz"):
        write_lm_text(
            [tmp_path / "two.txt.xz"],
            tmp_path / "lm.txt",
            withheld=NOTHING,
            options=TextOptions(),
            characters=LETTERS,
            note=print,
        )
    assert [path.name for path in tmp_path.iterdir()] == ["two.txt.xz"]
