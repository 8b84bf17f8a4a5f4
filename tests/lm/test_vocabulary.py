"""Vocabularies: every token has one number and comes back as itself; what is not known is counted or refused."""

from __future__ import annotations

import gzip
import lzma
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from asr.data.manifest import Utterance, write_manifest
from asr.errors import ConfigError, DataError, InputError
from asr.lm import vocabulary
from asr.lm.corpus import read_lines, read_sentences, read_texts
from asr.lm.vocabulary import EOS, UNK, Vocabulary, VocabularyOptions, build_vocabulary
from asr.text.normalization import TextOptions

WORDS = Vocabulary("word", ("THE", "PEAR", "PAIR"))
CHARACTERS = Vocabulary("character", (" ", "E", "好"))


def test_marks_are_no_words_of_a_language_model(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("<s> the cat </s>\n[music]\nthe <unk> sat\n")
    assert list(read_sentences([path], TextOptions())) == ["THE CAT", "THE SAT"]
    assert "S THE CAT S" in read_sentences([path], TextOptions(marks="keep"))
    with pytest.raises(DataError, match=r"text.txt:1: a text must have no marks, but has '<s>'"):
        list(read_sentences([path], TextOptions(marks="refuse")))


def test_tokens_are_numbered_after_the_special_ones() -> None:
    assert WORDS.size == 5
    assert WORDS.encode("THE PAIR") == [2, 4]
    assert [WORDS.token_text(token) for token in range(5)] == ["<eos>", "<unk>", "THE", "PEAR", "PAIR"]
    assert CHARACTERS.size == 4
    assert CHARACTERS.encode("E好 E") == [2, 3, 1, 2]
    assert [CHARACTERS.token_text(token) for token in range(4)] == ["<eos>", " ", "E", "好"]
    assert WORDS.encode("") == CHARACTERS.encode("") == []
    assert "PEAR" in WORDS and "<unk>" not in WORDS


def test_a_text_that_spells_a_special_token_is_not_one() -> None:
    assert WORDS.encode("<eos> <unk>") == [UNK, UNK]
    options = VocabularyOptions(min_count=1)
    assert build_vocabulary(["<unk> <eos> A"], options).entries == ("A",)


def test_words_that_are_missing_become_unknown_and_are_counted() -> None:
    tokens = WORDS.encode("THE PLUM PAIR PLUM")
    assert tokens == [2, UNK, 4, UNK]
    assert WORDS.count_unknown(np.array(tokens)) == 2
    assert CHARACTERS.count_unknown(np.array([UNK])) == 0  # there it is a character


def test_characters_that_are_missing_are_refused_or_counted() -> None:
    with pytest.raises(InputError, match=r"every character must be one of the model's 3, but the text has 'X', 'é'"):
        CHARACTERS.encode("éXE")
    dropped: Counter[str] = Counter()
    assert CHARACTERS.encode("éXEX", dropped=dropped) == [2]
    assert dropped == {"X": 2, "é": 1}


@given(st.lists(st.sampled_from(WORDS.entries)), st.text(alphabet=CHARACTERS.entries))
def test_what_is_encoded_comes_back(words: list[str], text: str) -> None:
    assert WORDS.decode(WORDS.encode(" ".join(words))) == " ".join(words)
    assert CHARACTERS.decode(CHARACTERS.encode(text)) == text


def test_a_token_outside_is_refused() -> None:
    for token in (-1, 5):
        with pytest.raises(InputError, match=rf"a token must lie in 0 \.\. 4, not {token}"):
            WORDS.token_text(token)


@pytest.mark.parametrize(
    ("unit", "entries", "message"),
    [
        ("syllable", ("A",), "the unit of a vocabulary must be one of word, character, not 'syllable'"),
        ("word", (), "a vocabulary must have at least one word"),
        ("word", ("A", "B", "A"), "must differ; repeated: 'A'"),
        ("word", ("A B",), "must be one word; got 'A B'"),
        ("word", ("",), "must be one word; got ''"),
        ("word", (3,), "must be one word; got 3"),
        ("character", ("AB",), "must be one character; got 'AB'"),
    ],
)
def test_what_is_no_vocabulary_is_refused(unit, entries, message) -> None:
    with pytest.raises(InputError, match=message):
        Vocabulary(unit, entries)


def test_the_most_frequent_words_are_chosen_and_ties_go_by_code_point() -> None:
    sentences = ["B A C", "B A D", "B"]
    assert build_vocabulary(sentences, VocabularyOptions(min_count=1)).entries == ("B", "A", "C", "D")
    assert build_vocabulary(sentences, VocabularyOptions(min_count=2)).entries == ("B", "A")
    assert build_vocabulary(sentences, VocabularyOptions(min_count=1, max_size=3)).entries == ("B", "A", "C")
    assert build_vocabulary(sentences, VocabularyOptions(min_count=1, max_size=0)).entries == ("B", "A", "C", "D")


def test_of_characters_all_are_chosen() -> None:
    options = VocabularyOptions(unit="character", min_count=5, max_size=1)
    assert build_vocabulary(["BA A", "C"], options).entries == ("A", " ", "B", "C")


def test_a_text_without_words_is_refused() -> None:
    with pytest.raises(DataError, match="must have a word that occurs at least 2 times, but has none"):
        build_vocabulary(["A B"], VocabularyOptions())


def test_of_a_huge_text_words_that_hardly_come_are_forgotten(monkeypatch) -> None:
    monkeypatch.setattr(vocabulary, "MOST_TYPES", 3)
    sentences = ["A A A B B", "C", "D", "E", "A"]
    assert build_vocabulary(sentences, VocabularyOptions(min_count=2)).entries[:2] == ("A", "B")


@pytest.mark.parametrize(
    ("given", "message"),
    [({"max_size": -1}, "max_size must be at least 0, not -1"), ({"min_count": 0}, "min_count must be at least 1")],
)
def test_wrong_options_are_refused(given, message) -> None:
    with pytest.raises(ConfigError, match=message):
        VocabularyOptions(**given)


# Text on disk


@pytest.mark.parametrize(("suffix", "opener"), [(".txt", open), (".gz", gzip.open), (".xz", lzma.open)])
def test_lines_of_plain_and_packed_files_are_the_same(tmp_path: Path, suffix, opener) -> None:
    path = tmp_path / f"text{suffix}"
    with opener(path, "wb") as file:
        file.write("one\r\n\n  zwölf 好 \nlast".encode())
    assert list(read_lines(path)) == ["one", "", "  zwölf 好 ", "last"]
    assert list(read_sentences([path, path], TextOptions())) == ["ONE", "ZWÖLF 好", "LAST"] * 2


def test_of_a_manifest_the_texts_are_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(16000), 16000)
    utterances = [
        Utterance(id=name, audio=tmp_path / "a.wav", duration_seconds=1.0, text=text)
        for name, text in (("a", "one, two"), ("b", "..."), ("c", "three"))
    ]
    write_manifest(utterances, tmp_path / "cuts.jsonl.gz")
    assert list(read_texts(tmp_path / "cuts.jsonl.gz")) == ["one, two", "...", "three"]
    assert list(read_sentences([tmp_path / "cuts.jsonl.gz"], TextOptions())) == ["ONE TWO", "THREE"]
    (tmp_path / "text.jsonl").write_text("one two\n")
    with pytest.raises(DataError, match=r"text.jsonl:1: each line must be one JSON object"):
        list(read_texts(tmp_path / "text.jsonl"))


def test_text_that_cannot_be_read_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.txt: the text cannot be read: No such file"):
        list(read_lines(tmp_path / "none.txt"))
    (tmp_path / "latin.txt").write_bytes(b"fine\nna\xefve\n")
    with pytest.raises(DataError, match=r"latin.txt:2: the text must be UTF-8, but .* at byte 2"):
        list(read_lines(tmp_path / "latin.txt"))
    (tmp_path / "plain.gz").write_bytes(b"not packed")
    with pytest.raises(DataError, match=r"plain.gz: the text cannot be read: "):
        list(read_lines(tmp_path / "plain.gz"))
    packed = lzma.compress(b"a line\n" * 100_000)
    (tmp_path / "cut.xz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match=r"cut.xz: the text cannot be read after line \d+: "):
        list(read_lines(tmp_path / "cut.xz"))


def test_the_special_numbers() -> None:
    """Files of tokens and model folders depend on them."""
    assert (EOS, UNK) == (0, 1)
