"""asr.acoustic.wav2vec2: against the whole models of transformers; the padding of a batch; folders that are wrong."""

from __future__ import annotations

import json
import sys
import time
import warnings
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import conv1d

from asr.acoustic.config import ModelConfig
from asr.acoustic.model import AcousticModel
from asr.acoustic.options import EncoderOptions, FrontendOptions
from asr.acoustic.pretrained import PretrainedFrontend, load_encoder
from asr.acoustic.shapes import Wav2Vec2Shape
from asr.acoustic.wav2vec2 import Wav2Vec2Encoder, load_wav2vec2
from asr.errors import ConfigError, DataError
from asr.options import from_json, to_json
from tests.oracles import load_or_skip

TINY = Wav2Vec2Shape(
    hidden_size=24,
    num_hidden_layers=3,
    num_attention_heads=3,
    intermediate_size=20,
    conv_dim=(8, 8, 8),
    conv_kernel=(10, 3, 2),
    conv_stride=(5, 2, 2),
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4,
    num_buckets=20,
    max_bucket_distance=30,
)
BASE = {"feat_extract_norm": "group", "conv_bias": False, "do_stable_layer_norm": False}
LARGE = {"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True}
CLASSES = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert", "wavlm": "WavLM"}
MODELS = [(kind, variant) for kind in CLASSES for variant in (BASE, LARGE)]
IDS = [f"{kind}-{variant['feat_extract_norm']}" for kind, variant in MODELS]
LENGTHS = torch.tensor([3000, 1300, 26, 25, 0, 2999])
FRAMES = [149, 64, 0, 0, 0, 149]


def make_peer(kind: str, variant: dict[str, Any], *, head: bool = False) -> Any:
    """A model of transformers with random weights, biases and norms included."""
    transformers = load_or_skip("transformers")
    torch.manual_seed(0)
    shape = {name: value for name, value in to_json(TINY).items() if not name.startswith(("model", "normalize"))}
    config = getattr(transformers, f"{CLASSES[kind]}Config")(**shape | variant)
    model = getattr(transformers, CLASSES[kind] + ("ForCTC" if head else "Model"))(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def write(peer: Any, folder: Path, **changes: Any) -> Path:
    peer.save_pretrained(folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


@pytest.fixture
def waveforms() -> Tensor:
    return 0.03 + 0.1 * torch.randn(6, 3000, generator=torch.Generator().manual_seed(1))


# Shapes


@pytest.mark.parametrize("shape", [Wav2Vec2Shape(), TINY])
def test_the_number_of_frames_is_that_of_convolutions(shape: Wav2Vec2Shape) -> None:
    samples = [*range(shape.window_length - 3, shape.window_length + 2 * shape.hop_length + 3), 16_000]
    for count in samples:
        values = torch.zeros(1, 1, count)
        for kernel, stride in zip(shape.conv_kernel, shape.conv_stride, strict=True):
            values = (
                conv1d(values, torch.ones(1, 1, kernel), stride=stride)
                if values.shape[2] >= kernel
                else values[..., :0]
            )
        assert shape.num_frames(count) == values.shape[2]
    counts = torch.tensor([0, 1, *samples])
    assert shape.num_frames(counts).tolist() == [shape.num_frames(count) for count in counts.tolist()]
    assert [shape.num_frames(shape.window_length - 1), shape.num_frames(shape.window_length)] == [0, 1]
    assert shape.num_frames(10**6 + shape.hop_length) == shape.num_frames(10**6) + 1


def test_the_published_models_have_frames_of_20_ms() -> None:
    shape = Wav2Vec2Shape()
    assert (shape.hop_length, shape.window_length, shape.width) == (320, 400, 768)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 25}, "hidden_size must be a multiple of num_attention_heads, not 25 with 3"),
        (
            {"num_conv_pos_embedding_groups": 5},
            "hidden_size must be a multiple of num_conv_pos_embedding_groups, not 24 with 5",
        ),
        ({"conv_dim": (8, 8)}, "must have the same length, 1 to 32, not 2, 3 and 3"),
        ({"conv_dim": (), "conv_kernel": (), "conv_stride": ()}, "the same length, 1 to 32, not 0, 0 and 0"),
        ({"conv_kernel": (10, 3, 1025)}, "conv_kernel must be between 1 and 1024, not 1025"),
        ({"conv_stride": (5, 0, 2)}, "conv_stride must be between 1 and 1024, not 0"),
        ({"conv_dim": (8192,) * 3}, r"at most 16777216 values .* not 26214400: conv_dim 8192 every 5 samples"),
        ({"max_bucket_distance": 5}, "max_bucket_distance must be more than a quarter of num_buckets, not 5 with 20"),
        ({"num_hidden_layers": 257}, "num_hidden_layers must be between 1 and 256, not 257"),
    ],
)
def test_a_shape_has_limits(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(TINY, **changes)


def test_a_shape_comes_back_from_json_and_may_be_hostile() -> None:
    shape = replace(TINY, model_type="wavlm", normalize_waveform=True)
    values = json.loads(json.dumps(to_json(shape)))
    assert from_json(Wav2Vec2Shape, values) == shape
    for name, value, message in (
        ("hidden_act", "os.system", "hidden_act must be one of gelu, not 'os.system'"),
        ("model_type", "bert", "model_type must be one of wav2vec2, hubert, wavlm, not 'bert'"),
        ("conv_dim", [8, "x", 8], "conv_dim must be a whole number, not 'x'"),
        ("conv_dim", [1] * 10**5, "must have the same length, 1 to 32, not 100000"),
        ("layer_norm_eps", 0, "layer_norm_eps must be above 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            from_json(Wav2Vec2Shape, values | {name: value})


def test_a_model_has_one_encoder_at_16_khz() -> None:
    whisper = {"whisper": {"d_model": 12, "encoder_attention_heads": 3}}
    assert from_json(FrontendOptions, {"wav2vec2": to_json(TINY)}).encoder_shape == TINY
    with pytest.raises(ConfigError, match="whisper and wav2vec2 must not both be there"):
        from_json(FrontendOptions, {"wav2vec2": to_json(TINY)} | whisper)
    with pytest.raises(ConfigError, match="sample_rate must be 16000 with pretrained, not 8000"):
        FrontendOptions(wav2vec2=TINY, sample_rate=8000)


# Against the whole models of transformers


@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize(("kind", "variant"), MODELS, ids=IDS)
def test_each_layer_is_that_of_transformers(
    kind: str, variant: dict[str, Any], head: bool, waveforms: Tensor, tmp_path: Path
) -> None:
    peer = make_peer(kind, variant, head=head)
    encoder = load_wav2vec2(write(peer, tmp_path))
    waveforms = waveforms[:2]
    lengths = torch.tensor([3000, 3000])
    inputs = waveforms
    if variant is LARGE:  # the default of models with layer norms
        processor = load_or_skip("transformers").Wav2Vec2FeatureExtractor(do_normalize=True)
        inputs = processor(list(waveforms.numpy()), sampling_rate=16000, return_tensors="pt").input_values
    with torch.no_grad():
        expected = (getattr(peer, kind) if head else peer)(inputs, output_hidden_states=True)
    start = encoder.embedded(waveforms, lengths)
    outputs = [start, *encoder.layer_outputs(start, encoder.shape.num_frames(lengths))]
    wanted = [*expected.hidden_states[:-1], expected.last_hidden_state]
    assert len(outputs) == len(wanted) == 4
    for output, hidden in zip(outputs, wanted, strict=True):
        torch.testing.assert_close(output, hidden, atol=1e-4, rtol=0)
    assert all((one - other).abs().max() > 0.01 for one, other in pairwise(outputs))
    torch.testing.assert_close(encoder(waveforms, lengths)[0], wanted[-1], atol=1e-4, rtol=0)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize(("variant", "default"), [(BASE, False), (LARGE, True)])
def test_the_folder_says_whether_waveforms_are_normalized(
    variant: dict[str, Any], default: bool, waveforms: Tensor, tmp_path: Path
) -> None:
    folder = write(make_peer("wav2vec2", variant), tmp_path)
    assert load_wav2vec2(folder).shape.normalize_waveform == default
    for value in (False, True):
        (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": value}))
        encoder = load_wav2vec2(folder)
        assert encoder.shape.normalize_waveform == value
        lengths = torch.tensor([3000])
        loud, quiet = (encoder(gain * waveforms[:1], lengths)[0] for gain in (10.0, 1.0))
        if value or variant is LARGE:  # a group norm takes away most of it, too
            assert torch.allclose(loud, quiet, atol=1e-3) == value
    for content in ("{}", "[]", "{", '{"do_normalize": 1}'):
        (folder / "preprocessor_config.json").write_text(content)
        with pytest.raises(
            DataError, match=r"preprocessor_config\.json: .*do_normalize|preprocessor_config\.json: must"
        ):
            load_wav2vec2(folder)


def test_weights_of_older_and_newer_releases_are_read(tmp_path: Path) -> None:
    peer = make_peer("hubert", BASE)
    expected = load_wav2vec2(write(peer, tmp_path)).state_dict()
    older, newer = ("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1")
    stored = {name: value.clone() for name, value in load_file(tmp_path / "model.safetensors").items()}
    start = "encoder.pos_conv_embed.conv."
    values = [
        next(stored.pop(start + name) for name in names if start + name in stored)
        for names in zip(older, newer, strict=True)
    ]
    for names in (older, newer):
        renamed = {start + name: value for name, value in zip(names, values, strict=True)}
        halves = {name: value.half() for name, value in (stored | renamed).items()}
        save_file(halves, tmp_path / "model.safetensors")
        for name, value in load_wav2vec2(tmp_path).state_dict().items():
            assert value.dtype == torch.float32
            torch.testing.assert_close(value, expected[name], atol=2e-3, rtol=2e-3)


# Padding


@pytest.mark.parametrize(("kind", "variant"), MODELS, ids=IDS)
def test_an_utterance_is_the_same_alone_and_in_a_batch(
    kind: str, variant: dict[str, Any], waveforms: Tensor, tmp_path: Path
) -> None:
    encoder = load_wav2vec2(write(make_peer(kind, variant), tmp_path))
    for row, length in zip(waveforms, LENGTHS.tolist(), strict=True):
        row[length:] = 9.0  # whatever stands there
    before = waveforms.clone()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="Support for mismatched")  # as the module does
        hidden, frames = encoder(waveforms, LENGTHS)
    assert torch.equal(waveforms, before)
    assert frames.tolist() == FRAMES and hidden.shape == (6, 149, 24)
    for row, waveform, length, count in zip(hidden, waveforms, LENGTHS.tolist(), FRAMES, strict=True):
        assert not row[count:].any()
        if count:
            alone, _ = encoder(waveform[None, :length], torch.tensor([length]))
            torch.testing.assert_close(row[:count], alone[0], atol=1e-5, rtol=0)


def test_the_group_norm_of_a_padded_batch_would_differ(waveforms: Tensor) -> None:
    """The reason for convolutions of one utterance at a time."""
    peer = make_peer("wav2vec2", BASE)
    padded = torch.nn.functional.pad(waveforms[:1, :1300], (0, 1700))
    with torch.no_grad():
        alone = peer(waveforms[:1, :1300]).last_hidden_state
        assert (peer(padded).last_hidden_state[:, : alone.shape[1]] - alone).abs().max() > 0.05


@pytest.mark.parametrize(("kind", "variant"), MODELS, ids=IDS)
def test_tuned_layers_have_gradients_beside_an_utterance_without_frames(
    kind: str, variant: dict[str, Any], waveforms: Tensor, tmp_path: Path
) -> None:
    encoder = load_wav2vec2(write(make_peer(kind, variant), tmp_path))
    frontend = PretrainedFrontend(encoder.shape, sum_layers=True)
    frontend.encoder.load_state_dict(encoder.state_dict())
    whole, _ = frontend(waveforms, LENGTHS)
    frontend.tune(2)
    frontend.train()  # without dropout
    states, lengths = frontend.states(waveforms, LENGTHS)
    assert states.shape == (6, 149, frontend.states_width) == (6, 149, 48)
    features, _ = frontend.from_states(states, lengths)
    torch.testing.assert_close(features, whole, atol=1e-5, rtol=0)
    (features * torch.arange(24)).sum().backward()
    names = {name for name, parameter in frontend.encoder.named_parameters() if parameter.grad is not None}
    assert names == {
        name
        for name in dict(frontend.encoder.named_parameters())
        if name.startswith(("layers.1.", "layers.2.", "layer_n"))
    }
    assert ("layer_norm.weight" in names) == variant["do_stable_layer_norm"]
    assert all(p.grad is None or p.grad.isfinite().all() for p in frontend.encoder.parameters())
    assert {name for name, _ in frontend.frozen_parameters()} == {*dict(frontend.encoder.named_parameters())} - names


@pytest.mark.parametrize("kind", CLASSES)
def test_half_precision_is_that_of_transformers(kind: str, waveforms: Tensor, tmp_path: Path) -> None:
    peer = make_peer(kind, BASE)
    encoder = load_wav2vec2(write(peer, tmp_path))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        hidden, _ = encoder(waveforms, torch.tensor([3000] * 6))
        torch.testing.assert_close(hidden, peer(waveforms).last_hidden_state, atol=0.1, rtol=0, check_dtype=False)
        padded, _ = encoder(waveforms, LENGTHS)
    assert padded.isfinite().all()


@pytest.mark.parametrize("kind", CLASSES)
def test_nothing_waits_for_a_gpu(kind: str, waveforms: Tensor) -> None:
    """With lengths on the CPU, no value of a tensor on the device is read: tensors on torch's meta device have none."""
    load_or_skip("transformers")
    encoder = Wav2Vec2Encoder(replace(TINY, model_type=kind, normalize_waveform=True)).to("meta")  # type: ignore[arg-type]
    hidden, frames = encoder(waveforms.to("meta"), LENGTHS)
    assert (hidden.shape, frames.tolist()) == ((6, 149, 24), FRAMES)


def test_silence_is_finite(tmp_path: Path) -> None:
    encoder = load_wav2vec2(write(make_peer("wavlm", LARGE), tmp_path))
    for level in (0.0, 1.0):
        assert encoder(torch.full((1, 3000), level), torch.tensor([3000]))[0].isfinite().all()


# Folders


@pytest.mark.parametrize(("kind", "variant"), MODELS, ids=IDS)
def test_layers_above_one_can_be_left_out(
    kind: str, variant: dict[str, Any], waveforms: Tensor, tmp_path: Path
) -> None:
    folder = write(make_peer(kind, variant), tmp_path)
    encoder, lengths = load_wav2vec2(folder), torch.tensor([3000] * 6)
    _, second, _ = encoder.layer_outputs(encoder.embedded(waveforms, lengths), encoder.shape.num_frames(lengths))
    short = load_wav2vec2(folder, layer=2)
    assert torch.equal(short(waveforms, lengths)[0], second)
    assert short.shape == replace(encoder.shape, num_hidden_layers=2, normalize_output=False)
    assert load_wav2vec2(folder, layer=3).shape == encoder.shape
    with pytest.raises(ConfigError, match="pretrained_layer must be between 1 and 3, not 4"):
        load_wav2vec2(folder, layer=4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, "must be a model of wav2vec2, hubert, wavlm, not 'bert'"),
        ({"adapter_attn_dim": 16}, "must be of an encoder without adapter_attn_dim, which is 16"),
        ({"add_adapter": True}, "must be of an encoder without add_adapter, which is True"),
        ({"hidden_act": "relu"}, "hidden_act must be one of gelu, not 'relu'"),
        ({"hidden_size": 0}, "hidden_size must be between 1 and 8192, not 0"),
        ({"intermediate_size": 21}, "tensor 'layers.0.feed_forward.intermediate_dense.weight' must be .*21"),
        ({"num_hidden_layers": 4}, "lacks the tensor 'layers.3.attention"),
    ],
)
def test_a_wrong_folder_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_wav2vec2(write(make_peer("wav2vec2", BASE), tmp_path, **changes))


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = write(make_peer("wav2vec2", BASE), tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(
        DataError, match=r"must have model\.safetensors, but has only pytorch_model\.bin, which can exec"
    ):
        load_encoder(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(DataError, match=r"must be a whole safetensors file: .*No such file"):
        load_encoder(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", r"must be a JSON object, not \[\]"),
        ("{", "cannot be used"),
        ('{"model_type": "t5"}', "must be a model of "),
    ],
)
def test_a_folder_of_another_kind_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(DataError, match=message):
        load_encoder(tmp_path)


def acoustic_model(encoder: Wav2Vec2Encoder) -> AcousticModel:
    config = ModelConfig(
        characters=("a", "b"),
        frontend=FrontendOptions(wav2vec2=encoder.shape),
        encoder=EncoderOptions(num_layers=1, hidden_size=4),
    )
    model = AcousticModel(config).eval()
    model.frontend.encoder.load_state_dict(encoder.state_dict())  # type: ignore[union-attr]
    return model


@pytest.mark.parametrize(("stored", "most"), [("float32", 0.0), ("float16", 1e-2), ("int8", 0.3)])
def test_a_model_folder_holds_the_encoder(stored: Any, most: float, waveforms: Tensor, tmp_path: Path) -> None:
    load_or_skip("transformers")
    encoder, origin = load_encoder(write(make_peer("wavlm", LARGE), tmp_path / "source", license="mit"))
    assert origin["licence"] == "mit" and len(origin["sha256"]) == 64
    model = acoustic_model(encoder)
    model.save(tmp_path / "model", stored=stored)
    state = torch.get_rng_state()
    again = AcousticModel.load(tmp_path / "model")
    assert torch.equal(torch.get_rng_state(), state)
    expected, lengths = model(waveforms, LENGTHS)
    log_probs, again_lengths = again(waveforms, LENGTHS)
    assert lengths.tolist() == again_lengths.tolist()
    torch.testing.assert_close(log_probs, expected, atol=most, rtol=0)


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without transformers, also when a model is loaded that needs it."""
    config = ModelConfig(
        characters=("a",), frontend=FrontendOptions(wav2vec2=TINY), encoder=EncoderOptions(num_layers=1, hidden_size=4)
    )
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"format_version": 1, **to_json(config)}))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        ConfigError, match=r"type wav2vec2 needs transformers: pip install 'asr\[pretrained\]' \(import"
    ) as caught:
        AcousticModel.load(folder)
    assert "\n" not in str(caught.value)


def test_a_hostile_model_takes_no_memory(tmp_path: Path) -> None:
    """A shape of many terabytes, and a file of weights of a few bytes."""
    load_or_skip("transformers")
    shape = Wav2Vec2Shape(hidden_size=8160, intermediate_size=65536, num_hidden_layers=50, num_conv_pos_embeddings=4096)
    config = ModelConfig(
        characters=("a",), frontend=FrontendOptions(wav2vec2=shape), encoder=EncoderOptions(num_layers=1, hidden_size=4)
    )
    (tmp_path / "config.json").write_text(json.dumps({"format_version": 1, **to_json(config)}))
    save_file({"x": torch.zeros(1)}, tmp_path / "weights.safetensors")
    start = time.monotonic()
    with pytest.raises(DataError, match="is missing"):
        AcousticModel.load(tmp_path)
    assert time.monotonic() - start < 20
