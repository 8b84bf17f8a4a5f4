"""The acoustic model: its folder comes back as it was, a wrong one is refused with the reason, padding cannot leak."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from asr.acoustic.config import ModelConfig, read_config
from asr.acoustic.folder import embedded_models, find_model
from asr.acoustic.foreign.loading import find_foreign
from asr.acoustic.model import AcousticModel
from asr.acoustic.options import EncoderOptions, FrontendOptions, Kind, Normalization
from asr.errors import ConfigError, DataError, InputError
from asr.files import model_config, model_folder
from asr.text.normalization import TextOptions

CONFIG = ModelConfig(
    characters=(" ", "A", "Z", "好"),
    text=TextOptions(language="zh"),
    frontend=FrontendOptions(sample_rate=8000, num_mel_bins=12, normalization="global"),
    encoder=EncoderOptions(time_strides=(3,), reduction="stack", num_layers=2, hidden_size=6, dropout=0.1),
    name="tiny",
    description="For tests.",
    provenance={"seed": 3, "dev": {"wer": 0.5}, "speeds": [0.9, 1.1]},
)
MEAN, STD = torch.linspace(7.7, 9.1, 12), torch.linspace(0.1, 4.9, 12)  # no float16 among them


def make_model(config: ModelConfig = CONFIG, *, seed: int = 0) -> AcousticModel:
    torch.manual_seed(seed)
    model = AcousticModel(config).eval()
    if config.frontend.normalization == "global":
        size = config.frontend.num_features
        model.frontend.set_statistics(MEAN[:1].expand(size) + torch.arange(size) / 100, STD[-1:].expand(size))
    return model


@pytest.fixture
def model() -> AcousticModel:
    model = make_model()
    model.frontend.set_statistics(MEAN, STD)
    return model


@pytest.fixture
def folder(model: AcousticModel, tmp_path: Path) -> Path:
    model.save(tmp_path / "models" / "tiny")
    return tmp_path / "models" / "tiny"


def log_probs(model: AcousticModel, seed: int = 1) -> Tensor:
    waveforms = torch.from_numpy(np.random.default_rng(seed).uniform(-0.5, 0.5, (2, 4000)).astype(np.float32))
    with torch.inference_mode():
        return model(waveforms, torch.tensor([4000, 3000]))[0]


# The folder


def test_a_model_comes_back_as_it_was(model: AcousticModel, folder: Path) -> None:
    loaded = AcousticModel.load(folder)
    assert loaded.config == model.config
    assert loaded.alphabet == model.alphabet
    assert torch.equal(log_probs(loaded), log_probs(model))
    assert not loaded.training
    assert {path.name for path in folder.iterdir()} == {"config.json", "weights.safetensors"}
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]  # nothing temporary is left


def test_half_precision_rounds_the_weights_but_not_the_statistics(
    model: AcousticModel, folder: Path, tmp_path: Path
) -> None:
    model.save(tmp_path / "half", stored="float16")
    size, whole = ((path / "weights.safetensors").stat().st_size for path in (tmp_path / "half", folder))
    assert size < 0.6 * whole
    loaded = AcousticModel.load(tmp_path / "half")
    assert torch.equal(loaded.frontend.mean, MEAN) and torch.equal(loaded.frontend.std, STD)
    for name, value in model.encoder.state_dict().items():
        kept = loaded.encoder.state_dict()[name]
        assert kept.dtype == torch.float32
        assert torch.equal(kept, value.half().float())


def test_int8_keeps_each_row_of_a_matrix_within_half_a_step(model: AcousticModel, folder: Path, tmp_path: Path) -> None:
    with torch.no_grad():
        model.encoder.output.weight[0] = 0.0
        model.encoder.output.weight[1] *= 1000.0
    model.save(tmp_path / "small", stored="int8")
    size, whole = ((path / "weights.safetensors").stat().st_size for path in (tmp_path / "small", folder))
    assert size < 0.55 * whole  # a third of a tiny model is names and vectors
    loaded = AcousticModel.load(tmp_path / "small")
    assert torch.equal(loaded.frontend.mean, MEAN) and torch.equal(loaded.frontend.std, STD)
    for name, value in model.encoder.state_dict().items():
        kept = loaded.encoder.state_dict()[name]
        assert kept.dtype == torch.float32
        if value.ndim == 1:
            assert torch.equal(kept, value.half().float())
        else:
            error, largest = ((tensor.flatten(1).abs().amax(dim=1)) for tensor in (kept - value, value))
            assert (error <= 0.501 * largest / 127).all()
    assert loaded.encoder.output.weight[0].eq(0).all()


def test_int8_weights_without_their_steps_are_refused(model: AcousticModel, tmp_path: Path) -> None:
    model.save(tmp_path / "small", stored="int8")
    path = tmp_path / "small" / "weights.safetensors"
    weights = load_file(path)
    for steps in ({}, {"encoder.output.weight.steps": torch.ones(1)}):
        save_file({**{k: v for k, v in weights.items() if k != "encoder.output.weight.steps"}, **steps}, path)
        with pytest.raises(DataError, match=r"tensor 'encoder.output.weight' must have as many .steps as rows"):
            AcousticModel.load(tmp_path / "small")
    odd = {name + ".steps" * 2: torch.ones(1, dtype=torch.int8) for name in weights}
    for steps in (torch.ones(5, dtype=torch.int8), torch.ones(5, 1), torch.tensor(1.0)):
        save_file({**weights, "encoder.output.weight.steps": steps}, path)
        with pytest.raises(DataError, match=r"tensor 'encoder.output.weight' must have as many .steps as rows"):
            AcousticModel.load(tmp_path / "small")
    save_file({**weights, **odd}, path)
    with pytest.raises(DataError, match=r"does not belong to the configured model"):
        AcousticModel.load(tmp_path / "small")


def test_a_loaded_model_can_be_trained_and_does_not_live_in_its_file(folder: Path) -> None:
    loaded = AcousticModel.load(folder)
    before = (folder / "weights.safetensors").read_bytes()
    waveforms, lengths = torch.randn(2, 4000).clamp(-1, 1), torch.tensor([4000, 3000])
    optimizer = torch.optim.SGD(loaded.parameters(), lr=0.1)
    values = log_probs(loaded)
    loaded(waveforms, lengths)[0][..., 1].sum().backward()
    assert all(parameter.grad is not None for parameter in loaded.parameters())
    optimizer.step()
    assert not torch.equal(log_probs(loaded), values)
    assert (folder / "weights.safetensors").read_bytes() == before


def test_loading_leaves_the_random_state_alone(folder: Path) -> None:
    before = torch.get_rng_state()
    AcousticModel.load(folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_configuration_is_plain_json_with_its_version(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert values["format_version"] == 1
    assert values["characters"] == [" ", "A", "Z", "好"]
    assert "好" in (folder / "config.json").read_text(encoding="utf-8")  # to be read by people, too
    assert read_config(folder) == CONFIG


def test_an_older_model_is_replaced(folder: Path) -> None:
    (folder / "notes.txt").write_text("of the old one")
    other = make_model(replace(CONFIG, name="other"), seed=5)
    other.save(folder)
    assert AcousticModel.load(folder).config.name == "other"
    assert torch.equal(log_probs(AcousticModel.load(folder)), log_probs(other))
    assert not (folder / "notes.txt").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_a_model_behind_a_link_is_replaced_where_it_is(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    make_model(replace(CONFIG, name="other")).save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert read_config(folder).name == "other"


def test_a_save_that_fails_leaves_the_older_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(model_folder, "save_file", fail)
    with pytest.raises(OSError, match="No space left"):
        make_model(replace(CONFIG, name="other")).save(folder)
    assert AcousticModel.load(folder).config.name == "tiny"
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


@pytest.mark.parametrize("content", ["thesis.tex", "config.json", "weights.safetensors"])
def test_a_folder_that_is_no_model_is_never_overwritten(model: AcousticModel, tmp_path: Path, content: str) -> None:
    """Also not one with a config.json of its own, such as a run folder."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / content).write_text("years of work")
    with pytest.raises(ConfigError, match=r"precious exists and is not a model folder, so it is not replaced: choose"):
        model.save(tmp_path / "precious")
    assert (tmp_path / "precious" / content).read_text() == "years of work"
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_a_file_is_never_overwritten(model: AcousticModel, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("years of work")
    with pytest.raises(ConfigError, match="precious exists and is not a model folder"):
        model.save(tmp_path / "precious")
    assert (tmp_path / "precious").read_text() == "years of work"


def test_an_empty_folder_and_the_working_directory_will_do(
    model: AcousticModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    model.save(".")
    assert read_config(tmp_path / "empty").name == "tiny"


def test_weights_that_are_not_finite_are_not_saved(model: AcousticModel, folder: Path) -> None:
    with torch.no_grad():
        model.encoder.output.bias[1] = 1e5
    model.save(folder)
    with pytest.raises(InputError, match=r"must be finite in float16 to be saved, but tensor 'encoder.output.bias'"):
        model.save(folder, stored="float16")
    with torch.no_grad():
        model.encoder.output.bias[1] = torch.nan
    with pytest.raises(InputError, match=r"must be finite in float32 to be saved, but tensor 'encoder.output.bias'"):
        model.save(folder)
    assert AcousticModel.load(folder).encoder.output.bias[1] == 1e5


def test_statistics_that_were_never_set_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tensor 'frontend.mean' is not"):
        AcousticModel(CONFIG).save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


# What is refused


def edit_config(folder: Path, **changes: Any) -> None:
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) else value
    (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "format_version must be 1, not 2; install a newer version of asr"),
        ({"format_version": 0}, "format_version must be 1, not 0$"),
        ({"format_version": None}, "format_version must be 1, not None$"),
        ({"format_version": "1"}, "format_version must be 1, not '1'$"),
        ({"kind": "language model"}, "the folder must hold a model of the kind 'acoustic model', not 'language model'"),
        ({"layers": 3}, "unknown option 'layers'; known are characters, decoding, description"),
        ({"encoder": {"units": 3}}, "encoder: unknown option 'units'"),
        ({"encoder": {"hidden_size": "6"}}, "encoder.hidden_size must be a whole number, not '6'"),
        ({"encoder": {"num_layers": 0}}, "encoder.num_layers must be between 1 and 256, not 0"),
        ({"frontend": {"window": "kaiser"}}, "frontend.window must be one of povey, .*, not 'kaiser'"),
        ({"characters": ["A", "A"]}, "the characters of an alphabet must differ; repeated: 'A'"),
        ({"characters": []}, "an alphabet must be a tuple of at least one character"),
    ],
)
def test_a_wrong_configuration_is_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    edit_config(folder, **changes)
    with pytest.raises(DataError, match=f"config.json: {message}"):
        AcousticModel.load(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_configuration_that_is_not_json_is_refused(folder: Path, content: bytes) -> None:
    (folder / "config.json").write_bytes(content)
    with pytest.raises(DataError, match=r"config.json: the model's configuration cannot be read as JSON"):
        AcousticModel.load(folder)


def test_a_configuration_that_is_no_object_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("[1]")
    with pytest.raises(DataError, match=r"config.json: the model's configuration must be a JSON object"):
        AcousticModel.load(folder)


def test_a_folder_without_configuration_or_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "weights.safetensors").unlink()
    with pytest.raises(DataError, match=r"weights.safetensors: the model's weights are missing"):
        AcousticModel.load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(DataError, match=r"tiny: not a model folder: it has no config.json"):
        AcousticModel.load(folder)
    with pytest.raises(DataError, match=r"nowhere: not a model folder: it has no config.json"):
        AcousticModel.load(tmp_path / "nowhere")


