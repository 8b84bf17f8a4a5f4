from __future__ import annotations

import json
from pathlib import Path

import pytest

import asr
from asr.acoustic.model import AcousticModel
from asr.cli.train import main, make_parser, merged, read_training_config
from asr.data.manifest import Utterance
from asr.errors import ConfigError, InputError
from asr.options import to_json
from asr.training.config import TrainingConfig
from asr.training.fine_tuning import fine_tuning_options
from asr.training.loop import Interrupted


def read(line: str) -> TrainingConfig:
    return read_training_config(make_parser().parse(line.split()))


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


DATA = "--data.train t.jsonl --data.dev d1.jsonl,d2.jsonl"
NO_MANIFESTS = "the manifests to train on must be given: --data.train, or data.train in the --config file"


def test_flags_alone(folder):
    config = read(f"--run r {DATA} --encoder.hidden-size 32 --loop.epochs 3 --no-encoder.bidirectional")
    assert config.data.train == ("t.jsonl",) and config.data.dev == ("d1.jsonl", "d2.jsonl")
    assert config.encoder.hidden_size == 32 and not config.encoder.bidirectional
    assert config.loop.epochs == 3
    defaults = TrainingConfig(data=config.data)
    assert config.encoder.num_layers == defaults.encoder.num_layers and config.text == defaults.text


def test_numbers_are_spelled_by_either_flag(folder):
    for flag in ("--text.numbers", "--data.numbers"):
        assert read(f"--run r {DATA} {flag} spell").text.numbers == "spell"
    assert read(f"--run r {DATA}").text.numbers == "keep"


def test_flags_go_over_the_file_and_the_file_over_the_defaults(folder):
    values = {
        "data": {"train": ["t.jsonl"], "dev": ["d.jsonl"], "batch_seconds": 40.0},
        "encoder": {"hidden_size": 32, "num_layers": 3},
        "name": "file",
    }
    (folder / "c.json").write_text(json.dumps(values))
    config = read("--run r --config c.json --encoder.hidden-size 64 --data.dev e.jsonl")
    assert (config.encoder.hidden_size, config.encoder.num_layers, config.name) == (64, 3, "file")
    assert (config.data.train, config.data.dev, config.data.batch_seconds) == (("t.jsonl",), ("e.jsonl",), 40.0)


def test_the_configuration_of_a_run_makes_the_same_run(folder, tone_config):
    (folder / "c.json").write_text(json.dumps(to_json(tone_config())))
    assert read("--run r --config c.json") == tone_config()


def test_resume_reads_the_run_folder(folder, tone_config):
    (folder / "r").mkdir()
    (folder / "r" / "config.json").write_text(json.dumps(to_json(tone_config())))
    assert read("--run r --resume") == tone_config()


def test_an_initial_model_brings_its_shape(folder, model, tone_corpus):
    data = f"--data.train {tone_corpus}/train.jsonl.gz --data.dev d.jsonl"
    config = read(f"--run r {data} --init {model} --encoder.dropout 0.2")
    given = AcousticModel.load(model).config
    assert (config.text, config.frontend) == (given.text, given.frontend)
    assert to_json(config.encoder) == {**to_json(given.encoder), "dropout": 0.2}
    assert config.init == model
    with pytest.raises(InputError, match="no model 'nix'"):
        read(f"--run r {DATA} --init nix")


def test_epochs_and_rate_are_chosen_for_so_many_recordings(folder, model, tone_corpus, capsys):
    data = f"--data.train {tone_corpus}/train.jsonl.gz --data.dev d.jsonl"
    config = read(f"--run r {data} --init {model}")
    assert (config.loop.epochs, config.loop.learning_rate, config.loop.early_stop_epochs) == (20, 3e-4, 5)
    assert "44 utterances, 1.1 minutes, to train on from the model: at most 20 epochs" in capsys.readouterr().err
    config = read(f"--run r {data} --init {model} --loop.epochs 3")
    assert (config.loop.epochs, config.loop.learning_rate) == (3, 3e-4)
    assert "at most 3 epochs" in capsys.readouterr().err
    (folder / "c.json").write_text(json.dumps(to_json(config)))
    assert read("--run r --config c.json") == config and capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("flags", "cache"),
    [
        ("", "r/features"),
        ("--workers 2", None),
        ("--augment.speeds 0.9,1,1.1", None),
        ("--data.chunked 0.5", None),
        ("--data.chunked 0.5 --data.feature-cache elsewhere --data.feature-variants 1", "elsewhere"),
        ("--data.feature-cache elsewhere", "elsewhere"),
    ],
)
def test_features_of_an_encoder_are_kept_by_rule(folder, tone_corpus, flags, cache):
    data = f"--data.train {tone_corpus}/train.jsonl.gz --data.dev d.jsonl"
    config = read(f"--run r {data} --init english {flags}")
    assert config.data.feature_cache == (str(folder / cache) if cache == "r/features" else cache)
    assert (config.data.feature_variants == 1) == (not flags or "cache" in flags)


