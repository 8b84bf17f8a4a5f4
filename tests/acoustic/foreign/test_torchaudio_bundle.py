"""torchaudio's bundles, with random weights in place of the downloaded ones."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("torchaudio")

import torchaudio

from asr.acoustic.foreign.torchaudio_bundle import load_bundle
from asr.errors import ConfigError, DataError, InputError
from tests import foreign_models

CONVOLUTIONS = [(16, 10, 5), (16, 3, 2), (16, 3, 2), (16, 3, 2), (16, 3, 2), (16, 2, 2), (16, 2, 2)]
SMALL: dict[str, Any] = {
    "extractor_conv_layer_config": CONVOLUTIONS,
    "encoder_embed_dim": 32,
    "encoder_pos_conv_kernel": 16,
    "encoder_pos_conv_groups": 4,
    "encoder_num_layers": 2,
    "encoder_num_heads": 4,
    "encoder_ff_interm_features": 64,
}


def shrink(bundle: Any, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    """Make the bundle's model a small one with random weights; the model as `get_model` gives it."""
    torch.manual_seed(0)
    monkeypatch.setitem(bundle.__dict__, "_params", bundle._params | SMALL)
    factory = torchaudio.models.wav2vec2_model(**bundle._params)
    factory.aux.weight.data *= 50
    weights = factory.state_dict()
    monkeypatch.setattr("torchaudio.pipelines._wav2vec2.utils._get_state_dict", lambda *arguments: weights)
    return bundle.get_model()


@pytest.mark.parametrize(
    ("name", "exact_batches"),
    [
        ("WAV2VEC2_ASR_BASE_960H", False),  # group norm
        ("WAV2VEC2_ASR_LARGE_LV60K_960H", True),  # layer norm, normalised samples
        ("HUBERT_ASR_LARGE", True),
        ("VOXPOPULI_ASR_BASE_10K_DE", False),
    ],
)
def test_bundles(name: str, exact_batches: bool, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = getattr(torchaudio.pipelines, name)
    network = shrink(bundle, monkeypatch)
    model = load_bundle(name)
    model.prepare("cpu", "auto")
    assert (model.name, model.sample_rate, model.samples_per_frame) == (name, 16_000, 320)
    assert (model.exact_batches, model.labels.blank_column) == (exact_batches, 0)
    spelled = model.alphabet.decode(range(1, model.alphabet.size))
    assert spelled == "".join(bundle.get_labels()[1:]).replace("|", " ")
    sounds = foreign_models.waveforms(rng, 24_000, 11_111, 48_001)
    for waveform, log_probs in zip(sounds, model.log_probs(sounds), strict=True):
        with torch.no_grad():
            logits, _ = network(torch.from_numpy(waveform)[None])
        expected = logits[0].log_softmax(dim=1).numpy()
        assert expected.std(axis=0).max() > 0.1
        np.testing.assert_allclose(log_probs, expected, atol=1e-4)


def test_the_bundle_for_alignment_has_no_star(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = torchaudio.pipelines.MMS_FA
    network = shrink(bundle, monkeypatch)
    model = load_bundle("MMS_FA")
    model.prepare("cpu", "float32")
    assert model.labels.num_columns == len(bundle.get_labels(star=None))
    (waveform,) = foreign_models.waveforms(rng, 24_000)
    with torch.no_grad():
        expected, _ = network(torch.from_numpy(waveform)[None])
    np.testing.assert_allclose(model.log_probs([waveform])[0], expected[0, :, :-1], atol=1e-4)


def test_unknown_names() -> None:
    with pytest.raises(InputError, match=r"no CTC model 'WAV2VEC2_BASE'; it has HUBERT_ASR_LARGE, .*WAV2VEC2_ASR_B"):
        load_bundle("WAV2VEC2_BASE")


def test_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any, dl_kwargs: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torchaudio.pipelines.Wav2Vec2ASRBundle, "_get_state_dict", fail)
    bundle = torchaudio.pipelines.WAV2VEC2_ASR_BASE_960H
    monkeypatch.setitem(bundle.__dict__, "_params", bundle._params | SMALL)
    with pytest.raises(DataError, match="torchaudio:WAV2VEC2_ASR_BASE_960H: the weights cannot be downloaded: no "):
        load_bundle("WAV2VEC2_ASR_BASE_960H")


def test_without_torchaudio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    with pytest.raises(ConfigError, match=r"needs torchaudio of the same release as torch: pip install 'asr\[pretrain"):
        load_bundle("WAV2VEC2_ASR_BASE_960H")