def edit_weights(folder: Path, **changes: Tensor | None) -> None:
    path = folder / "weights.safetensors"
    weights = {name: tensor.clone() for name, tensor in load_file(path).items()}
    for name, tensor in changes.items():
        if tensor is None:
            del weights[name]
        else:
            weights[name] = tensor
    save_file(weights, path)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("encoder.output.bias", None, r"tensor 'encoder.output.bias' is missing \(1 of 24 are missing\)"),
        ("frontend.std", None, r"tensor 'frontend.std' is missing \(1 of 24 are missing\)"),
        (
            "phones.bias",
            torch.zeros(2),
            r"tensor 'phones.bias' does not belong to the configured model \(1 such tensors\)",
        ),
        ("encoder.output.bias", torch.zeros(4), r"'encoder.output.bias' must have shape \(5,\), not \(4,\)"),
        ("encoder.output.bias", torch.zeros(5, 1), r"'encoder.output.bias' must have shape \(5,\), not \(5, 1\)"),
        ("encoder.output.bias", torch.full((5,), torch.nan), r"'encoder.output.bias' holds values that are not finite"),
        ("frontend.mean", torch.full((12,), torch.inf), r"'frontend.mean' holds values that are not finite"),
        (
            "encoder.output.bias",
            torch.zeros(5, dtype=torch.int64),
            r"'encoder.output.bias' must hold F32, F16, BF16, F64 or I8 numbers, not I64",
        ),
    ],
)
def test_weights_of_another_model_are_refused(folder: Path, name: str, tensor: Tensor | None, message: str) -> None:
    edit_weights(folder, **{name: tensor})
    with pytest.raises(DataError, match=f"weights.safetensors: .*{message}"):
        AcousticModel.load(folder)


