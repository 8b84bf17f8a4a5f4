"""What a training begins with: the weights of a given model, whatever becomes of its alphabet, and frozen layers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import asr
from asr.acoustic.config import read_config, write_config
from asr.acoustic.model import AcousticModel
from asr.data.manifest import read_manifest, write_manifest
from asr.decoding.options import DecodingOptions
from asr.errors import ConfigError, DataError
from asr.lm.recurrent import LanguageModelConfig, NetworkOptions
from asr.lm.rnn import LanguageModel
from asr.options import replace_options
from asr.text.normalization import TextOptions
from asr.training.acoustic import train_acoustic_model
from asr.training.config import TrainingConfig
from asr.training.initial import freeze, make_model
from asr.training.log import read_log

Configure = Callable[..., TrainingConfig]


@pytest.fixture(scope="module")
def init(tone_run: tuple[Path, list[str]]) -> str:
    return str(tone_run[0] / "model")


def rows(model: AcousticModel, text: str) -> torch.Tensor:
    """The weights and the bias of Φ and of the characters of a text."""
    labels = [0, *model.alphabet.encode(text)]
    output = model.encoder.output
    return torch.cat([output.weight, output.bias[:, None]], dim=1)[labels]


@pytest.mark.parametrize(
    ("alphabet", "texts", "characters", "shared"),
    [
        ("keep", ["ÄB"], (" ", "A", "B", "C"), " ABC"),
        ("extend", ["ÄB D", "A"], (" ", "A", "B", "C", "D", "Ä"), " ABC"),
        ("extend", ["AB"], (" ", "A", "B", "C"), " ABC"),
        ("replace", ["ÄB", "DB C"], (" ", "B", "C", "D", "Ä"), " BC"),
        ("replace", ["好棒"], ("好", "棒"), ""),
    ],
)
def test_characters_that_stay_keep_their_weights(
    init: str, tone_config: Configure, alphabet: str, texts: list[str], characters: tuple[str, ...], shared: str
) -> None:
    before = AcousticModel.load(init)
    model = make_model(tone_config(init=init, init_alphabet=alphabet), texts)
    assert model.config.characters == characters
    assert torch.equal(rows(model, shared), rows(before, shared))
    others = {name: value for name, value in model.state_dict().items() if "encoder.output" not in name}
    assert all(torch.equal(value, before.state_dict()[name]) for name, value in others.items())
    assert model.encoder.output.weight.shape[0] == len(characters) + 1


def test_what_is_left_out_of_texts_is_not_in_the_alphabet(init: str, tone_config: Configure) -> None:
    config = tone_config(init=init, init_alphabet="extend")
    config = replace(config, data=replace(config.data, unknown_characters="ÄÖ"))
    assert make_model(config, ["ÄB Ö D"]).config.characters == (" ", "A", "B", "C", "D")


def test_the_spelling_may_change_with_the_alphabet(init: str, tone_config: Configure) -> None:
    config = tone_config(init=init)
    config = replace(config, text=replace(config.text, case="lower"))
    for alphabet in ("keep", "extend"):
        with pytest.raises(ConfigError, match=r"init: the text options of .* must be those of this training"):
            make_model(replace(config, init_alphabet=alphabet), ["ab"])
    model = make_model(replace(config, init_alphabet="replace"), ["ab c"])
    assert model.config.characters == (" ", "a", "b", "c") and model.config.text.case == "lower"


def test_a_model_learns_a_letter_that_is_new(
    init: str, tone_config: Configure, tone_corpus: Path, tmp_path: Path
) -> None:
    """C is called D now: the letters that stay are known from the start, D is learnt."""
    config = tone_config(init=init, init_alphabet="extend", epochs=8, learning_rate=0.01)
    places = {}
    for split in ("train", "dev"):
        places[split] = tmp_path / f"{split}.jsonl.gz"
        utterances = read_manifest(tone_corpus / places[split].name)
        write_manifest([replace(each, text=each.text.replace("C", "D")) for each in utterances], places[split])
    data = replace(config.data, train=(str(places["train"]),), dev=(str(places["dev"]),))
    with pytest.raises(DataError, match=r"must have the characters of .*, but lacks 'D'"):
        train_acoustic_model(replace(config, data=data, init_alphabet="keep"), tmp_path / "keep", device="cpu")
    model = train_acoustic_model(replace(config, data=data), tmp_path / "run", device="cpu")
    assert "D" in model.config.characters
    assert min(record["wer"] for record in read_log(tmp_path / "run") if record["kind"] == "epoch") < 0.3


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_frozen_layers_and_what_lies_below_them_stay(
    init: str, tone_config: Configure, tmp_path: Path, frozen: int
) -> None:
    before = AcousticModel.load(init).state_dict()
    config = tone_config(init=init, frozen_layers=frozen, epochs=1)
    after = train_acoustic_model(config, tmp_path / "run", device="cpu").state_dict()
    kept = {name for name, value in after.items() if torch.equal(value, before[name])}
    below = ("encoder.reduction.", "encoder.layers.0.", "encoder.layers.1.")[: frozen + 1 if frozen else 0]
    trained = {name for name in after if name.startswith("encoder.") and not name.startswith(below or "none")}
    assert kept.isdisjoint(trained) and trained
    assert all(name in kept for name in after if below and name.startswith(below))


@pytest.fixture
def decoding(init: str, tmp_path: Path) -> Path:
    """A model to start from that decodes with a file and a folder of its own."""
    start = tmp_path / "start"
    shutil.copytree(init, start)
    (start / "words.txt").write_text("AB\nC\n")
    network = NetworkOptions(hidden_size=8, embedding_size=8)
    LanguageModel(LanguageModelConfig(unit="character", entries=tuple("ABC "), network=network)).save(start / "lm")
    options = DecodingOptions.of(beam_width=9, lexicon="words.txt", rescore_lm="lm", confidence_temperature=2.0)
    write_config(start, replace(read_config(init), decoding=options, provenance={"hours": 1000}))
    return start


def test_what_it_decodes_with_comes_along(decoding: Path, tone_config: Configure, tmp_path: Path) -> None:
    train_acoustic_model(tone_config(init=str(decoding), epochs=1), tmp_path / "run", device="cpu")
    before = asr.load(decoding, device="cpu").decoder.options
    shutil.rmtree(decoding)
    own = tmp_path / "run" / "model"
    recognizer = asr.load(own, device="cpu")
    places = {"lexicon": str(own / "words.txt"), "rescore_lm": str(own / "lm")}
    assert recognizer.decoder.options == replace_options(before, **places)
    assert recognizer.model.config.provenance["hours"] < 1


def test_with_another_alphabet_it_decodes_greedily(decoding: Path, tone_config: Configure, tmp_path: Path) -> None:
    """A language model may not know what is new."""
    smaller = replace(read_config(decoding), characters=(" ", "A", "B"))
    AcousticModel(smaller).save(decoding)
    config = tone_config(init=str(decoding), init_alphabet="extend", epochs=1)
    notes: list[str] = []
    train_acoustic_model(config, tmp_path / "run", device="cpu", note=notes.append)
    assert notes[0].endswith("by 'C': its language models and options of decoding are left out, and the new model "
                             "decodes greedily")  # fmt: skip
    assert read_config(tmp_path / "run" / "model").decoding == DecodingOptions()
    assert {path.suffix for path in (tmp_path / "run" / "model").iterdir()} == {".json", ".safetensors"}


def test_numbers_can_be_spelled_from_here_on(init: str, tone_config: Configure) -> None:
    spelled = replace(tone_config(init=init), text=TextOptions(numbers="spell"))
    assert make_model(spelled, ["AB"]).config.text.numbers == "spell"


def test_nothing_is_frozen_by_nothing(init: str) -> None:
    model = AcousticModel.load(init)
    freeze(model, 0)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init_alphabet": "extend"}, "init_alphabet and frozen_layers need a model to start from, init"),
        ({"frozen_layers": 1}, "init_alphabet and frozen_layers need a model to start from, init"),
        ({"init": "x", "frozen_layers": 3}, "frozen_layers must be at most the encoder's 2, not 3"),
        ({"init": "x", "frozen_layers": -1}, "frozen_layers must be at least 0, not -1"),
        ({"init": "x", "init_alphabet": "new"}, "init_alphabet must be one of keep, extend, replace"),
    ],
)
def test_what_does_not_go_together_is_refused(tone_config: Configure, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tone_config(**options)
