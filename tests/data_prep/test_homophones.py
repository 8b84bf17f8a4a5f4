from __future__ import annotations

import random
from collections import Counter

import pytest

from asr.corpora import homophones
from asr.corpora.homophones import Pair, count_written_small, make_pairs, prepare, read_pairs, write_pairs
from asr.corpora.lm_text import split_sentences
from asr.errors import DataError
from asr.text.normalization import TextOptions

PEAR, SUN, ITS = ("P", "EH", "R"), ("S", "AH", "N"), ("IH", "T", "S")
DICTIONARY = {
    "PAIR": PEAR,
    "PEAR": PEAR,
    "PARE": PEAR,
    "SUN": SUN,
    "SON": SUN,
    "ITS": ITS,
    "IT'S": ITS,
    "COLOR": ("K",),
    "COLOUR": ("K",),
    "SONS": ("S", "Z"),
    "SON'S": ("S", "Z"),
    "BE": ("B", "IY"),
    "B": ("B", "IY"),
    "JEAN": ("JH",),
    "GENE": ("JH",),
}
GROUPS = [("IT'S", "ITS"), ("PAIR", "PEAR"), ("SON", "SUN")]


def test_groups_leave_out_names_spellings_possessives_letters_and_rare_words():
    counts = dict.fromkeys(DICTIONARY, 25) | {"PARE": 24, "JEAN": 1}
    assert homophones.homophones(DICTIONARY, counts) == GROUPS


def test_words_written_small_are_counted(tmp_path):
    (tmp_path / "a.txt").write_text("Jean saw Jean's pear; it's a pear.\nPear!\n")
    assert count_written_small([tmp_path / "a.txt"]) == {"SAW": 1, "PEAR": 2, "IT'S": 1, "A": 1}


def test_a_pair_differs_in_one_word_and_does_not_depend_on_order():
    sentences = [f"THE {number} PEAR AND THE SUN" for number in range(40)] + ["NO SUCH WORD IN HERE"]
    sentences += ["PEAR AND SUN", "IT'S " * 26]  # too short, too long
    pairs = make_pairs(sentences, GROUPS)
    random.Random(0).shuffle(sentences)
    assert make_pairs(sentences, GROUPS) == pairs
    assert Counter((pair.word, pair.other) for pair in pairs) == {("PEAR", "PAIR"): 5, ("SUN", "SON"): 5}
    assert len({pair.right for pair in pairs}) == 10
    for pair in pairs:
        assert pair.right in sentences
        changed = [
            (one, other) for one, other in zip(pair.right.split(), pair.wrong.split(), strict=True) if one != other
        ]
        assert changed == [(pair.word, pair.other)]


def test_pairs_come_back_from_their_file(tmp_path):
    pairs = [Pair("A PEAR", "A PAIR", "PEAR", "PAIR"), Pair("IT'S HOT", "ITS HOT", "IT'S", "ITS")]
    write_pairs(pairs, tmp_path / "pairs.tsv")
    assert read_pairs(tmp_path / "pairs.tsv") == pairs
    with (tmp_path / "pairs.tsv").open("a") as file:
        file.write("A PEAR\tA PAIR\n")
    with pytest.raises(DataError, match=r"pairs.tsv:4: a line must have 4 columns, not 2"):
        read_pairs(tmp_path / "pairs.tsv")


def test_all_stages_together(tmp_path):
    (tmp_path / "learned.txt").write_text("a pair, a pear\n" * 100)
    (tmp_path / "held_out.txt").write_text("He ate the ripe pear. It was Mr. Brown who saw it!\n")
    path = prepare(
        held_out=[tmp_path / "held_out.txt"],
        texts=[tmp_path / "learned.txt"],
        dictionary=DICTIONARY,
        options=TextOptions(),
        destination=tmp_path / "pairs.tsv",
    )
    assert read_pairs(path) == [Pair("HE ATE THE RIPE PEAR", "HE ATE THE RIPE PAIR", "PEAR", "PAIR")]


def test_sentences_of_a_line():
    assert split_sentences('"Go!" she said. Mr. Brown went. So.') == ['"Go!" she said. ', "Mr. Brown went. ", "So."]
