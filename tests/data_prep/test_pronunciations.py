"""Derived pronunciations against those that CMUdict itself gives such forms."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from asr.corpora.pronunciations import derive, lexicon, read_cmudict
from asr.errors import DataError
from asr.training.lexicon import Lexicon

WORDS = {
    "CAT": "K AE T",
    "DOG": "D AO G",
    "HOUSE": "HH AW S",
    "BAKE": "B EY K",
    "STOP": "S T AA P",
    "ADD": "AE D",
    "HAPPY": "HH AE P IY",
    "KIND": "K AY N D",
    "DOOR": "D AO R",
    "STEP": "S T EH P",
    "BUFFALO": "B AH F AH L OW",
}
DICTIONARY = {word: tuple(phones.split()) for word, phones in WORDS.items()}


@pytest.mark.parametrize(
    "word, phones",
    [
        ("CATS", "K AE T S"),
        ("CAT'S", "K AE T S"),
        ("DOGS", "D AO G Z"),
        ("HOUSES", "HH AW S IH Z"),
        ("BUFFALOES", "B AH F AH L OW Z"),
        ("BAKED", "B EY K T"),
        ("STOPPED", "S T AA P T"),
        ("ADDED", "AE D IH D"),
        ("DOGGED", "D AO G D"),
        ("DOG'D", "D AO G D"),
        ("BAKING", "B EY K IH NG"),
        ("STOPPING", "S T AA P IH NG"),
        ("STOPPER", "S T AA P ER"),
        ("KINDLY", "K AY N D L IY"),
        ("KINDNESS", "K AY N D N AH S"),
        ("KINDEST", "K AY N D AH S T"),
        ("UNKIND", "AH N K AY N D"),
        ("DOORSTEP", "D AO R S T EH P"),
        ("DOGHOUSE", "D AO G HH AW S"),
        ("CATX", None),
        ("X", None),
        ("S", None),
        ("ING", None),
        ("DOORS'", None),
    ],
)
def test_forms(word: str, phones: str | None) -> None:
    assert derive(word, DICTIONARY) == (None if phones is None else tuple(phones.split()))


def test_the_dictionary_as_published(tmp_path: Path) -> None:
    text = "'bout B AW1 T\na AH0\na(2) EY1\naaa T R IH2 P AH0 L EY1 # abbrev\n\n"
    plain, packed = tmp_path / "cmudict.dict", tmp_path / "cmudict.txt.xz"
    plain.write_text(text)
    packed.write_bytes(lzma.compress(text.encode()))
    expected = {"'BOUT": ("B", "AW", "T"), "A": ("AH",), "AAA": ("T", "R", "IH", "P", "AH", "L", "EY")}
    assert read_cmudict(plain) == read_cmudict(packed) == expected
    plain.write_text("a AH0\nb\n")
    with pytest.raises(DataError, match=":2: each word must have phones, but 'b' has none"):
        read_cmudict(plain)


def test_a_training_reads_the_lexicon(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.txt"
    path.write_text(lexicon(["DOGS", "UTTERLY", "CAT"], DICTIONARY))
    read = Lexicon(path)
    labels = read.encode("CAT DOGS")
    assert labels is not None
    assert [read.phones[label - 1] for label in labels] == ["K", "AE", "T", "D", "AO", "G", "Z"]
    assert read.unknown("DOGS UTTERLY BUFFALO") == ["UTTERLY"]
