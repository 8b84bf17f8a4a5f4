"""asr-data prepare: a corpus in miniature from the command line to manifests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.cli import data, data_prepare
from asr.data.manifest import read_manifest


def run(arguments: Sequence[str]) -> int:
    return data.main(["prepare", *arguments])


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """Three recordings in FSDD's layout."""
    folder = tmp_path / "fsdd" / "recordings"
    folder.mkdir(parents=True)
    for name in ("7_theo_3", "8_lucas_7", "9_lucas_30"):
        soundfile.write(folder / f"{name}.wav", 0.1 * np.sin(np.arange(4000)), 8000)
    return tmp_path / "fsdd"


def test_manifests_and_their_paths(digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    assert run(["fsdd", "--source", str(digits), "--output", str(output)]) == 0
    out, err = capsys.readouterr()
    assert out == "".join(f"{split}\t{output / split}.jsonl.gz\n" for split in ("train", "dev", "test"))
    assert err.startswith("asr-data prepare: warning: ")  # it is not all of FSDD
    assert "not all of FSDD" in err
    assert [utterance.text for utterance in read_manifest(output / "test.jsonl.gz")] == ["seven"]


def test_options_of_a_corpus(digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    arguments = ["fsdd", "--held-out", "lucas", "--source", str(digits), "--output", str(output), "--quiet"]
    assert run(arguments) == 0
    assert capsys.readouterr().err == ""
    assert {utterance.speaker for utterance in read_manifest(output / "test.jsonl.gz")} == {"lucas"}


def test_the_usual_output(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["fsdd", "--source", str(digits), "--quiet"]) == 0
    assert (tmp_path / "data" / "fsdd" / "test.jsonl.gz").is_file()
    assert capsys.readouterr().out.startswith("train\t")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "the following arguments are required: CORPUS"),
        (["esperanto"], 2, "the corpus must be one of aishell, an4, commonvoice"),
        (["yesno", "--held-out", "x"], 2, "unknown argument '--held-out'"),
        (["fsdd", "--held-out", "bob"], 2, "--held-out must be one of george, jackson"),
        (["vctk", "--microphone", "mic3"], 2, "invalid choice: 'mic3'"),
        (["commonvoice"], 2, "Common Voice cannot be downloaded by a program: get it from https://"),
        (["yesno", "--source", "nowhere"], 1, "no such folder or archive"),
    ],
)
def test_mistakes(
    arguments: list[str],
    status: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert message in err


def test_help_says_what_a_corpus_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    assert ", ".join(list(data_prepare.CORPORA)[:3]) in capsys.readouterr().out
    assert run(["librispeech", "--help"]) == 0
    out = capsys.readouterr().out
    assert "--parts TEXT,..." in out
    assert "V. Panayotov" in out
