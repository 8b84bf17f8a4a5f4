"""The network in onnxruntime and in torch, from the same folder; hostile words; and what the embedded model writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from asr.errors import DataError, InputError
from asr.readable.features import MOST_GRAMS, NetworkOptions, ReadableConfig, character_grams, encode, pause_features
from asr.readable.marked_text import CAPITALISED, LOWER, MARKS, UPPER, MarkedWord
from asr.readable.punctuator import ENGLISH, Punctuator, english_punctuator
from asr.readable.writing import write_text

WORDS = ["the", "merchant", "understood", "what", "the", "boy", "had", "said"]
NAN = float("nan")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch = pytest.importorskip("torch")
    from asr.readable.network import MarkNetwork

    torch.manual_seed(0)
    shape = NetworkOptions(embedding_size=8, buckets=50, hidden_size=6, case_size=5)
    config = ReadableConfig(entries=("the", "boy"), mixed={"mcdonald": "McDonald"}, network=shape)
    MarkNetwork(config).save(tmp_path / "model")
    return tmp_path / "model"


def test_both_runtimes_give_the_same_scores(folder: Path) -> None:
    torch = pytest.importorskip("torch")
    from asr.readable.network import MarkNetwork

    network, punctuator = MarkNetwork.load(folder), Punctuator.load(folder)
    numbers, grams = encode(WORDS, network.config)
    pauses = pause_features(np.array([0.1, NAN, 0.2, 0.3, 1.0, 2.0, 3.0, 0.4]))
    marks, cases = punctuator.scores(numbers, grams, pauses)
    with torch.no_grad():
        embedded = network.embed(torch.from_numpy(numbers), torch.from_numpy(grams))[None]
        expected, hidden = network(embedded, torch.from_numpy(pauses)[None])
        np.testing.assert_allclose(marks, expected[0].numpy(), atol=1e-5)
        for before in range(len(MARKS)):
            scores = network.case_scores(hidden, torch.full((1, len(WORDS)), before))
            np.testing.assert_allclose(cases[:, before], scores[0].numpy(), atol=1e-5)


def test_the_embedding_of_characters_is_a_mean(folder: Path) -> None:
    """A word without a number has the mean of the rows of its groups, computed here one by one."""
    torch = pytest.importorskip("torch")
    from asr.readable.network import MarkNetwork

    network = MarkNetwork.load(folder)
    numbers, grams = encode(["boys", "the"], network.config)
    assert numbers.tolist() == [0, 1]
    rows = [network.grams.weight[number] for number in character_grams("boys", 50)]
    expected = network.words.weight[0] + sum(rows) / len(rows)
    own = network.embed(torch.from_numpy(numbers), torch.from_numpy(grams))[0]
    torch.testing.assert_close(own, expected)


def test_groups_of_characters() -> None:
    grams = character_grams("at", 1 << 20)  # <at, <at>, at>
    assert len(grams) == 3 and all(1 <= number <= 1 << 20 for number in grams)
    assert len(character_grams("x" * 500, 8192)) <= MOST_GRAMS
    assert len(character_grams("antidisestablishmentarianism", 8192)) == MOST_GRAMS
    assert character_grams("", 8192) == []


def test_pauses_are_known_or_not() -> None:
    features = pause_features(np.array([NAN, 0.0, 0.25, 100.0]))
    np.testing.assert_allclose(features, [[0, 0], [1, 0], [1, 0.5], [1, 2**0.5]], rtol=1e-6)


def test_words_are_written_in_their_case(folder: Path) -> None:
    punctuator = Punctuator.load(folder)
    assert punctuator.written("MCDONALD", CAPITALISED) == "McDonald"
    assert punctuator.written("mcdonald", LOWER) == "mcdonald"
    assert punctuator.written("Usa", UPPER) == "USA"
    assert punctuator.written("I'M", LOWER) == "I'm"
    assert punctuator.written("'TIS", CAPITALISED) == "'Tis"


@pytest.mark.parametrize("words", [["A1", "42", "---", "'"], ["ÄÖ", "五", "ß", "\u0301"], ["x" * 3000], ["the"]])
def test_any_words_are_marked(folder: Path, words: list[str]) -> None:
    marked = Punctuator.load(folder).mark(words)
    assert [word.text.lower() for word in marked] == [word.lower() for word in words]
    assert Punctuator.load(folder).mark([]) == []


def test_entries_must_differ() -> None:
    with pytest.raises(InputError, match="entries must be different words; 1 occur again"):
        ReadableConfig(entries=("a", "b", "a"))


def test_a_folder_of_another_kind_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "kind": "language model"}))
    with pytest.raises(DataError, match="must hold a model of the kind 'readable model'"):
        Punctuator.load(folder)
    (folder / "config.json").write_text(json.dumps({**config, "network": {**config["network"], "hidden_size": 7}}))
    with pytest.raises(DataError, match="must have shape"):
        Punctuator.load(folder)


# --- the embedded model


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in ENGLISH.iterdir()) < 5_000_000


@pytest.mark.parametrize(
    "written",
    [
        "But the merchant understood what the boy had said.",
        "Where are you going? I am going home.",
        "My name is John, and I live in London with my sister.",
        "When he came back, she was gone.",
        "President Roosevelt spoke to the people of the United States.",
    ],
)
def test_simple_sentences_come_back(written: str) -> None:
    spoken = "".join(character for character in written.upper() if character not in ",.?!")
    assert write_text(spoken, english_punctuator()) == written


def test_a_context_of_words_continues_a_sentence() -> None:
    punctuator = english_punctuator()
    context = [MarkedWord(word, 0) for word in ("Then", "he", "went", "to", "the")]
    (word, *_) = punctuator.mark(["house", "of", "his", "father"], context=context)
    assert word.text == "house"
    (word, *_) = punctuator.mark(["house", "of", "his", "father"])
    assert word.text == "House"


def test_a_pause_helps_to_find_the_end_of_a_sentence() -> None:
    words = "he went home she stayed here".upper().split()
    pauses = np.full(6, 0.04)
    pauses[2] = 0.8
    assert english_punctuator().mark(words, pauses)[2].mark == MARKS.index(".")


def test_ten_thousand_words() -> None:
    text = "IT WAS THE BEST OF TIMES " * 1667
    written = write_text(text, english_punctuator())
    assert len(written.split()) == 10_002
