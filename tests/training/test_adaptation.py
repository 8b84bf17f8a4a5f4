"""A recogniser adapted to texts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from asr.acoustic.folder import find_model
from asr.cli.lm import main
from asr.decoding.options import DecodingOptions
from asr.errors import ConfigError, DataError, InputError
from asr.lm.estimation import estimate_ngram
from asr.lm.ngram import NgramModel
from asr.options import to_json
from asr.training.adaptation import AdaptationOptions, adapt

pytestmark = pytest.mark.filterwarnings("ignore:modified Kneser-Ney cannot estimate:asr.errors.AsrWarning")

GENERAL = [f"THE {animal} {verb} ON THE MAT" for animal in ("CAT", "DOG", "HEN") for verb in ("SAT", "LAY", "SLEPT")]
SPECIAL = [
    f"Place the stent in the {place} artery, {number} times."
    for place in ("left", "right")
    for number in ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven")
]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The folder of `english` with a small n-gram model and without weights, which adaptation does not read."""
    folder = tmp_path / "start"
    folder.mkdir()
    values = json.loads((find_model("english") / "config.json").read_text())
    values["decoding"] = to_json(DecodingOptions.of(lm="words.safetensors"))
    (folder / "config.json").write_text(json.dumps(values))
    (folder / "weights.safetensors").write_bytes(b"weights")
    estimate_ngram([line.split() for line in GENERAL], order=3).write(folder / "words.safetensors")
    return folder


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "manual.txt"
    path.write_text("\n".join(SPECIAL) + "\n")
    return path


def test_new_words_become_known_and_their_phrases_likely(model: Path, text: Path, tmp_path: Path) -> None:
    result = adapt([text], tmp_path / "mine", model=model)
    assert result.sentences == len(SPECIAL) and 0 < result.weight <= 0.9
    assert {"STENT", "ARTERY"} < set(result.new_words) and result.not_spelled == ()
    assert result.perplexities is not None and result.perplexities[1] < result.perplexities[0]
    before, after = NgramModel.read(model / "words.safetensors"), NgramModel.read(tmp_path / "mine/ngram.safetensors")
    assert "STENT" not in before.vocabulary
    assert after.score(["PLACE", "THE", "STENT"]).sum() > before.score(["PLACE", "THE", "STENT"]).sum() + 3
    assert after.score(GENERAL[0].split()).sum() == pytest.approx(before.score(GENERAL[0].split()).sum(), abs=20)
    values = json.loads((tmp_path / "mine/config.json").read_text())
    assert values["decoding"]["lm"] == "ngram.safetensors"
    assert values["provenance"]["adapted"] | {"weight": 0} == {
        "from": "start",
        "texts": ["manual.txt"],
        "sentences": len(SPECIAL),
        "words": result.words,
        "weight": 0,
    }
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [
        "config.json",
        "ngram.safetensors",
        "weights.safetensors",
    ]
    adapt([text], tmp_path / "mine", model=tmp_path / "mine")  # replaced, and adapted once more


def test_a_given_weight_is_taken(model: Path, text: Path, tmp_path: Path) -> None:
    result = adapt([text], tmp_path / "mine", model=model, options=AdaptationOptions(weight=0.25))
    assert result.weight == 0.25 and result.perplexities is None


def test_another_text_can_decide_the_weight(model: Path, text: Path, tmp_path: Path) -> None:
    dev = tmp_path / "dev.txt"
    dev.write_text("\n".join(GENERAL))
    to_general = adapt([text], tmp_path / "mine", model=model, options=AdaptationOptions(dev=str(dev)))
    assert to_general.weight < 0.1 < adapt([text], tmp_path / "mine", model=model).weight


def test_words_that_cannot_be_spelled_are_named_or_spelled(model: Path, text: Path, tmp_path: Path) -> None:
    text.write_text(text.read_text() + "Room 12 in 1923.\n")
    assert adapt([text], tmp_path / "mine", model=model).not_spelled == ("12", "1923")
    pytest.importorskip("num2words")
    result = adapt([text], tmp_path / "mine", model=model, options=AdaptationOptions(numbers="spell"))
    assert result.not_spelled == () and "NINETEEN" in result.new_words


def test_what_cannot_be_adapted_is_refused(model: Path, text: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.txt"
    few.write_text("One line.\n")
    with pytest.raises(InputError, match="at least 20 sentences are needed to adapt a model, but the texts have 1"):
        adapt([few], tmp_path / "mine", model=model)
    with pytest.raises(
        ConfigError, match="a model that decodes with n-grams of words can be adapted, and an4 does not"
    ):
        adapt([text], tmp_path / "mine", model="an4")
    shutil.copytree(model, tmp_path / "other")
    (tmp_path / "other/config.json").unlink()
    notes: list[str] = []
    with pytest.raises(NotADirectoryError, match="a part of this path is a file"):
        adapt([text], few / "mine", model=model, note=notes.append)
    assert notes == []  # it comes before the work
    with pytest.raises(ConfigError, match="exists and is not a model folder"):
        adapt([text], tmp_path / "other", model=model)
    assert not (tmp_path / "mine").exists()


def test_a_folder_of_another_model_is_one_sentence(model: Path, text: Path, tmp_path: Path) -> None:
    (model / "config.json").write_text('{"model_type": "wav2vec2"}')
    with pytest.raises(DataError, match="format_version must be 1"):
        adapt([text], tmp_path / "mine", model=model)


def test_only_the_replaced_file_is_left_out_and_texts_may_come_one_by_one(
    model: Path, text: Path, tmp_path: Path
) -> None:
    (model / "lm").mkdir()
    (model / "lm/words.safetensors").write_bytes(b"of another model")
    adapt(iter([text]), tmp_path / "mine", model=model)
    assert (tmp_path / "mine/lm/words.safetensors").read_bytes() == b"of another model"
    assert not (tmp_path / "mine/words.safetensors").exists()
    assert json.loads((tmp_path / "mine/config.json").read_text())["provenance"]["adapted"]["texts"] == ["manual.txt"]


def test_the_command_prints_the_folder_and_the_next_command(model: Path, text: Path, tmp_path: Path, capsys) -> None:
    assert main(["adapt", str(text), "--model", str(model), "--output", str(tmp_path / "mine")]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path}/mine\n"
    assert "new words: " in captured.err and f"next: asr-transcribe --model {tmp_path}/mine FILE" in captured.err
    assert main(["adapt", str(tmp_path / "none.txt"), "--model", str(model), "--output", str(tmp_path / "b")]) == 1
    assert "none.txt" in capsys.readouterr().err
