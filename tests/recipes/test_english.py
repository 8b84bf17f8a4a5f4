"""The recipe of general English, whole, on a few seconds of tones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from asr.acoustic.model import AcousticModel
from asr.acoustic.shapes import WhisperShape
from asr.corpora import an4
from asr.lm.ngram import NgramModel
from recipes import stages
from recipes.english import run as recipe
from tests import tones
from tests.whispers import write_folder


@pytest.fixture
def sources(tmp_path: Path) -> list[str]:
    """The flags for a collection of tones with a corpus of each kind, two noises, a room, a dictionary and a text."""
    rng = np.random.default_rng(0)
    for corpus, splits in (
        ("common_voice_deltas", ("train",) * 12 + ("dev",) * 2),
        ("speechocean762", ("test", "test")),
    ):
        folder = tmp_path / "collection" / corpus
        folder.mkdir(parents=True)
        lines = ["path\ttranscript\tspeaker\tseconds\tsplit\n"]
        for number, split in enumerate(splits):
            text = " ".join("".join(rng.choice(list("ABC"), 3)) for _ in range(4))
            waveform = np.repeat(tones.speak(text, rng), 2)
            soundfile.write(folder / f"{number}.flac", waveform, 16000)
            lines.append(f"{number}.flac\t{text.lower()}\t{split}-{number % 2}\t{len(waveform) / 16000:.2f}\t{split}\n")
        (folder / "manifest.tsv").write_text("".join(lines))
    for name in ("background/rain", "background/city", "rir/room"):
        path = tmp_path / "noise" / f"{name}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.standard_normal(8000), 16000)
    (tmp_path / "cmudict.dict").write_text("abc EY1 B IY1 S IY1\ncab K AE1 B\nbac B AE1 K\n")
    (tmp_path / "book.txt").write_text("Abc. It was.\n")
    return [
        *("--pretrained", "none"),
        *("--source", str(tmp_path / "collection")),
        *("--noise", str(tmp_path / "noise")),
        *("--cmudict", str(tmp_path / "cmudict.dict")),
        *("--text", str(tmp_path / "book.txt")),
        *("--output", str(tmp_path / "out")),
    ]


@pytest.fixture(autouse=True)
def no_download(monkeypatch: pytest.MonkeyPatch, tone_corpus: Path) -> None:
    """Tones in the place of AN4."""
    manifests = {split: tone_corpus / f"{split}.jsonl.gz" for split in ("train", "dev")}
    manifests["test"] = manifests["dev"]
    monkeypatch.setattr(an4, "prepare", lambda **_: manifests)


SETS = ("common_voice_deltas-dev", "speechocean762-test", "an4-dev", "an4-test")


def test_all_stages(tmp_path: Path, sources: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert recipe.main([*sources, "--smoke", "--quiet"]) == 0
    out = capsys.readouterr().out
    model = tmp_path / "out" / "smoke" / "english"
    config = json.loads((model / "config.json").read_text())
    ways = ("", ", 3-gram", ", 3-gram and RNN")
    measured = [f"{name}{way}" for way in ways for name in sorted(SETS)]
    assert sorted(config["provenance"]["results"]) == sorted(measured)
    assert out.count("WER") == len(measured)
    corpora = config["provenance"]["corpora"]
    assert sorted(corpora) == ["an4", "book.txt", "common_voice_deltas"]
    assert "CC0 1.0" in corpora["common_voice_deltas"]
    (text,) = (tmp_path / "out" / "data").glob("text-*.txt")
    assert text.read_text() == "ABC\nIT WAS\n"
    assert config["decoding"]["rescore_lm"] == "english-lm"
    source = NgramModel.read(model / config["decoding"]["source_lm"])
    assert source.order == 3 and set(" ABC") <= {" " if word == source.space else word for word in source.words}
    assert NgramModel.read(model / config["decoding"]["lm"]).words[3:] == ("ABC", "IT", "WAS")
    assert recipe.main([*sources, "--smoke", "--quiet"]) == 0  # again: nothing left to train
    assert capsys.readouterr().out.count("WER") == out.count("WER")
    (tmp_path / "book.txt").write_text("Abc. It was, once.\n")  # another text, another model
    assert recipe.main([*sources, "--smoke", "--quiet"]) == 0
    assert "ONCE" in NgramModel.read(model / "ngram.safetensors").words


def test_without_a_text_it_decodes_greedily(tmp_path: Path, sources: list[str]) -> None:
    del sources[(text := sources.index("--text")) : text + 2]
    assert recipe.main([*sources, "--smoke", "--quiet"]) == 0
    config = json.loads((tmp_path / "out" / "smoke" / "english" / "config.json").read_text())
    assert sorted(config["provenance"]["results"]) == sorted(SETS)
    assert config["decoding"]["beam_width"] == 1


def test_on_a_pretrained_encoder(tmp_path: Path, sources: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*on_encoder(tmp_path, sources), "--smoke", "--keep-opus", "--quiet"]
    assert recipe.main(arguments) == 0
    out = capsys.readouterr().out
    run = tmp_path / "out" / "smoke"
    trained = AcousticModel.load(run / "model").frontend.encoder.state_dict()
    for name, value in load_file(tmp_path / "whisper" / "model.safetensors").items():
        tuned = name.startswith(("layers.", "layer_norm."))  # the last two of two layers
        assert torch.equal(value, trained[name]) != tuned, name
    assert len(list((tmp_path / "out" / "features").iterdir())) == 1
    config = json.loads((run / "english" / "config.json").read_text())
    assert sorted(config["provenance"]["results"]) == sorted(SETS)
    assert config["provenance"]["pretrained"]["name"] == "someone/encoder"
    assert config["provenance"]["training"]["tuning"]["layers"] == 2
    assert str(tmp_path) not in json.dumps(config)
    steps = (run / "log.jsonl").read_bytes()
    assert recipe.main(arguments) == 0  # again: nothing left to train
    assert (run / "log.jsonl").read_bytes() == steps
    assert capsys.readouterr().out.count("WER") == out.count("WER") == len(SETS)


def test_all_layers_of_an_encoder_are_trained_on_ten_utterances(
    tmp_path: Path, sources: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "SMOKE", {"train": 10, "other": 2})
    assert recipe.main([*on_encoder(tmp_path, sources), "--smoke", "--tune-all", "--device", "cpu", "--quiet"]) == 0
    run = tmp_path / "out" / "smoke"
    model = AcousticModel.load(run / "model")
    for name, value in load_file(tmp_path / "whisper" / "model.safetensors").items():
        tuned = name.startswith(("layers.", "layer_norm."))
        assert torch.equal(value, model.frontend.encoder.state_dict()[name]) != tuned, name
    assert not (tmp_path / "out" / "features").exists()


def on_encoder(tmp_path: Path, sources: list[str]) -> list[str]:
    """The flags for training on an encoder of random weights, without a text."""
    shape = WhisperShape(d_model=24, encoder_layers=2, encoder_attention_heads=3, encoder_ffn_dim=32)
    folder = str(write_folder(tmp_path / "whisper", shape))
    text = sources.index("--text")
    return ["--pretrained", folder, *sources[2:text], *sources[text + 2 :]]


def test_the_last_layers_or_all_are_trained(tmp_path: Path) -> None:
    shape = WhisperShape(d_model=24, encoder_layers=4, encoder_attention_heads=3, encoder_ffn_dim=32)
    folder = write_folder(tmp_path / "whisper", shape)
    args = recipe.RECIPE.make_parser().parse([*GIVEN, "--pretrained", str(folder), "--output", str(tmp_path)])
    manifests = dict.fromkeys(("train", "an4-train", "dev"), tmp_path)
    config = recipe.configure(manifests, args)
    assert (config.tuning.layers, config.tuning.after_epochs, config.loop.epochs) == (2, 1, 3)
    args.tune_all = True
    config = recipe.configure(manifests, args)
    assert (config.tuning.layers, config.tuning.after_epochs, config.data.feature_cache) == (4, 0, None)


GIVEN = ["--source", "s", "--noise", "n", "--cmudict", "c"]


def test_an_encoder_that_is_to_be_trained_must_be_given(sources: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert recipe.main([*sources, "--tune-all", "--quiet"]) == 2
    assert "--tune-all needs the folder of an encoder: --pretrained FOLDER" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--noise", "n", "--cmudict", "c"], "the following arguments are required: --source, --pretrained"),
        ([*GIVEN, "--pretrained", "none", "--epochs", "1"], "must be at least 2, not 1"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert recipe.main(arguments) == 2
    assert message in capsys.readouterr().err
