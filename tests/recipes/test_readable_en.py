"""The recipe of marks and capitals: its texts, its scores, and a short training that goes on after a stop."""

from __future__ import annotations

import lzma
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from asr.corpora.overlap import Withheld
from asr.readable.marked_text import CAPITALISED, LOWER, UPPER, marked_words
from asr.readable.punctuator import Punctuator
from recipes.readable_en.run import main
from recipes.readable_en.texts import (
    UNKNOWN_CASE,
    Text,
    count_forms,
    mixed_forms,
    read_lines,
    shuffled,
    simulated_pauses,
    to_line,
    to_text,
    true_case,
    with_errors,
)
from recipes.readable_en.training import f1_of, tuned_bias

LINES = ['"Where is Mr. McCoy?" he said.', "I paid 25 dollars, NOT more; the USA is big!", "He met McCoy -- twice."]


@pytest.fixture
def text() -> Text:
    lines = [marked_words(line) for line in LINES]
    return to_text(lines, count_forms(lines), {})


def test_lines_of_a_text(tmp_path: Path) -> None:
    pytest.importorskip("num2words")
    path = tmp_path / "a.txt"
    path.write_text("\n".join([*LINES, "a heading without a mark", "<b> is markup.", "IN CAPITALS."]))
    nothing = Withheld([])
    assert [to_line(words) for words in read_lines(path, sentences=True, withheld=nothing)] == [
        "Where is Mister McCoy? he said.",
        "I paid twenty five dollars, NOT more, the USA is big!",
        "He met McCoy, twice.",
    ]
    assert len(list(read_lines(path, sentences=False, withheld=nothing))) == 4
    withheld = Withheld(["HE MET MCCOY TWICE"])
    assert len(list(read_lines(path, sentences=True, withheld=withheld))) == 2


def test_cases_of_a_corpus() -> None:
    forms = count_forms([marked_words("not Not NOT not USA USA McCoy McCoy McCoy McCoy McCoy Mccoy")])
    assert mixed_forms(forms) == {"mccoy": "McCoy"}
    assert [true_case(word, forms) for word in ("NOT", "Not", "USA", "NASA")] == [LOWER, CAPITALISED, UPPER, UPPER]


def test_paragraphs_are_shuffled_whole(text: Text) -> None:
    other = shuffled(text, np.random.default_rng(3))
    assert Counter(other.words.tolist()) == Counter(text.words.tolist())
    bounds = [*text.starts.tolist(), len(text.words)]
    paragraphs = [text.words[first:last].tolist() for first, last in pairwise(bounds)]
    for start in other.starts.tolist():
        assert any(other.words[start : start + len(part)].tolist() == part for part in paragraphs)


def test_errors_keep_the_marks(text: Text) -> None:
    words, marks, cases = with_errors(text, text.words, np.random.default_rng(0), share=0.5)
    assert len(words) == len(marks) == len(cases) < len(text.words)
    assert marks[-1] == text.marks[-1] and (cases == UNKNOWN_CASE).any()
    same = with_errors(text, text.words, np.random.default_rng(0), share=0.0)
    assert all((one == other).all() for one, other in zip(same, (text.words, text.marks, text.cases), strict=True))


def test_pauses_are_longer_after_marks() -> None:
    rng = np.random.default_rng(0)
    marks = np.array([0, 1, 2] * 2000)
    drawn = [simulated_pauses(marks, rng) for _ in range(20)]
    (known, *_) = (pauses for pauses in drawn if not np.isnan(pauses).any())
    none, comma, period = (np.median(known[marks == mark]) for mark in range(3))
    assert 0 < none < comma < period
    assert any(np.isnan(pauses).all() for pauses in drawn)


def test_f1_of_a_case_by_hand() -> None:
    scores = f1_of(np.array([1, 0, 2, 2]), np.array([1, 1, 2, 0]))
    assert scores == pytest.approx({",": 2 / 3, ".": 2 / 3, "?": 0, "!": 0, "all": 4 / 6})


def test_tuned_numbers_find_a_planted_bias() -> None:
    rng = np.random.default_rng(0)
    marks = rng.choice(5, size=4000, p=[0.8, 0.1, 0.08, 0.01, 0.01])
    log_probs = rng.normal(size=(4000, 5))
    log_probs[np.arange(4000), marks] += 3.0
    log_probs[:, 1] -= 1.0  # commas come out too rarely
    bias = tuned_bias(log_probs, marks)
    assert f1_of((log_probs + bias).argmax(1), marks)["all"] > f1_of(log_probs.argmax(1), marks)["all"]
    assert bias[1] - bias[2] > 0.4


def test_a_training_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("num2words")
    for name in ("novels", "novels_dev", "novels_test", "common_voice_sentences"):
        lines = [f"He met number {count} of {name[:6]}, and she said, I know McCoy." for count in range(150)]
        with lzma.open(tmp_path / f"{name}.txt.xz", "wt") as file:
            file.write("\n".join(lines))
    command = ["--text", str(tmp_path), "--output", str(tmp_path / "run"), "--threads", "1"]
    assert main([*command, "--batches", "2", "--quiet"]) == 0
    assert capsys.readouterr().out.count("F1") == 4
    assert main([*command, "--batches", "3"]) == 0
    assert "goes on after 2 batches" in capsys.readouterr().err
    punctuator = Punctuator.load(tmp_path / "run" / "readable-en")
    assert punctuator.config.mixed == {"mccoy": "McCoy"}
    assert len(punctuator.mark(["he", "met", "mccoy"])) == 3
    assert (tmp_path / "run" / "everyday_test.txt").read_text().startswith("He met number ")
