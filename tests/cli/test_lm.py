from __future__ import annotations

import io
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from asr.cli.lm import COMMANDS, main, make_train_parser, read_training_config
from asr.errors import ConfigError, InputError
from asr.lm.ngram import NgramModel
from asr.lm.prefix_tree import score_together
from asr.lm.recurrent import LanguageModelConfig, NetworkOptions
from asr.lm.rnn import LanguageModel
from asr.options import to_json

WORDS = ("THE", "PEAR", "APPLE", "AND", "SALAD")
NETWORK = NetworkOptions(hidden_size=8, embedding_size=6)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder with an untrained model of words and one of characters."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    LanguageModel(LanguageModelConfig(unit="word", entries=WORDS, network=NETWORK)).save(folder / "words")
    characters = LanguageModelConfig(unit="character", entries=(" ", *"AEHLPR"), network=NETWORK)
    LanguageModel(characters).save(folder / "characters")
    return folder


@pytest.fixture
def words(models: Path) -> str:
    return str(models / "words")


@pytest.fixture
def arpa(tmp_path: Path) -> str:
    """A bigram model by hand: after THE comes PEAR or PAIR, of which the first is three times as likely."""
    (tmp_path / "hand.arpa").write_text(
        "\\data\\\nngram 1=6\nngram 2=2\n\n\\1-grams:\n-1.0 <unk>\n-99 <s> 0.0\n-0.5 </s>\n-0.7 the 0.0\n-1.2 pear\n"
        "-1.2 pair\n\n\\2-grams:\n-0.125 the pear\n-0.602 the pair\n\n\\end\\\n"
    )
    return str(tmp_path / "hand.arpa")


def feed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_marks_of_a_text_are_no_words_of_its_model(tmp_path, capsys):
    (tmp_path / "text.txt").write_bytes("<s> the cat </s>\n[noise] the <unk> cat sat\n".encode("utf-16"))
    train = ["train", "--kind", "ngram", "--order", "1", "--train", str(tmp_path / "text.txt"), "--quiet"]
    assert main([*train, "--output", str(tmp_path / "a.arpa")]) == 0
    words = {line.split("\t")[1] for line in (tmp_path / "a.arpa").read_text().splitlines() if "\t" in line}
    assert words == {"<s>", "</s>", "<unk>", "THE", "CAT", "SAT"}
    assert main([*train, "--text.marks", "refuse", "--output", str(tmp_path / "b.arpa")]) == 1
    assert "text.txt:1: a text must have no marks, but has '<s>'" in capsys.readouterr().err


# score


def test_score_writes_a_line_for_each_sentence_and_sums_to_stderr(words, capsys):
    sentences = ["The apple, and pear!", "", "no such  words"]
    assert main(["score", "--lm", words, *sentences]) == 0
    scores = score_together(LanguageModel.load(words), sentences)
    out, err = capsys.readouterr()
    lines = [line.split("\t") for line in out.splitlines()]
    assert [line[1] for line in lines] == sentences
    assert [float(line[0]) for line in lines] == pytest.approx(scores, abs=1e-5)
    perplexity = math.exp(-scores.sum() / (7 + 3))
    assert "3 sentences, 7 words, 3 unknown: log-probability -" in err
    found = [float(number) for number in re.findall(r"-?\d+\.\d+", err)]
    assert found == pytest.approx([scores.sum(), perplexity], abs=1e-3)