def test_a_second_of_sound_has_bounds_in_a_model() -> None:
    with pytest.raises(
        ConfigError,
        match="a second of sound must become at most 16777216 values, but becomes 163840000: frames a second x",
    ):
        ModelConfig(
            characters=("A",),
            frontend=FrontendOptions(frame_shift_ms=1 / 8, num_mel_bins=20),
            encoder=EncoderOptions(conv_channels=1024),
        )


def test_weights_without_end_are_refused_unread(folder: Path) -> None:
    with open(folder / "weights.safetensors", "ab") as file:
        file.truncate(1 << 40)  # which takes no place on the disk
    with pytest.raises(DataError, match=r"the configured model has at most [0-9]+ bytes of weights, but this file has"):
        AcousticModel.load(folder)


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 9, 100, 0.5, 0.99, -1])
def test_truncated_weights_are_refused(folder: Path, kept: float) -> None:
    path = folder / "weights.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(DataError, match=r"weights.safetensors: the model's weights are damaged or truncated: "):
        AcousticModel.load(folder)


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("dump", [pickle.dump, torch.save])
def test_a_pickle_in_place_of_the_weights_is_refused_unread(folder: Path, dump: Any) -> None:
    bomb = Bomb(folder / "exploded")
    with open(folder / "weights.safetensors", "wb") as file:
        dump({"encoder.output.bias": bomb}, file)
    with pytest.raises(DataError, match="the model's weights are damaged or truncated"):
        AcousticModel.load(folder)
    assert not bomb.path.exists()
    pickle.loads(pickle.dumps(bomb))
    assert bomb.path.exists()  # it would have worked


