"""Speech made from text: a voice that hums in the place of the network, everything around it as it is."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.corpora import english
from asr.corpora.overlap import Withheld
from asr.corpora.pronunciations import read_cmudict
from asr.data.manifest import read_manifest
from recipes.english import run as recipe
from recipes.english import synthesize as recipe_of_speech
from recipes.english.synthesize import choose, main, make_plan, readable

WORDS = {"the": "DH AH0", "cat": "K AE1 T", "dog": "D AO1 G", "sat": "S AE1 T", "don't": "D OW1 N T", "on": "AA1 N"}
NOTHING = Withheld([])


class Humming:
    """A voice model whose sentences last as long as spoken ones; that of `silent` is silent."""

    name = "kokoro"
    voices = ("af_ann", "am_ben", "bf_cat", "zf_dai")
    credit = {"model": "a hum, Apache 2.0"}  # noqa: RUF012
    silent = ""
    patience = sys.maxsize

    def __init__(self, folder: Path, *, threads: int | None):
        self.said: list[tuple[str, str, float]] = []
        made.append(self)

    def speak(self, sentence: str, *, voice: str, speed: float) -> np.ndarray:
        if len(self.said) == self.patience:
            raise KeyboardInterrupt
        self.said.append((sentence, voice, speed))
        times = np.arange(round(16000 * len(sentence) / 15 / speed)) / 16000
        level = 0.0 if sentence == self.silent else 1.5  # too loud for a file
        return (level * np.sin(300 * (1 + self.voices.index(voice)) * times)).astype(np.float32)


made: list[Humming] = []


@pytest.fixture
def dictionary(tmp_path: Path) -> Path:
    path = tmp_path / "cmudict.dict"
    path.write_text("".join(f"{word} {phones}\n" for word, phones in WORDS.items()))
    return path


@pytest.fixture
def speak(tmp_path: Path, dictionary: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command, with 96 sentences to choose from."""
    words = list(WORDS)
    order = np.random.default_rng(0).permutation(len(words) ** 4)[:96]
    picked = [[words[index // len(words) ** place % len(words)] for place in range(4)] for index in order]
    (tmp_path / "text.txt").write_text("".join(f"{' '.join(some).capitalize()}.\n" for some in picked))
    (tmp_path / "dev.txt").write_text("on on on on\n")
    monkeypatch.setattr(recipe_of_speech, "Kokoro", Humming)
    made.clear()

    def call(*flags: str) -> int:
        flags = ("--voice-model", "none", "--cmudict", str(dictionary), "--withhold", str(tmp_path / "dev.txt"), *flags)
        text, output = str(tmp_path / "text.txt"), str(tmp_path / "collection" / "kokoro")
        return main(["--text", text, "--output", output, "--number", "5", *flags])

    return call


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.tsv").open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_a_corpus_for_the_recipe(tmp_path: Path, dictionary: Path, speak: Callable[..., int]) -> None:
    assert speak("--quiet") == 0
    corpus = tmp_path / "collection" / "kokoro"
    manifests = english.prepare(
        sources=[corpus.parent], cmudict=dictionary, output=tmp_path / "data", note=pytest.fail, progress=False
    )
    utterances = read_manifest(manifests["train"])
    assert len(utterances) == 5
    texts = (tmp_path / "text.txt").read_text()
    for line, utterance, (sentence, voice, speed) in zip(rows(corpus), utterances, made[0].said, strict=True):
        assert line["transcript"] == sentence and f"{sentence}\n" in texts  # the voice gets what was written
        assert utterance.text.upper().strip(".") == sentence.upper().strip(".")
        assert utterance.speaker == f"kokoro-{voice}"
        assert 0.85 <= speed <= 1.2
        samples, rate = soundfile.read(utterance.audio)
        assert rate == 16000 and np.abs(samples).max() > 0.99
        assert np.mean(np.abs(samples) > 0.99) < 0.1  # scaled down: clipped, half of them would be
        assert utterance.duration_seconds == pytest.approx(len(sentence) / 15 / speed, abs=1e-3)
    credits = json.loads((corpus / "credits.json").read_text())
    assert credits["model"] == "a hum, Apache 2.0" and credits["texts"] == ["text.txt"] and credits["seed"] == 0
    assert sum(credits["voices"].values()) == 5 and set(credits["voices"]) == {"af_ann", "am_ben", "bf_cat"}
    assert "Apache 2.0" in recipe.credits(argparse.Namespace(text=[]), manifests)["kokoro"]


def test_a_killed_run_goes_on(tmp_path: Path, speak: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe_of_speech, "SAVE_EVERY", 2)
    whole, corpus = tmp_path / "whole" / "kokoro", tmp_path / "collection" / "kokoro"
    assert speak("--quiet", "--output", str(whole)) == 0
    monkeypatch.setattr(Humming, "patience", 3)
    assert speak("--quiet") == 130
    assert rows(corpus) == rows(whole)[:2]
    files = {path: path.stat().st_mtime_ns for path in corpus.rglob("*.flac")}
    monkeypatch.undo()
    monkeypatch.setattr(recipe_of_speech, "Kokoro", Humming)
    assert speak("--quiet") == 0
    assert made[0].said == made[1].said + made[2].said
    assert rows(corpus) == rows(whole)
    assert all(path.stat().st_mtime_ns == then for path, then in files.items()) and len(files) == 3
    for line in rows(corpus):
        assert (corpus / line["path"]).read_bytes() == (whole / line["path"]).read_bytes()
    assert speak("--quiet", "--number", "6") == 0  # more goes on where fewer ended, another seed takes nothing over
    assert len(made[3].said) == 1 and rows(corpus)[:5] == rows(whole)
    assert speak("--quiet", "--seed", "1") == 0
    assert len(made[4].said) == 5 and len(list(corpus.rglob("*.flac"))) == 11
    monkeypatch.setattr(Humming, "credit", {"model": "a better hum"})
    assert speak("--quiet") == 0
    assert len(made[5].said) == 5


def test_silence_is_left_out(tmp_path: Path, speak: Callable[..., int], monkeypatch, capsys) -> None:
    assert speak("--quiet", "--output", str(tmp_path / "first")) == 0
    monkeypatch.setattr(Humming, "silent", made[0].said[1][0])
    assert speak() == 0
    assert "1 left out, silent or too fast or too slow for their texts: " in capsys.readouterr().err
    first, second = rows(tmp_path / "first"), rows(tmp_path / "collection" / "kokoro")
    assert second == first[:1] + first[2:]


def test_what_can_be_read_as_it_is_spelled(tmp_path: Path, dictionary: Path) -> None:
    kept = ['"The cat -- on the dog?"', "the dog don't sat", "The dog sat on.", "The cat sat on the dog."]
    left_out = {
        "are not read as spelled": [
            "The cat sat on 3 dogs.", "The cat & the dog.", "The cat sat. on the dog", "The CAT sat on.", "Thé cat sat."
        ],
        "do not have 4 to 25 words": ["The cat sat.", "on " * 26],
        "have words that the dictionary lacks": ["The cow sat on."],
        "share words with withheld texts": [
            "On the cat. Sat the dog. On on on on.",  # eight words over two sentences: all three go
        ],
        "are duplicates": ["The dog don't sat!"],
    }  # fmt: skip
    short = "Dog dog dog dog."  # all of a withheld text, though the line says more
    lines = [*kept[:2], f"{kept[2]}   {kept[3]} {short}", *(line for lines in left_out.values() for line in lines)]
    (tmp_path / "text").write_text("\n".join(lines))
    withheld = Withheld(["DOG DOG DOG DOG", "ON THE CAT SAT THE DOG ON ON"])
    counts: Counter[str] = Counter()
    found = list(readable([tmp_path / "text"], read_cmudict(dictionary), withheld, 0, counts))
    twin = {"the dog don't sat": "The dog don't sat!"}  # whichever comes first in the random order
    assert {twin.get(sentence, sentence) for sentence in found} == {twin.get(sentence, sentence) for sentence in kept}
    assert counts == {why: len(some) for why, some in left_out.items()} | {"share words with withheld texts": 4}
    assert found != list(readable([tmp_path / "text"], read_cmudict(dictionary), withheld, 1, Counter()))


def test_each_choice_adds_most_to_what_is_covered() -> None:
    """Against the objective itself: harmonic numbers of how many chosen sentences have each unit, exactly."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("ABCDE"), 3)) for _ in range(40)]
    phones = {word: tuple(rng.choice(["P", "T", "AH", "IY"], rng.integers(1, 6))) for word in words}
    pool = [" ".join(rng.choice(words, rng.integers(4, 8))).capitalize() + "." for _ in range(193)]

    def spoken(sentence: str) -> tuple[list[str], list[str]]:
        words = sentence.strip(".").upper().split()
        return words, [phone for word in words for phone in phones[word]]

    def covered(sentences: list[str]) -> Fraction:
        counts: Counter[str] = Counter()
        for sentence in sentences:
            words, sounds = spoken(sentence)
            counts.update({*words, *(" ".join(sounds[start : start + 3]) for start in range(len(sounds) - 2))})
        return sum((Fraction(1, nth) for count in counts.values() for nth in range(1, count + 1)), Fraction(0))

    chosen = list(choose(iter(pool), phones, candidates=5))
    assert len(chosen) == 39
    for turn, sentence in enumerate(chosen):
        gains = {
            candidate: (covered([*chosen[:turn], candidate]) - covered(chosen[:turn])) / len(spoken(candidate)[1])
            for candidate in pool[5 * turn : 5 * turn + 5]
        }
        assert gains[sentence] == max(gains.values())
        assert len(set(gains.values())) > 1


def test_voices_take_turns() -> None:
    voices = [f"v{number}" for number in range(4)]

    def numbers() -> Iterator[str]:
        return map(str, iter(range(10**9)))

    plan = list(islice(make_plan(numbers(), voices, (0.9, 1.1), 3), 40))
    assert plan[:7] == list(make_plan([str(number) for number in range(7)], voices, (0.9, 1.1), 3))
    rounds = [tuple(line.voice for line in plan[start : start + 4]) for start in range(0, 40, 4)]
    assert all(sorted(turn) == voices for turn in rounds) and len(set(rounds)) > 3
    assert len({line.speed for line in plan}) > 10 and all(0.9 <= line.speed <= 1.1 for line in plan)
    other = list(islice(make_plan(numbers(), voices, (0.9, 1.1), 4), 40))
    assert [line.speed for line in plan] != [line.speed for line in other]


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (["--speeds", "1.2", "0.9"], 2, "--speeds must be a lower and a higher number"),
        (["--voices", "af_ann", "nobody"], 2, "not nobody"),
        (["--number", "0"], 2, "must be at least 1, not 0"),
        (["--number", "7"], 0, "the texts have fewer than --number 7 usable sentences"),
        (["--text", "missing.txt"], 1, "missing.txt: the text cannot be read"),
        (["--text", "/dev/null"], 1, "there must be sentences to speak, but none is left"),
        (["--output", "/dev/null/kokoro"], 1, "/dev/null/kokoro"),
    ],
)
def test_wrong_usage(speak: Callable[..., int], flags: list[str], status: int, message: str, capsys) -> None:
    assert speak(*flags) == status
    assert message in capsys.readouterr().err


def test_no_english_voice(speak: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(Humming, "voices", ("zf_dai",))
    assert speak() == 2
    assert "no voice's name begins with a or b" in capsys.readouterr().err
