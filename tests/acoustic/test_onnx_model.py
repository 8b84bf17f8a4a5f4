"""Our models in onnxruntime beside themselves in torch: the same tensors, the same numbers, the same errors.

`test_export.py` compares more models, whose graph is the same.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import asr
from asr.acoustic.config import ModelConfig
from asr.acoustic.graph import acoustic_graph
from asr.acoustic.loading import load_own
from asr.acoustic.model import AcousticModel
from asr.acoustic.onnx_model import OnnxModel
from asr.acoustic.options import EncoderOptions, FrontendOptions
from asr.compute.recurrence import Cell
from asr.errors import DataError
from tests import foreign_models
from tests.whispers import TINY

SMALL: dict[str, Any] = {"num_layers": 2, "hidden_size": 8, "conv_channels": 2}


def make_config(frontend: dict[str, Any], encoder: dict[str, Any]) -> ModelConfig:
    return ModelConfig(
        characters=(" ", "A", "B"),
        frontend=FrontendOptions(**frontend),
        encoder=EncoderOptions(**(SMALL | encoder)),
        name="small",
    )


@pytest.mark.parametrize("cell", get_args(Cell))
@pytest.mark.parametrize(
    ("frontend", "encoder"),
    [
        ({}, {}),
        ({"normalization": "global", "delta_order": 2}, {"projection": 5, "merge": "concat", "layer_norm": False}),
        ({"whisper": TINY, "pretrained_sum": True}, {"reduction": "stack", "time_strides": (3,)}),
        ({"whisper": replace(TINY, normalize_output=False)}, {"bidirectional": False, "time_strides": (2, 1, 3)}),
    ],
)
def test_the_tensors_are_those_of_torch(frontend: dict[str, Any], encoder: dict[str, Any], cell: str) -> None:
    """By name and shape, so that a folder is refused by both or by neither."""
    config = make_config(frontend, {**encoder, "cell": cell})
    state = AcousticModel(config, initialize=False).state_dict()
    assert acoustic_graph(config).shapes == {name: tuple(tensor.shape) for name, tensor in state.items()}


@pytest.mark.parametrize("stored", ["float32", "float16", "int8", "bfloat16"])
def test_any_format_of_the_weights(tmp_path: Path, rng: np.random.Generator, stored: Any) -> None:
    torch.manual_seed(0)
    model = AcousticModel(make_config({"whisper": TINY}, {"reduction": "stack", "time_strides": (2,)})).eval()
    model.save(tmp_path, stored="float32" if stored == "bfloat16" else stored)
    if stored == "bfloat16":
        path = tmp_path / "weights.safetensors"
        save_file({name: tensor.bfloat16() for name, tensor in load_file(path).items()}, path)
    ours = load_own(tmp_path, device="cpu", precision="float32", runtime="torch")
    theirs = load_own(tmp_path, device="auto", precision="auto", runtime="onnx")
    assert isinstance(ours, AcousticModel) and isinstance(theirs, OnnxModel)
    sounds = foreign_models.waveforms(rng, 16_000, 3_000, 700)
    for one, other in zip(ours.log_probs(sounds), theirs.log_probs(sounds), strict=True):
        assert len(one) == 1 or one.std(axis=0).max() > 1e-3  # frames differ, so that an exchange would show
        np.testing.assert_allclose(other, one, atol=1e-4)
    exact = {name: tensor.float() for name, tensor in load_file(tmp_path / "weights.safetensors").items()}
    if stored == "bfloat16":
        assert torch.equal(ours.encoder.output.weight, exact["encoder.output.weight"])


@pytest.mark.parametrize("name", ["an4", "english"])
def test_trained_models_on_a_ragged_batch(name: str) -> None:
    sound = asr.read_audio("tests/audio/merchant.flac", sample_rate=16_000)
    sounds = [sound, sound[8_000:30_111], np.tile(sound, 2), sound[:200]]
    folder = Path(asr.__file__).parent / "models" / name
    ours, theirs = (
        load_own(folder, device="cpu", precision="float32", runtime=runtime) for runtime in ("torch", "onnx")
    )
    for one, other in zip(ours.log_probs(sounds), theirs.log_probs(sounds), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=2e-4)


def test_a_damaged_folder_is_refused_as_by_torch(tmp_path: Path) -> None:
    AcousticModel(make_config({}, {})).save(tmp_path)
    path = tmp_path / "weights.safetensors"
    weights = load_file(path)
    del weights["encoder.output.bias"]
    save_file(weights, path)
    with pytest.raises(DataError) as theirs:
        OnnxModel.load(tmp_path)
    with pytest.raises(DataError) as ours:
        AcousticModel.load(tmp_path)
    assert str(ours.value) == str(theirs.value)
    assert "tensor 'encoder.output.bias' is missing" in str(ours.value)
