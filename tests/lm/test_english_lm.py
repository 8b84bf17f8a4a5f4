"""The general English language model that comes with the package: what it says, how large it is, where it is used."""

from __future__ import annotations

import pytest

from asr.cli.lm import main
from asr.lm.prefix_tree import score_together
from asr.lm.recurrent import DEFAULT_LANGUAGE_MODEL, embedded_language_models, find_language_model
from asr.lm.rnn import LanguageModel

# Everyday sentences, each with a word in the place of one that sounds alike.
PAIRS = (
    ("The apple and pear salad", "The apple and pair salad"),
    ("He bought a pair of shoes", "He bought a pear of shoes"),
    ("I will write you a letter", "I will right you a letter"),
    ("You were right about him", "You were write about him"),
    ("They are waiting for their father", "They are waiting for there father"),
    ("There is nothing to be done", "Their is nothing to be done"),
    ("We could hear the sea from the house", "We could here the sea from the house"),
    ("Come here at once", "Come hear at once"),
    ("I do not know what you mean", "I do not no what you mean"),
    ("She looked him in the eye", "She looked him in the I"),
    ("He threw the ball over the wall", "He through the ball over the wall"),
    ("They walked through the wood", "They walked threw the wood"),
    ("It was the whole truth", "It was the hole truth"),
    ("There was a hole in the wall", "There was a whole in the wall"),
    ("He had been ill for a week", "He had been ill for a weak"),
    ("She was too weak to stand", "She was too week to stand"),
    ("I would like to meet him", "I would like to meat him"),
    ("We had bread and meat for dinner", "We had bread and meet for dinner"),
    ("Which way did they go", "Which weigh did they go"),
    ("The sun rose over the hills", "The son rose over the hills"),
    ("His only son was killed in the war", "His only sun was killed in the war"),
    ("One of them began to laugh", "Won of them began to laugh"),
    ("It is time to go to bed", "It is time too go to bed"),
    ("The two men shook hands", "The to men shook hands"),
    ("By the end of the day", "Buy the end of the day"),
)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel.load(find_language_model())


def test_it_is_embedded_and_small() -> None:
    folder = embedded_language_models()[DEFAULT_LANGUAGE_MODEL]
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 20e6


def test_it_prefers_what_people_say(model: LanguageModel) -> None:
    right, wrong = (score_together(model, [pair[side] for pair in PAIRS]) for side in (0, 1))
    assert right[0] > wrong[0]
    assert (right > wrong).mean() >= 0.92


def test_its_provenance_says_what_it_read_and_how_well(model: LanguageModel) -> None:
    said = model.config.provenance
    assert "CC BY" in said["licence"] and said["tokens"] > 1e7
    assert 0.9 < said["results"]["words"]["homophones"] < 1


def test_asr_lm_uses_it_when_none_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", *PAIRS[0]]) == 0
    right, wrong = (float(line.split("\t")[0]) for line in capsys.readouterr().out.splitlines())
    assert right > wrong
    assert main(["sample", "--count", "2", "--seed", "1"]) == 0
    sampled = capsys.readouterr().out.splitlines()
    assert len(sampled) == 2 and all(line.isupper() for line in sampled)
    assert main(["sample", "--prompt", "she looked at", "--seed", "1"]) == 0
    assert capsys.readouterr().out.startswith("SHE LOOKED AT")


@pytest.mark.parametrize("sentence", ["", "Ünïcödé 好棒", "zzyzx qwrtp", "1999", "a" * 1_000_000, "go " * 300_000])
def test_odd_sentences_have_a_finite_price(sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", sentence]) == 0
    assert -1e9 < float(capsys.readouterr().out.split("\t")[0]) < 0