@pytest.mark.parametrize(("minutes", "epochs"), [(1, 20), (5, 20), (10, 14), (20, 10), (40, 7), (240, 3), (6000, 3)])
def test_fewer_epochs_for_more_recordings(minutes, epochs):
    utterances = [
        Utterance(id=str(number), audio=Path("a.wav"), duration_seconds=6.0, text="a") for number in range(minutes * 10)
    ]
    assert fine_tuning_options(utterances)["loop"]["epochs"] == epochs


def test_merged_goes_into_groups_and_changes_neither():
    below, over = {"a": {"x": 1, "y": 2}, "b": 3}, {"a": {"y": 4}, "c": {"z": 5}}
    assert merged(below, over) == {"a": {"x": 1, "y": 4}, "b": 3, "c": {"z": 5}}
    assert below == {"a": {"x": 1, "y": 2}, "b": 3} and over == {"a": {"y": 4}, "c": {"z": 5}}
    assert merged({"a": 1}, {"a": {"x": 2}}) == {"a": {"x": 2}}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--run r", NO_MANIFESTS),
        ("--run r --data.train a", "the manifests to choose the best epochs must be given: --data.dev"),
        ("--run old", f"{NO_MANIFESTS}; to resume the run in old, use --resume"),
        ("--run r --resume", "no run to resume in r: it has no config.json"),
        ("--run r --resume --config c.json", "--resume takes the configuration from the run folder"),
        ("--run r --config c.json", "c.json cannot be read: No such file or directory"),
        ("--run r --config text.json", "text.json must hold JSON: Expecting value"),
        ("--run r --config list.json", "list.json must hold a JSON object of options, not a list"),
        (f"--run r --config odd.json {DATA}", "encoder: unknown option 'hidden'; known are"),
        (f"--run r --config datalist.json {DATA}", "unknown option 'oops'"),
        (f"--run r --config five.json {DATA}", "init must be text, not 5"),
        (f"--run r {DATA} --encoder.dropout 1", "encoder.dropout must be at least 0 and below 1, not 1.0"),
        (f"--run r {DATA} --data.chunked 2", "data.chunked must be between 0 and 1, not 2.0"),
    ],
)
def test_configurations_that_are_refused(folder, line, message):
    files = {
        "text": "x",
        "list": "[]",
        "odd": '{"encoder": {"hidden": 3}}',
        "datalist": '{"data": [], "oops": 1}',
        "five": '{"init": 5}',
    }
    for name, content in files.items():
        (folder / f"{name}.json").write_text(content)
    (folder / "old").mkdir()
    (folder / "old" / "config.json").write_text("{}")
    with pytest.raises(ConfigError) as caught:
        read(line)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("", 2, "the following arguments are required: --run"),
        ("--run r --encoder.hidden 3", 2, "unknown argument '--encoder.hidden': did you mean --encoder.hidden-size?"),
        ("--run r --encoder.cell gur", 2, "argument --encoder.cell: invalid choice: 'gur'"),
        ("--run r", 2, "the manifests to train on must be given"),
        (f"--run r {DATA}", 1, "t.jsonl: no such manifest"),
    ],
)
def test_errors_are_one_line(folder, line, status, message, capsys):
    assert main(line.split()) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"asr-train: error: {message}")
    assert printed.err.count("\n") == 1


