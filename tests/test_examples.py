"""Each script of examples/ does what its docstring says."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
MERCHANT = ROOT / "tests" / "audio" / "merchant.flac"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Run an example with arguments; gives back its lines on stdout."""

    def run_example(name: str, *arguments: object) -> list[str]:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return run_example


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short_and_shows_its_call(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) < 30
    assert f"python examples/{path.name} " in source


def test_words_have_times_in_order(run: Callable[..., list[str]]) -> None:
    rows = [line.split() for line in run("words.py", MERCHANT)]
    assert " ".join(row[3] for row in rows) == "But the merchant understood what the boy had said."
    times = [float(time) for row in rows for time in row[:2]]
    assert times == sorted(times) and times[-1] < 5
    assert all(0 < float(row[2]) <= 1 for row in rows)


def test_hotwords_change_the_best_hypothesis(run: Callable[..., list[str]], tmp_path: Path) -> None:
    labels = ["<pad>", "|", "C", "A", "T", "P"]
    posteriors = np.full((4, 6), 0.01)
    posteriors[range(3), [2, 3, 0]] = 0.95  # C, A, blank
    posteriors[3, [4, 5]] = 0.38, 0.58  # T or P
    np.save(tmp_path / "log_probs.npy", np.log(posteriors))
    (tmp_path / "labels.txt").write_text("\n".join(labels))
    arguments = ["hotwords.py", tmp_path / "log_probs.npy", tmp_path / "labels.txt"]
    plain, spotted = run(*arguments), run(*arguments, "CAT")
    assert [line.split()[1] for line in (plain[0], spotted[0])] == ["CAP", "CAT"]
    assert len(plain) == 3
    # P(C) P(A) P(blank) P(P), and a few other alignments
    assert float(plain[0].split()[0]) == pytest.approx(3 * np.log(0.95) + np.log(0.58), abs=0.05)


def test_subtitles_show_the_text_as_written(run: Callable[..., list[str]], tmp_path: Path) -> None:
    (tmp_path / "speech.txt").write_text("But the merchant understood\nwhat the boy had said.\n")
    number, times, text, *rest = run("subtitles.py", MERCHANT, tmp_path / "speech.txt")
    assert number == "1"
    assert times.startswith("00:00:0") and " --> 00:00:0" in times
    assert " ".join([text, *rest]).strip() == "But the merchant understood what the boy had said."
