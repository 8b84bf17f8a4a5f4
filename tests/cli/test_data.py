from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.cli.data import COMMANDS, main
from asr.cli.train import make_parser, read_training_config
from asr.data.shards import read_shards
from tests.doctor.voices import WORDS, Corpus, voice


@pytest.fixture
def corpus(tmp_path: Path, rng: np.random.Generator) -> Corpus:
    return Corpus(tmp_path, rng, counts=(10, 3))


def manifests(corpus: Corpus) -> list[str]:
    return [str(path) for path in corpus.manifests.values()]


# check


def test_a_healthy_corpus_is_status_0(corpus, capsys):
    assert main(["check", "--processes", "1", *manifests(corpus)]) == 0
    captured = capsys.readouterr()
    assert "2 manifests, 13 utterances" in captured.out and "nothing is wrong" in captured.out
    assert captured.err == ""


@pytest.mark.parametrize("flag", ["--json", "--html"])
def test_a_report_that_cannot_be_written_is_refused_before_the_examination(tmp_path, capsys, flag):
    (tmp_path / "file").touch()
    assert main(["check", str(tmp_path / "none.jsonl"), flag, str(tmp_path / "file" / "r")]) == 1
    assert capsys.readouterr().err == f"asr-data check: error: {tmp_path / 'file'}: a part of this path is a file\n"


def test_findings_are_status_1_with_reports_and_cleaned_manifests(corpus, tmp_path, capsys):
    corpus.sound("train", 4).unlink()
    corpus.set_text("train", 6, "")
    arguments = ["--json", str(tmp_path / "r.json"), "--html", str(tmp_path / "r.html"), "--fix"]
    assert main(["check", "--processes", "2", *manifests(corpus), *arguments, "--quarantine", "no-text"]) == 1
    captured = capsys.readouterr()
    text = " ".join(captured.out.split())
    assert f"{corpus.manifests['train']}:4: missing: train-04: " in text
    assert f"{corpus.manifests['train']}:6: no-text: train-06: " in text
    assert "8 lines kept in " in captured.err and "2 moved to " in captured.err
    assert [entry["kind"] for entry in json.loads((tmp_path / "r.json").read_text())["findings"]] == [
        "missing",
        "no-text",
    ]
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    assert main(["check", "--processes", "1", str(tmp_path / "train.clean.jsonl")]) == 0
    written = {path: path.read_bytes() for path in tmp_path.glob("*.clean.jsonl")}
    everything = [str(path) for path in sorted(tmp_path.glob("*.jsonl"))]
    assert main(["check", "--processes", "1", *everything, *arguments, "--quarantine", "no-text"]) == 1
    passed = (
        f"skipped {tmp_path / 'train.clean.jsonl'}: its name shows that --fix made it from {corpus.manifests['train']}"
    )
    assert passed in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.glob("*.clean.jsonl")} == written


def test_the_split_of_a_manifest_can_be_given(corpus, tmp_path, capsys):
    sentence = "quick lazy dogs jump while wizards vex foxes"
    corpus.set_text("train", 2, sentence)
    corpus.set_text("test", 2, sentence)
    named = {"train": tmp_path / "a.jsonl", "test": tmp_path / "b.jsonl"}
    for split, path in named.items():
        corpus.manifests[split].rename(path)
    assert main(["check", "--processes", "1", *map(str, named.values())]) == 0
    messages = capsys.readouterr().err
    remedy = f"for a test set, give test={named['train']}"
    assert f"a.jsonl: not checked for leaks, since its name has no split; {remedy}" in messages
    assert main(["check", "--processes", "1", *(f"{split}={path}" for split, path in named.items())]) == 1
    assert "a.jsonl:2: leaked-text" in " ".join(capsys.readouterr().out.split())