def test_score_reads_standard_input_line_by_line(words, capsys, monkeypatch):
    feed(monkeypatch, "the pear\r\n\nпривет\rмир\n好".encode())
    assert main(["score", "--lm", words, "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert [line.partition("\t")[2] for line in out.split("\n")] == ["the pear", "", "привет\\rмир", "好", ""]
    assert not err


def test_score_shows_tokens(words, capsys):
    assert main(["score", "--lm", words, "--tokens", "the plum"]) == 0
    whole, *tokens = capsys.readouterr().out.splitlines()
    cells = [line.split("\t") for line in tokens]
    assert [row[2:] for row in cells] == [["THE"], ["PLUM", "<unk>"], ["<eos>"]]
    assert all(row[0] == "" for row in cells)
    assert sum(float(row[1]) for row in cells) == pytest.approx(float(whole.split("\t")[0]), abs=1e-5)


def test_score_of_what_cannot_be_spelled_is_minus_infinity_and_says_why(models, capsys):
    assert main(["score", "--lm", str(models / "characters"), "a pear", "a плум"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[1] == "-inf\ta плум"
    assert "1 sentences, 2 words, 0 unknown" in err
    assert "1 sentences not counted, with unknown characters: 'П', 'Л', 'У', 'М'" in err


def test_score_of_a_line_of_a_megabyte(words, capsys, monkeypatch):
    feed(monkeypatch, b"the pear and " * 80_000 + b"\nthe pear")
    assert main(["score", "--lm", words, "--device", "cpu", "--threads", "1"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert float(first.partition("\t")[0]) < -100_000
    assert len(first) > 1_000_000 and second.endswith("\tthe pear")


def test_score_writes_an_argument_of_several_lines_as_one(words, capsys):
    assert main(["score", "--lm", words, "the\npear"]) == 0
    assert capsys.readouterr().out.endswith("\tthe\\npear\n")


def test_score_with_an_arpa_file(arpa, capsys):
    assert main(["score", "--lm", arpa, "--case", "lower", "The pear.", "the plum"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert float(first.split("\t")[0]) == pytest.approx(-(0.7 + 0.125 + 0.5) * math.log(10), abs=1e-5)
    assert float(second.split("\t")[0]) == pytest.approx(-(0.7 + 1.0 + 0.5) * math.log(10), abs=1e-5)
    Path(arpa).rename(Path(arpa).with_name("hand.lm"))
    assert main(["score", "--lm", str(Path(arpa).with_name("hand.lm")), "--case", "lower", "The pear."]) == 0
    assert capsys.readouterr().out == f"{first}\n"


# perplexity


def test_perplexity_of_files(words, tmp_path, capsys):
    (tmp_path / "a.txt").write_text("The apple\n\n...\nand no salad\n")
    assert main(["perplexity", str(tmp_path / "a.txt"), "--lm", words]) == 0
    total = score_together(LanguageModel.load(words), ["the apple", "and no salad"]).sum()
    facts = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert (facts["sentences"], facts["words"]) == ("2", "5")
    assert facts["perplexity"].startswith(f"{math.exp(-total / 7):.2f} per word, {math.exp(-total / 23):.4f} per char")
    assert facts["unknown"] == "1 tokens (20.00%)"


def test_perplexity_leaves_out_what_cannot_be_spelled(models, tmp_path, capsys):
    (tmp_path / "a.txt").write_text("a pear\na plum\n")
    assert main(["perplexity", str(tmp_path / "a.txt"), "--lm", str(models / "characters")]) == 0
    assert "left out      1 sentences with unknown characters" in capsys.readouterr().out
    (tmp_path / "b.txt").write_text("a plum\n")
    assert main(["perplexity", str(tmp_path / "b.txt"), "--lm", str(models / "characters")]) == 1
    message = "the text must have at least one sentence that the model can score"
    assert capsys.readouterr().err == f"asr-lm perplexity: error: {tmp_path / 'b.txt'}: {message}\n"


# sample


def test_sample(words, capsys):
    options = ["--count", "5", "--max-length", "6", "--temperature", "0.8", "--top-k", "4"]
    options += ["--prompt", "the", "--seed", "2"]
    assert main(["sample", "--lm", words, *options]) == 0
    once = capsys.readouterr().out
    assert len(once.splitlines()) == 5
    assert all(line.split()[0] == "THE" and set(line.split()) <= set(WORDS) for line in once.splitlines())
    assert main(["sample", "--lm", words, *options]) == 0
    assert capsys.readouterr().out == once


# train


def read(line: str):
    arguments = line.split()
    return read_training_config(make_train_parser(arguments).parse(arguments))


def test_flags_go_over_the_file_and_the_file_over_the_defaults(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = read("--run r --data.train a,b --data.dev d --network.cell gru --loop.epochs 3 --vocabulary.max-size 9")
    assert config.data.train == ("a", "b") and config.vocabulary.max_size == 9
    assert (config.network.cell, config.loop.epochs, config.loop.average_best) == ("gru", 3, 1)
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "config.json").write_text(json.dumps(to_json(config)))
    assert read("--run r --resume") == config == read("--run q --config r/config.json")
    assert read("--run q --config r/config.json --loop.epochs 4").loop.epochs == 4
    with pytest.raises(ConfigError, match="leave out --config"):
        read("--run r --resume --config r/config.json")
    with pytest.raises(ConfigError, match="no run to resume in q"):
        read("--run q --resume")
    for given, missing in (("--data.dev d", "train"), ("--data.train t", "dev")):
        with pytest.raises(ConfigError, match=rf"must be given: --data\.{missing}"):
            read(f"--run r {given}")


def test_an_initial_model_brings_its_shape_and_its_spelling(words, tmp_path):
    config = read(f"--run r --data.train a --data.dev d --init {words} --network.dropout 0.3")
    model = LanguageModel.load(words).config
    assert config.init == words and config.text == model.text
    assert config.network == replace(model.network, dropout=0.3)
    assert read("--run r --data.train a --data.dev d --init english-lm").network.hidden_size == 640
    with pytest.raises(InputError, match="no language model 'nix': give a model folder"):
        read("--run r --data.train a --data.dev d --init nix")
    (tmp_path / "number.json").write_text('{"init": 5}')
    with pytest.raises(ConfigError, match="init must be text, not 5"):
        read(f"--run r --data.train a --data.dev d --config {tmp_path / 'number.json'}")


def test_train_leaves_a_model_that_the_other_commands_take(tmp_path, capsys, rng):
    text = tmp_path / "text.txt"
    text.write_text("".join(f"the {rng.choice(['pear', 'apple'])} salad\n" for _ in range(60)))
    arguments = ["--data.train", str(text), "--data.dev", str(text), "--network.hidden-size", "8", "--loop.epochs", "1"]
    arguments += ["--network.embedding-size", "8", "--run", str(tmp_path / "run"), "--device", "cpu", "--no-progress"]
    assert main(["train", *arguments, "--nproc", "2"]) == 0
    out, err = capsys.readouterr()
    assert err.count(f"asr-lm train: reading {text}\n") == 1 and " in 2 processes\n" in err
    assert out == f"{tmp_path / 'run' / 'model'}\n" and "epoch 1: dev perplexity" in err
    assert main(["score", "--lm", out.strip(), "the pear salad"]) == 0
    scored = capsys.readouterr().out
    assert main(["score", "--lm", str(tmp_path / "run"), "the pear salad"]) == 0  # a run folder stands for its model
    assert capsys.readouterr().out == scored
    assert main(["train", *arguments, "--network.hidden-size", "9"]) == 2
    assert "holds a run with other options" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:modified Kneser-Ney needs")
def test_train_an_ngram(tmp_path, capsys):
    (tmp_path / "text.txt").write_text("the pear\nthe pear salad\nthe apple\n")
    output = tmp_path / "lm.arpa"
    arguments = ["--kind", "ngram", "--train", str(tmp_path / "text.txt"), "--order", "2", "--text.case", "lower"]
    assert main(["train", *arguments, "--output", str(output), "--quiet"]) == 0
    assert capsys.readouterr().out == f"{output}\n"
    model = NgramModel.read(output)
    assert model.order == 2 and set(model.words) == {"<unk>", "<s>", "</s>", "the", "pear", "salad", "apple"}
    assert main(["train", "--kind", "ngram", "--output", str(output)]) == 2
    assert "the texts to train on must be given: --train" in capsys.readouterr().err


# What is wrong


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("score --lm nowhere", 2, "no language model 'nowhere': give a model folder"),
        ("score --lm EMPTY x", 1, "not a model folder: it has no config.json"),
        ("score --lm notes.txt x", 1, "notes.txt: an ARPA file must have"),
        ("score --lm x.arpa y", 1, "x.arpa: .*No such file"),
        ("score --lm MODEL --case lower x", 2, "options of the text belong to an n-gram model"),
        ("score --lm MODEL --device abacus x", 2, "device must be auto, cpu or a CUDA device"),
        ("perplexity nothing.txt --lm MODEL", 1, "nothing.txt: the text cannot be read"),
        ("perplexity", 2, "the following arguments are required: TEXT"),
        ("sample --lm MODEL --temperature 0", 2, "--temperature must be above 0 and at most 1000000000, not 0.0"),
        ("sample --lm MODEL --tempratur 1", 2, "did you mean --temperature"),
        ("train --run r", 2, "the texts to train on must be given"),
        ("train --kind knn --run r", 2, "invalid choice: 'knn'"),
        ("listen", 2, r"the command must be one of train, perplexity, score, sample, adapt, not 'listen'"),
    ],
)
def test_what_is_wrong_is_one_sentence(line, status, message, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("buy pears\n")
    arguments = line.replace("MODEL", words).replace("EMPTY", "empty").split()
    assert main(arguments) == status
    out, err = capsys.readouterr()
    assert not out and len(err.splitlines()) == 1
    assert re.search(message, err)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_examples(name, capsys):
    assert main([name, "--help"]) == 0
    assert f"asr-lm {name}" in capsys.readouterr().out


def test_help_of_all_commands(capsys):
    assert main([]) == main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in COMMANDS)


def test_help_of_scoring_loads_no_torch():
    code = "import sys; from asr.cli.lm import main; main(['score', '--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_scores_do_not_depend_on_how_many_are_read_at_once(words, capsys, monkeypatch):
    from asr.lm import scoring

    sentences = [" ".join(["the pear and"] * int(n)) for n in np.random.default_rng(0).integers(0, 9, 30)]
    main(["score", "--lm", words, *sentences])
    together = capsys.readouterr().out
    monkeypatch.setattr(scoring, "SENTENCES", 4)
    monkeypatch.setattr(scoring, "CHARACTERS", 50)
    main(["score", "--lm", words, *sentences])
    apart = capsys.readouterr().out
    one, other = ([float(line.partition("\t")[0]) for line in text.splitlines()] for text in (together, apart))
    assert one == pytest.approx(other, abs=1e-4)
    assert [line.partition("\t")[2] for line in apart.splitlines()] == sentences
