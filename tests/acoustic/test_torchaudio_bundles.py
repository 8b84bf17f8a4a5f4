"""asr.acoustic.torchaudio_bundles: converted models against torchaudio's own, with random weights."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from asr.acoustic.pretrained import load_encoder
from asr.acoustic.torchaudio_bundles import converted, licence
from asr.acoustic.wav2vec2 import frozen_encoder
from asr.errors import ConfigError, DataError, InputError
from tests.oracles import load_or_skip

SIZES = {
    "extractor_conv_layer_config": [(8, 10, 5), (6, 3, 2), (8, 2, 2)],
    "encoder_embed_dim": 24,
    "encoder_projection_dropout": 0.1,
    "encoder_pos_conv_kernel": 16,
    "encoder_pos_conv_groups": 4,
    "encoder_num_layers": 3,
    "encoder_num_heads": 3,
    "encoder_attention_dropout": 0.1,
    "encoder_ff_interm_features": 20,
    "encoder_ff_interm_dropout": 0.1,
    "encoder_dropout": 0.1,
    "encoder_layer_drop": 0.1,
    "aux_num_out": None,
}
BASE = SIZES | {"extractor_mode": "group_norm", "extractor_conv_bias": False, "encoder_layer_norm_first": False}
LARGE = SIZES | {"extractor_mode": "layer_norm", "extractor_conv_bias": True, "encoder_layer_norm_first": True}
WAVLM = {"encoder_num_buckets": 20, "encoder_max_distance": 30}
LENGTHS = torch.tensor([3000, 3000])


def make_model(options: dict[str, Any]) -> Any:
    models = load_or_skip("torchaudio.models")
    torch.manual_seed(0)
    model = (models.wavlm_model if "encoder_num_buckets" in options else models.wav2vec2_model)(**options).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize(
    "options",
    [BASE, LARGE, LARGE | {"aux_num_out": 5}, BASE | WAVLM, LARGE | WAVLM],
    ids=["base", "large", "head", "wavlm-base", "wavlm-large"],
)
def test_each_layer_is_that_of_torchaudio(options: dict[str, Any]) -> None:
    load_or_skip("transformers")
    model = make_model(options)
    shape, weights = converted(model)
    encoder = frozen_encoder(shape, weights, layer=None)
    waveforms = 0.1 * torch.randn(2, 3000)
    with torch.no_grad():
        expected, _ = model.extract_features(waveforms)
        last = model.encoder(model.feature_extractor(waveforms, None)[0])
    outputs = list(encoder.layer_outputs(encoder.embedded(waveforms, LENGTHS), shape.num_frames(LENGTHS)))
    for output, hidden in zip(outputs[:-1], expected[:-1], strict=True):
        torch.testing.assert_close(output, hidden, atol=1e-4, rtol=0)
    torch.testing.assert_close(outputs[-1], last, atol=1e-4, rtol=0)
    assert shape.model_type == ("wavlm" if "encoder_num_buckets" in options else "wav2vec2")
    assert not shape.normalize_waveform


def test_the_step_before_some_models_is_part_of_the_shape() -> None:
    load_or_skip("transformers")
    utils = load_or_skip("torchaudio.pipelines._wav2vec2.utils")
    model = utils._extend_model(make_model(LARGE), normalize_waveform=True)
    shape, weights = converted(model)
    assert shape.normalize_waveform
    waveforms = 0.02 + 0.3 * torch.randn(1, 3000)
    with torch.no_grad():
        expected, _ = model(waveforms)
    hidden, _ = frozen_encoder(shape, weights, layer=None)(waveforms, LENGTHS[:1])
    torch.testing.assert_close(hidden, expected, atol=1e-3, rtol=0)  # torchaudio adds 1e-5 to the variance


@pytest.fixture
def small_bundle(monkeypatch: pytest.MonkeyPatch) -> Any:
    """HUBERT_BASE, but small; its weights come from here in place of the network."""
    pipelines = load_or_skip("torchaudio.pipelines")
    model = make_model(BASE)
    bundle = pipelines.Wav2Vec2Bundle("small.pth", BASE, 16000, False, "Wav2Vec2")
    bundle.__doc__ = pipelines.HUBERT_BASE.__doc__
    monkeypatch.setattr(pipelines, "HUBERT_BASE", bundle)
    loader = "torchaudio.pipelines._wav2vec2.utils.load_state_dict_from_url"
    monkeypatch.setattr(loader, lambda url, **options: model.state_dict())
    return model


def test_a_bundle_is_loaded_by_its_name(small_bundle: Any) -> None:
    load_or_skip("transformers")
    encoder, origin = load_encoder("torchaudio:HUBERT_BASE", layer=2)
    assert (origin["name"], origin["licence"]) == ("torchaudio:HUBERT_BASE", "MIT")
    assert len(origin["sha256"]) == 64
    waveforms = 0.1 * torch.randn(1, 3000)
    with torch.no_grad():
        expected, _ = small_bundle.extract_features(waveforms, num_layers=2)
    torch.testing.assert_close(encoder(waveforms, LENGTHS[:1])[0], expected[1], atol=1e-4, rtol=0)


def test_every_bundle_has_the_licence_of_its_documentation() -> None:
    pipelines = load_or_skip("torchaudio.pipelines")
    bundles = [name for name in pipelines.__all__ if isinstance(getattr(pipelines, name), pipelines.Wav2Vec2Bundle)]
    assert len(bundles) > 25
    for name in bundles:
        expected = "MIT"
        if name.startswith("VOXPOPULI"):
            expected = "CC BY-NC 4.0"
        elif name == "MMS_FA":
            expected = "CC-BY-NC 4.0"
        assert licence(getattr(pipelines, name).__doc__) == expected, name
    assert licence("none is said") == "unknown"


def test_a_wrong_name_and_no_network_are_one_sentence(small_bundle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torchaudio:NONE", "torchaudio:", "torchaudio:TACOTRON2_WAVERNN_CHAR_LJSPEECH"):
        with pytest.raises(InputError, match=f"no encoder '{name}': after torchaudio: goes one of .*WAV2VEC2_BASE"):
            load_encoder(name)

    def fail(url: str, **options: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchaudio.pipelines._wav2vec2.utils.load_state_dict_from_url", fail)
    with pytest.raises(DataError, match="torchaudio:HUBERT_BASE: torchaudio cannot download it: no network"):
        load_encoder("torchaudio:HUBERT_BASE")


def test_a_missing_torchaudio_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    with pytest.raises(
        ConfigError, match=r"torchaudio:WAV2VEC2_BASE needs torchaudio: pip install 'asr\[pretrained\]'"
    ):
        load_encoder("torchaudio:WAV2VEC2_BASE")