def test_a_training_prints_the_models_folder_and_notes_on_stderr(folder, tone_config, capsys):
    (folder / "c.json").write_text(json.dumps(to_json(tone_config(epochs=1))))
    assert main(["--run", "r", "--config", "c.json", "--name", "mine", "--device", "cpu"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "r/model\n"
    assert all(line.startswith("asr-train: ") for line in printed.err.splitlines())
    assert "asr-train: epoch 1: dev wer" in printed.err
    dev = tone_config(epochs=1).data.dev[0]
    assert printed.err.splitlines()[-1] == f"asr-train: next: asr-evaluate r {dev}"
    assert asr.load("r/model", device="cpu").model.config.name == "mine"

    assert main(["--run", "r", "--resume", "--quiet", "--device", "cpu"]) == 0  # all epochs are done
    assert capsys.readouterr() == ("r/model\n", "")
    assert main(["--run", "r", "--resume", "--loop.epochs", "2", "--device", "cpu"]) == 0
    err = capsys.readouterr().err
    assert "the run has 2 epochs now, not 1: after 1 of them, it goes on at the learning rates of a new run" in err
    assert json.loads(Path("r/config.json").read_text())["loop"]["epochs"] == 2
    assert asr.load("r", device="cpu").model.config.provenance["training"]["loop"]["epochs"] == 2
    flags = ["--loop.epochs", "3", "--loop.learning-rate", "0.5"]
    assert main(["--run", "r", "--resume", *flags]) == 2
    err = capsys.readouterr().err
    assert "holds a run with other options (" in err
    assert "asr-train --run NEW --config r/config.json --init r/model --" in err
    assert "--loop.epochs 3 --loop.learning-rate 0.5" in err
    assert json.loads(Path("r/config.json").read_text())["loop"]["epochs"] == 2  # a refused change writes nothing
    assert main(["--run", "r", "--resume", "--encoder.dropout", "0.5"]) == 2
    assert "--init" not in capsys.readouterr().err


def test_an_interrupted_training_ends_with_130(folder, monkeypatch, capsys):
    def interrupted(*arguments, **more):
        raise Interrupted("stopped in epoch 1; the same command resumes from here")

    monkeypatch.setattr("asr.training.acoustic.train_acoustic_model", interrupted)
    assert main(f"--run r {DATA}".split()) == 130
    assert capsys.readouterr() == ("", "asr-train: stopped in epoch 1; the same command resumes from here\n")


def test_processes_and_workers_reach_the_training(folder, monkeypatch):
    given = {}
    monkeypatch.setattr("asr.training.acoustic.train_acoustic_model", lambda config, run, **more: given.update(more))
    assert main(f"--run r {DATA} --nproc 2 --workers 3".split()) == 0
    assert (given["processes"], given["workers"]) == (2, 3)


@pytest.mark.parametrize(
    ("flags", "progress", "notes"), [("", None, 1), ("--quiet", False, 0), ("--progress --quiet", True, 0)]
)
def test_what_is_shown(folder, monkeypatch, capsys, flags, progress, notes):
    given = {}

    def train(config, run, *, note, **more):
        note("a note")
        given.update(more)

    monkeypatch.setattr("asr.training.acoustic.train_acoustic_model", train)
    assert main(f"--run r {DATA} {flags}".split()) == 0
    assert given == {"device": "auto", "progress": progress, "processes": 1, "workers": 0}
    assert capsys.readouterr().err == "asr-train: a note\n" * notes


def test_processes_share_the_threads_and_torchruns_separator_is_skipped(folder, monkeypatch):
    given = {}
    monkeypatch.setattr("asr.training.acoustic.train_acoustic_model", lambda *_, **options: given.update(options))
    monkeypatch.setattr("torch.set_num_threads", lambda threads: given.update(threads=threads))
    assert main(f"-- --run r {DATA} --nproc 3 --threads 2".split()) == 0
    assert (given["processes"], given["threads"]) == (3, 6)


@pytest.mark.parametrize(("number", "said"), [(0, 1), (1, 0)])
def test_only_the_first_of_torchruns_processes_speaks(folder, monkeypatch, capsys, number, said):
    def interrupted(*arguments, **more):
        raise Interrupted("stopped")

    monkeypatch.setenv("RANK", str(number))
    monkeypatch.setattr("asr.training.acoustic.train_acoustic_model", lambda *_, **__: None)
    assert main(f"--run r {DATA}".split()) == 0
    assert capsys.readouterr() == ("r/model\n" * said, "")
    monkeypatch.setattr("asr.training.acoustic.train_acoustic_model", interrupted)
    assert main(f"--run r {DATA}".split()) == 130
    assert capsys.readouterr() == ("", "asr-train: stopped\n" * said)


RECIPE = """
def main(argv):
    print(argv)
    return 3
"""


def test_help_fits_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--help-all"]) == 0
    printed = capsys.readouterr().out
    assert "--encoder.hidden-size N" in printed and "--auxiliary.lexicon" in printed
    assert "--data.chunked NUMBER" in printed
    assert max(map(len, printed.splitlines())) <= 80
