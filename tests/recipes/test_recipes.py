"""The recipes, whole: tiny models, on real corpora where they are at hand, else on tones."""

from __future__ import annotations

import gzip
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

import asr
from asr.acoustic.options import FrontendOptions
from asr.acoustic.shapes import WhisperShape
from asr.corpora import librispeech
from asr.data.manifest import read_manifest
from asr.errors import ConfigError
from asr.lm.rnn import LanguageModel
from asr.training.initial import make_model
from recipes import stages
from recipes.aishell import run as aishell
from recipes.an4 import run as an4
from recipes.fsdd import run as fsdd
from recipes.librispeech import run as librispeech_recipe
from recipes.mini_librispeech import run as mini_librispeech
from recipes.own_data import run as own_data
from recipes.yesno import run as yesno
from tests import tones
from tests.whispers import write_folder

CORPORA = Path(os.environ.get("ASR_CORPORA", "../shared/corpora"))
needs_corpora = pytest.mark.skipif(not CORPORA.is_dir(), reason=f"no corpora at {CORPORA} (set ASR_CORPORA)")


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "SMOKE", {"train": 16, "other": 4})


def results(model: Path) -> dict[str, object]:
    return json.loads((model / "config.json").read_text())["provenance"]["results"]


@needs_corpora
def test_yesno(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--source", str(CORPORA / "yesno"), "--output", str(tmp_path), "--smoke", "--quiet"]
    assert yesno.main(arguments) == 0
    out = capsys.readouterr().out
    assert out.count("WER") == 4
    ways = ["dev", "test", "dev, beam of 16", "test, beam of 16"]
    assert list(results(tmp_path / "smoke" / "yesno")) == ways
    assert yesno.main(arguments) == 0  # again: nothing left to train
    assert capsys.readouterr().out.count("WER") == 4


@needs_corpora
def test_pieces_of_yesno_do_not_tell_where_they_are(tmp_path: Path) -> None:
    parser = yesno.RECIPE.make_parser()
    args = parser.parse(["--source", str(CORPORA / "yesno"), "--quiet"])
    manifests = yesno.prepare(args, tmp_path, note=print, progress=False)
    recordings = {u.id: u for u in read_manifest(tmp_path / "train.jsonl.gz")}
    assert {u.text.split()[0] for u in recordings.values()} == {"NO"}  # what a network would learn
    pieces = read_manifest(manifests["train"])
    assert len(pieces) >= 25 * 5
    assert {u.text.split()[0] for u in pieces} == {"NO", "YES"}
    for piece in pieces:
        name, _, first = piece.id.partition("-from-")
        assert piece.text.split() == recordings[name].text.split()[int(first) : int(first) + 4]
        samples, rate = soundfile.read(piece.audio)
        start = round(piece.start_seconds * rate)
        level = np.abs(samples)
        # A word begins within 0.1 s, and the piece ends with a pause: neither is a word cut in two.
        assert level[start : start + rate // 10].max() > 2 * level[start : start + rate // 100].max()
        assert 1.0 < piece.duration_seconds < 6.0


@needs_corpora
def test_an4_with_its_language_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--source", str(CORPORA / "an4"), "--output", str(tmp_path), "--smoke", "--quiet"]
    assert an4.main(arguments) == 0
    assert capsys.readouterr().out.count("WER") == 4
    model = tmp_path / "smoke" / "an4"
    assert list(results(model)) == ["dev", "test", "dev, beam of 100", "test, beam of 100"]
    stored = asr.load(model, device="cpu").decoder.options
    assert (
        Path(stored.rescoring.rescore_lm or "") == model / "lm"
        and LanguageModel.load(model / "lm").config.unit == "character"
    )
    assert an4.main(arguments) == 0  # again: nothing left to train


@needs_corpora
def test_fsdd_with_a_speaker_held_out(tmp_path: Path) -> None:
    source = str(CORPORA / "fsdd")
    assert fsdd.main(["--source", source, "--output", str(tmp_path), "--smoke", "--quiet", "--held-out", "theo"]) == 0
    test = read_manifest(tmp_path / "smoke" / "test.jsonl.gz")
    assert {utterance.speaker for utterance in test} == {"theo"}
    assert list(results(tmp_path / "smoke" / "fsdd")) == ["dev", "test", "dev, beam of 16", "test, beam of 16"]


@needs_corpora
@pytest.mark.parametrize(("flags", "measured"), [([], ["dev", "test"]), (["--overfit", "6"], ["dev"])])
def test_the_sample_of_aishell(tmp_path: Path, flags: list[str], measured: list[str]) -> None:
    source = str(CORPORA / "aishell_sample")
    assert aishell.main(["--source", source, "--output", str(tmp_path), "--smoke", "--quiet", *flags]) == 0
    config = json.loads((tmp_path / "smoke" / "aishell" / "config.json").read_text())
    assert list(config["provenance"]["results"]) == measured
    assert config["text"]["language"] == "zh"
    assert all(len(character) == 1 for character in config["characters"])


@pytest.fixture
def encoder(tmp_path: Path) -> str:
    """The folder of a small pretrained encoder."""
    shape = WhisperShape(d_model=24, encoder_layers=2, encoder_attention_heads=3, encoder_ffn_dim=32)
    return str(write_folder(tmp_path / "whisper", shape))


@needs_corpora
def test_the_sample_of_aishell_on_a_pretrained_encoder(encoder: str, tmp_path: Path) -> None:
    source = str(CORPORA / "aishell_sample")
    arguments = ["--source", source, "--output", str(tmp_path / "out"), "--smoke", "--quiet", "--pretrained", encoder]
    assert aishell.main(arguments) == 0
    config = json.loads((tmp_path / "out" / "smoke" / "aishell" / "config.json").read_text())
    assert config["provenance"]["pretrained"]["name"] == "someone/encoder"
    assert config["text"]["language"] == "zh"


@pytest.fixture
def books(tmp_path: Path) -> Path:
    """Tones in LibriSpeech's layout, a few utterances in each part that a recipe wants."""
    rng = np.random.default_rng(0)
    for part in ("train-clean-5", "dev-clean-2", "train-clean-100", *librispeech_recipe.MEASURED):
        folder = tmp_path / "LibriSpeech" / part / "1" / "2"
        folder.mkdir(parents=True)
        lines = []
        for number in range(6):
            text = " ".join("".join(rng.choice(list("ABC"), 3)) for _ in range(3))
            soundfile.write(folder / f"1-2-{number:04}.flac", np.repeat(tones.speak(text, rng), 2), 16000)
            lines.append(f"1-2-{number:04} {text}\n")
        (folder / "1-2.trans.txt").write_text("".join(lines))
    return tmp_path / "LibriSpeech"


@pytest.mark.filterwarnings("ignore::asr.errors.AsrWarning")  # it is not all of LibriSpeech
def test_mini_librispeech(books: Path, tmp_path: Path) -> None:
    arguments = ["--source", str(books), "--output", str(tmp_path / "out"), "--smoke", "--quiet"]
    assert mini_librispeech.main(arguments) == 0
    assert list(results(tmp_path / "out" / "smoke" / "mini_librispeech")) == ["dev-clean-2"]


@pytest.mark.filterwarnings("ignore::asr.errors.AsrWarning")
def test_mini_librispeech_on_a_pretrained_encoder(books: Path, encoder: str, tmp_path: Path) -> None:
    arguments = ["--source", str(books), "--output", str(tmp_path / "out"), "--pretrained", encoder]
    assert mini_librispeech.main([*arguments, "--smoke", "--quiet"]) == 0
    model = tmp_path / "out" / "smoke" / "mini_librispeech"
    assert list(results(model)) == ["dev-clean-2"]
    assert json.loads((model / "config.json").read_text())["provenance"]["pretrained"]["name"] == "someone/encoder"


@pytest.mark.filterwarnings("ignore::asr.errors.AsrWarning")
def test_mini_librispeech_learns_phones_where_there_is_a_dictionary(books: Path, tmp_path: Path) -> None:
    (tmp_path / "cmudict").write_text("ABC  AH0 B K\nCAB  K AE1 B\n")
    arguments = ["--source", str(books), "--output", str(tmp_path / "out"), "--smoke", "--quiet"]
    assert mini_librispeech.main([*arguments, "--cmudict", str(tmp_path / "cmudict")]) == 0
    assert (tmp_path / "out" / "data" / "lexicon.txt").read_text().splitlines()[:2] == ["ABC AH B K", "CAB K AE B"]
    args = mini_librispeech.RECIPE.make_parser().parse([*arguments, "--cmudict", "x"])
    config = mini_librispeech.configure(dict.fromkeys(("train-clean-5", "dev-clean-2"), tmp_path), args)
    assert config.auxiliary.lexicon == str(tmp_path / "out" / "data" / "lexicon.txt")


@pytest.mark.filterwarnings("ignore::asr.errors.AsrWarning")
def test_librispeech_with_its_language_model(
    books: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "librispeech-lm-norm.txt.gz"
    with gzip.open(text, "wt") as file:
        file.writelines(f"{'ABC' if number % 2 else 'CAB BAC'}\n" for number in range(20))
    monkeypatch.setattr(librispeech, "LM_TEXT", replace(librispeech.LM_TEXT, url=text.as_uri(), checksum=None))
    output = tmp_path / "out"
    flags = ["--hours", "100", "--lm-every", "2", "--smoke", "--quiet"]
    assert librispeech_recipe.main(["--source", str(books), "--output", str(output), *flags]) == 0
    assert (output / "data" / "lm.every-2.txt").read_text() == "CAB BAC\n" * 10
    assert capsys.readouterr().out.count("WER") == 2 * 4
    model = output / "smoke" / "librispeech"
    ways = [f"{part}{way}" for way in ("", ", beam of 100") for part in librispeech_recipe.MEASURED]
    assert sorted(results(model)) == sorted(ways)
    assert json.loads((model / "config.json").read_text())["decoding"]["beam_width"] == 100


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A folder of tones, each with its text beside it."""
    rng = np.random.default_rng(1)
    folder = tmp_path / "recordings"
    folder.mkdir()
    for number in range(24):
        text = " ".join("".join(rng.choice(list("ABC"), 2)) for _ in range(2))
        soundfile.write(folder / f"{number}.wav", tones.speak(text, rng), 8000)
        (folder / f"{number}.txt").write_text(text.lower())
    return folder


@pytest.mark.parametrize(("flag", "run"), [("--quiet", "seed-0"), ("--smoke", "smoke")])
def test_own_data(recordings: Path, tmp_path: Path, tone_run: tuple[Path, list[str]], flag: str, run: str) -> None:
    model, _ = tone_run
    output = tmp_path / "out"
    flags = ["--init", str(model / "model"), "--epochs", "2", flag]
    assert own_data.main(["--source", str(recordings), "--output", str(output), *flags]) == 0
    found = results(output / run / "own_data")
    assert "dev" in found
    assert {name.partition(",")[0] for name in found} <= {"dev", "test"}
    assert {f"{name}, before" for name in found if "," not in name} == {name for name in found if "," in name}


@pytest.mark.parametrize("workers", ["0", "2"])
def test_own_data_keeps_the_features_of_an_encoder_unless_workers_read(tone_corpus: Path, workers: str) -> None:
    args = own_data.RECIPE.make_parser().parse(["--source", "x", "--workers", workers])
    manifests = {split: tone_corpus / f"{split}.jsonl.gz" for split in ("train", "dev")}
    assert (own_data.configure(manifests, args).data.feature_cache is None) == (workers == "2")


def test_own_data_with_digits(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One text with a year is refused before any work; to extend the alphabet is a choice, and says what is lost."""
    for number in range(6):  # some of them are for training
        (recordings / f"{number}.txt").write_text("ab 19")
    output, start = tmp_path / "out", tmp_path / "start"
    frontend = FrontendOptions(sample_rate=8000, num_mel_bins=20, normalization="utterance")
    make_model(tones.make_config(tmp_path, frontend=frontend), ["A B C"]).save(start)
    flags = ["--source", str(recordings), "--output", str(output), "--init", str(start)]
    assert own_data.main([*flags, "--epochs", "2", "--quiet"]) == 1
    error = capsys.readouterr().err
    assert re.search(r"must have the characters of '\d', but lacks '1', '9' in 'ab 19'; correct the text", error)
    assert (
        "--numbers spell" in error and "--extend-alphabet, which loses the language models; 5 other texts have" in error
    )
    assert not (output / "seed-0").exists()
    order: list[str] = []
    train, measure = stages.train_acoustic_model, stages.measure
    monkeypatch.setattr(
        stages, "train_acoustic_model", lambda *args, **how: (order.append("train"), train(*args, **how))
    )
    monkeypatch.setattr(stages, "measure", lambda *args, **how: (order.append(how["way"]), measure(*args, **how))[1])
    assert own_data.main([*flags, "--epochs", "2", "--extend-alphabet"]) == 0
    assert order == [", before", "train", ""]
    assert "% WER before (greedy), " in capsys.readouterr().err
    assert "1" in json.loads((output / "seed-0" / "own_data" / "config.json").read_text())["characters"]


@pytest.mark.parametrize(
    ("main", "arguments", "message"),
    [
        (own_data.main, [], "the recordings must be given: --source PATH"),
        (librispeech_recipe.main, ["--hours", "360"], "invalid choice: 360"),
        (fsdd.main, ["--held-out", "bob"], "invalid choice: 'bob'"),
        (yesno.main, ["--epochs", "1"], "must be at least 2, not 1"),
        (aishell.main, ["--held-out", "S0150"], "held_out is for the sample, with a manifest.tsv"),
    ],
)
def test_wrong_usage(main, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_too_few_recordings(recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in [*recordings.glob("?.*"), *recordings.glob("1?.*"), *recordings.glob("2[1-9].*")]:
        path.unlink()  # one is left
    assert own_data.main(["--source", str(recordings), "--output", str(tmp_path / "out"), "--quiet"]) == 2
    assert "there must be utterances for" in capsys.readouterr().err


def test_manifests_of_an_import_are_used_cleaned_if_they_were(tmp_path: Path) -> None:
    args = own_data.RECIPE.make_parser().parse(["--source", str(tmp_path)])
    names = ["train.jsonl.gz", "dev.jsonl.gz", "train.clean.jsonl.gz", "dev.clean.jsonl.gz"]
    assert own_data.manifests_in(tmp_path) == {}
    for name in names[:2]:
        (tmp_path / name).touch()
    made = own_data.prepare(args, tmp_path / "out", note=print, progress=False)
    assert [path.name for path in made.values()] == names[:2] and not (tmp_path / "out").exists()
    (tmp_path / names[2]).touch()
    with pytest.raises(ConfigError, match="has no cleaned manifest of dev: asr-data check --fix all of them"):
        own_data.manifests_in(tmp_path)
    (tmp_path / names[3]).touch()
    assert [path.name for path in own_data.manifests_in(tmp_path).values()] == names[2:]


def test_one_long_recording_with_subtitles_will_do(tmp_path: Path, rng: np.random.Generator) -> None:
    (tmp_path / "mine").mkdir()
    soundfile.write(tmp_path / "mine" / "long.flac", 0.1 * rng.standard_normal(20 * 8000), 8000)
    cues = (f"00:00:{second:02},0 --> 00:00:{second:02},900\nword {second}\n" for second in range(20))
    (tmp_path / "mine" / "long.srt").write_text("\n".join(cues))
    args = own_data.RECIPE.make_parser().parse(["--source", str(tmp_path / "mine")])
    notes: list[str] = []
    made = own_data.prepare(args, tmp_path / "out", note=notes.append, progress=False)
    assert made.keys() == {"train", "dev", "test"} and "split by utterance" in notes


def test_each_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    for name, recipe in (
        ("yesno", yesno), ("fsdd", fsdd), ("mini_librispeech", mini_librispeech), ("librispeech", librispeech_recipe),
        ("aishell", aishell), ("own_data", own_data),
    ):  # fmt: skip
        assert recipe.main(["--help"]) == 0
        assert f"python -m recipes.{name}.run" in capsys.readouterr().out