def test_a_model_listens(model, tone_corpus, capsys):
    arguments = ["--model", model, "--device", "cpu", "--processes", "1", "--slowest", "0.1"]
    assert main(["check", str(tone_corpus / "train.jsonl.gz"), *arguments]) == 0
    assert "texts compared with the sound" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check"], "the following arguments are required"),
        (["check", "a.jsonl", "a.jsonl"], "manifests must differ, but a.jsonl is given twice"),
        (["check", "mine=a.jsonl"], "the prefix of a manifest must be train=, dev= or test=; got 'mine=a.jsonl'"),
        (["check", "a.jsonl", "--quarantine", "clipped"], "--quarantine needs --fix"),
        (["check", "a.jsonl", "--fix", "--quarantine", "x"], "--quarantine takes kinds of findings (manifest, "),
        (["check", "a.jsonl", "--clipped", "-1"], "--clipped must be at least 0"),
        (["check", "a.jsonl", "--fixx"], "unknown argument '--fixx': did you mean --fix?"),
        (["cheque"], "the command must be one of prepare, record, import, check"),
        (["import", "x", "--output", "y", "--dev", "1"], "--dev and --test must be shares"),
        (["import", "x"], "the following arguments are required: --output"),
        (["shard", "x.jsonl", "--output", "."], "the folder for the shards must be a new one, but . exists"),
        (["shard", "x.jsonl", "--output", "y", "--shard-size", "0"], "--shard-size: must be at least 1, not 0"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(arguments, message, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_manifest_that_is_not_there_is_status_1(capsys):
    assert main(["check", "none.jsonl", "--processes", "1"]) == 1
    assert "none.jsonl: no such manifest" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--help"], *([name, "--help"] for name in ("import", "check", "shard"))])
def test_help_shows_examples_in_80_columns(arguments, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "examples:\n  asr-data " in text
    assert max(map(len, text.splitlines())) <= 80
    assert {"import", "check", "shard"} <= COMMANDS.keys()


# shard


def test_a_manifest_becomes_shards(corpus, tmp_path, capsys):
    folder = tmp_path / "shards"
    assert (
        main(["shard", str(corpus.manifests["train"]), "--output", str(folder), "--shard-size", "4", "--shuffle"]) == 0
    )
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [str(folder / f"recording.00000{number}.tar") for number in range(3)]
    assert captured.err == "" and len(read_shards(str(folder))) == 10


# import


def test_recordings_become_manifests_that_are_healthy(tmp_path, rng, capsys):
    folder = tmp_path / "mine"
    folder.mkdir()
    for number in range(12):
        soundfile.write(folder / f"day {number}.wav", voice(rng, seconds=3.0), 16_000)
        (folder / f"day {number}.txt").write_text(f"{WORDS[number]} vex lazy brown foxes quickly jump over dogs hmz")
    output = tmp_path / "out"
    arguments = ["import", str(folder), "--output", str(output), "--dev", "0.3", "--test", "0.3"]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    written = captured.out.split()
    assert written == [str(output / f"{split}.jsonl.gz") for split in ("train", "dev", "test")]
    assert "split by recording" in captured.err and "train: " in captured.err
    check = f"asr-data check {' '.join(written)} --model english --fix"
    assert captured.err.splitlines()[-1] == f"asr-data import: next: {check}"
    assert main(["check", "--processes", "1", *written, "--fix"]) == 0
    clean = [f"--data.{split} {output / split}.clean.jsonl.gz" for split in ("train", "dev")]
    train = "asr-train --run runs/out --init english"
    err = capsys.readouterr().err.splitlines()
    assert err[-1] == f"asr-data check: next: {train} {' '.join(clean)}"
    config = read_training_config(make_parser().parse(shlex.split(err[-1].partition("next: asr-train ")[2])))
    assert config.loop.epochs == 20 and config.data.dev == (f"{output}/dev.clean.jsonl.gz",)
    (folder / "day 3.txt").unlink()
    assert main([*arguments, "--quiet"]) == 1
    captured = capsys.readouterr()
    assert captured.out.split() == written
    assert "left out: " in captured.err and "day 3.wav: has no text beside it" in captured.err
    assert f"1 left out: {output / 'problems.txt'}" in captured.err
    for number in range(21):
        (folder / f"text {number}.txt").write_text("no sound")
    assert main([*arguments, "--quiet"]) == 1
    error = capsys.readouterr().err
    assert error.count("left out: ") == 20 and f"22 left out, 2 more than shown: {output}" in error
