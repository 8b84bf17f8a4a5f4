"""asr.acoustic.pretrained: the frozen and the trained layers of an encoder, one layer or a sum of all."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from asr.acoustic.pretrained import PretrainedFrontend, read_origin
from asr.acoustic.shapes import WhisperShape
from asr.errors import ConfigError, DataError

SHAPE = WhisperShape(
    num_mel_bins=8,
    d_model=12,
    encoder_layers=3,
    encoder_attention_heads=3,
    encoder_ffn_dim=20,
)
LENGTHS = torch.tensor([9000, 5000, 0])
FRAMES = [28, 16, 0]


def frontend(*, sum_layers: bool = False) -> PretrainedFrontend:
    torch.manual_seed(0)
    return PretrainedFrontend(SHAPE, sum_layers=sum_layers)


@pytest.fixture
def waveforms() -> Tensor:
    return torch.randn(3, 9000, generator=torch.Generator().manual_seed(1)) / 10


@pytest.mark.parametrize("sum_layers", [False, True])
@pytest.mark.parametrize("num_layers", [0, 1, 2, 3])
def test_the_features_do_not_depend_on_the_number_of_trained_layers(
    waveforms: Tensor, num_layers: int, sum_layers: bool
) -> None:
    tuned = frontend(sum_layers=sum_layers)
    features, lengths = tuned(waveforms, LENGTHS)
    tuned.tune(num_layers)
    states, state_lengths = tuned.states(waveforms, LENGTHS)
    assert states.shape == (3, 28, tuned.states_width) == (3, 28, 12 * (4 - num_layers if sum_layers else 1))
    assert not states.requires_grad
    again, _ = tuned.from_states(states, state_lengths)
    assert lengths.tolist() == state_lengths.tolist() == FRAMES
    torch.testing.assert_close(again, features, atol=1e-5, rtol=0)
    for row, count in zip(again, FRAMES, strict=True):
        assert not row[count:].any()
        torch.testing.assert_close(row[:count].mean(dim=1), torch.zeros(count), atol=1e-5, rtol=0)
        torch.testing.assert_close(row[:count].square().mean(dim=1), torch.ones(count), atol=1e-3, rtol=0)


def test_an_utterance_is_the_same_alone_and_in_a_batch(waveforms: Tensor) -> None:
    tuned = frontend(sum_layers=True)
    tuned.tune(2)
    features, _ = tuned(waveforms, LENGTHS)
    for row, length, count in zip(range(3), LENGTHS.tolist(), FRAMES, strict=True):
        if count:
            alone, _ = tuned(waveforms[row : row + 1, :length], LENGTHS[row : row + 1])
            torch.testing.assert_close(features[row, :count], alone[0], atol=1e-4, rtol=0)


def test_a_sum_of_layers_is_that_of_superb(waveforms: Tensor) -> None:
    summed = frontend(sum_layers=True)
    weights = torch.tensor([0.5, -1.0, 2.0, 0.1])
    assert summed.layer_weights is not None
    summed.layer_weights.data = weights
    lengths = SHAPE.num_frames(LENGTHS)
    start = summed.encoder.embedded(waveforms, LENGTHS)
    outputs = [start, *summed.encoder.layer_outputs(start, lengths)]
    shares = weights.exp() / weights.exp().sum()
    expected = sum(share * layer_norm(output, (12,)) for share, output in zip(shares, outputs, strict=True))
    features, _ = summed(waveforms, LENGTHS)
    torch.testing.assert_close(features[0], layer_norm(expected[0], (12,)), atol=1e-5, rtol=0)
    features.square().mul(torch.arange(12)).sum().backward()
    assert summed.layer_weights.grad is not None and summed.layer_weights.grad.abs().min() > 0


def test_only_the_last_layers_have_gradients(waveforms: Tensor) -> None:
    tuned = frontend()
    tuned.tune(1)
    features, _ = tuned(waveforms, LENGTHS)
    (features * torch.arange(12)).sum().backward()
    trained = {name for name, parameter in tuned.encoder.named_parameters() if parameter.grad is not None}
    assert trained == {
        name for name, _ in tuned.encoder.named_parameters() if name.startswith(("layers.2.", "layer_norm."))
    }
    assert {name for name, _ in tuned.frozen_parameters()} == {
        name for name, _ in tuned.encoder.named_parameters() if name not in trained
    }
    tuned.tune(1, trained=False)
    assert not any(parameter.requires_grad for parameter in tuned.encoder.parameters())
    assert {name for name, _ in tuned.frozen_parameters()}.isdisjoint(trained)
    tuned.tune(0)
    assert len(list(tuned.frozen_parameters())) == len(list(tuned.encoder.parameters()))


def test_more_layers_than_there_are() -> None:
    with pytest.raises(ConfigError, match=r"tuning\.layers must be between 0 and 3, not 4"):
        frontend().tune(4)


def test_the_origin_of_weights(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    checksum = hashlib.sha256(b"weights").hexdigest()
    (tmp_path / "config.json").write_text("{}")
    assert read_origin(tmp_path) == {"name": tmp_path.name, "licence": "unknown", "sha256": checksum}
    (tmp_path / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\nlicense: none\n")
    assert read_origin(tmp_path)["licence"] == "apache-2.0"
    (tmp_path / "config.json").write_text(json.dumps({"_name_or_path": "a/b", "license": "mit"}))
    assert read_origin(tmp_path) == {"name": "a/b", "licence": "mit", "sha256": checksum}
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"cannot be used: .*No such file"):
        read_origin(tmp_path)