# Names of models


def test_a_model_is_found_by_folder_or_embedded_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "package"
    shutil.copytree(folder, package / "models" / "zulu")
    shutil.copytree(folder, package / "models" / "english")
    (package / "models" / "unfinished").mkdir()
    monkeypatch.setattr(model_config, "EMBEDDED", package / "models")
    assert list(embedded_models().items()) == [
        ("english", package / "models" / "english"),
        ("zulu", package / "models" / "zulu"),
    ]
    assert find_model() == find_model("english") == package / "models" / "english"
    assert find_model("zulu") == package / "models" / "zulu"
    assert find_model(folder) == find_model(str(folder)) == folder
    with pytest.raises(
        InputError, match="no model 'xx': give a model folder, or one of the embedded models: english, zulu"
    ):
        find_model("xx")


def test_without_embedded_models_the_message_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(model_config, "EMBEDDED", tmp_path / "models")
    with pytest.raises(InputError, match="embedded models: none"):
        find_model()


# What it computes


@pytest.mark.parametrize("delta_order", [0, 2])
@pytest.mark.parametrize("normalization", get_args(Normalization))
@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("reduction", ["conv", "stack"])
def test_an_utterance_alone_is_the_same_as_in_a_padded_batch(
    kind: Kind, normalization: Normalization, delta_order: int, reduction: Any, rng: np.random.Generator
) -> None:
    frontend = FrontendOptions(
        kind=kind, sample_rate=8000, num_mel_bins=20, normalization=normalization, delta_order=delta_order
    )
    encoder = EncoderOptions(reduction=reduction, time_strides=(2,), num_layers=2, hidden_size=16, conv_channels=4)
    model = make_model(replace(CONFIG, frontend=frontend, encoder=encoder))
    lengths = [8000, 3217, 0, 6001, 39, 40, 200, 12000]
    waveforms = rng.uniform(-0.3, 0.3, (len(lengths), 12000)).astype(np.float32)  # padding is not silent
    with torch.inference_mode():
        batch, batch_lengths = model(torch.from_numpy(waveforms), torch.tensor(lengths))
        for row, length in enumerate(lengths):
            alone, (alone_length,) = model(torch.from_numpy(waveforms[row : row + 1, :length]), torch.tensor([length]))
            assert alone_length == batch_lengths[row] == model.output_length(length) == alone.shape[1]
            torch.testing.assert_close(batch[row, :alone_length], alone[0], atol=1e-4, rtol=0)
    assert batch.std(dim=1).mean() > 0.01  # frames differ, so that a leak would show


def test_positions_are_whole_samples(model: AcousticModel) -> None:
    """10 ms at 8 kHz are 80 samples; frames are stacked by 3 and halved once."""
    assert model.sample_rate == 8000
    assert model.samples_per_frame == 480
    assert model.frame_seconds == 0.06
    assert [model.output_length(samples) for samples in (0, 39, 40, 480, 520, 4800)] == [0, 0, 1, 1, 2, 10]


def test_the_folder_of_a_training_stands_for_its_model(tmp_path: Path) -> None:
    run = tmp_path / "my run"
    run.mkdir()
    (run / "config.json").write_text(json.dumps({"data": {"train": ["a"]}, "loop": {"epochs": 3}}))
    with pytest.raises(
        DataError, match=r"run: this training has no finished model yet; .*: asr-train --run '.*my run' --resume$"
    ):
        find_model(run)
    make_model().save(run / "model")
    assert find_model(run) == run / "model" and find_foreign(run) is None
    assert find_model(run / "model") == run / "model"
