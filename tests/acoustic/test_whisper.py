"""asr.acoustic.pretrained and whisper_weights: against formulas written anew in NumPy, librosa, and transformers."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from asr.acoustic.shapes import SAMPLE_RATE, WhisperShape
from asr.acoustic.spectrum import whisper_filters
from asr.acoustic.whisper import WhisperEncoder, load_whisper
from asr.acoustic.whisper_weights import convert, main
from asr.errors import ConfigError, DataError
from tests.oracles import load_or_skip
from tests.whispers import TINY, positions, whole_state, write_ctranslate2, write_openai


@pytest.fixture
def encoder() -> WhisperEncoder:
    torch.manual_seed(0)
    return WhisperEncoder(TINY).eval()


@pytest.fixture
def waveform(rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.normal(0, 0.1, 9_000).astype(np.float32))


# The oracle: the paper's formulas in NumPy, a frame and a head at a time


def log_mel(waveform: np.ndarray) -> np.ndarray:
    """(T, M): frames of 25 ms every 10 ms, centred; the start reflected, zeros behind the end."""
    librosa = pytest.importorskip("librosa")
    filters = librosa.filters.mel(sr=16000, n_fft=400, n_mels=TINY.num_mel_bins)
    extended = np.concatenate([waveform[200:0:-1], waveform, np.zeros(400)])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = [extended[160 * t : 160 * t + 400] * window for t in range(len(waveform) // 160)]
    energies = [filters @ np.abs(np.fft.rfft(frame)) ** 2 for frame in frames]
    log = np.log10(np.maximum(energies, 1e-10))
    return (np.maximum(log, log.max() - 8) + 4) / 4


def convolve(frames: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int) -> np.ndarray:
    padded = np.pad(frames, ((1, 1), (0, 0)))
    sums = [np.einsum("kc,ock->o", padded[start : start + 3], weight) + bias for start in range(0, len(frames), stride)]
    return gelu(np.array(sums))


def gelu(values: np.ndarray) -> np.ndarray:
    return values * 0.5 * (1 + np.vectorize(math.erf)(values / math.sqrt(2)))


def normalize(frames: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    centred = frames - frames.mean(axis=1, keepdims=True)
    return (
        centred / np.sqrt(frames.var(axis=1, keepdims=True) + 1e-5) * weights[f"{name}.weight"]
        + weights[f"{name}.bias"]
    )


def encode(waveform: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """(T, D) of one utterance."""
    hidden = convolve(log_mel(waveform), weights["conv1.weight"], weights["conv1.bias"], 1)
    hidden = convolve(hidden, weights["conv2.weight"], weights["conv2.bias"], 2)
    hidden = hidden + positions(len(hidden))
    for number in range(TINY.encoder_layers):
        layer = {
            name.removeprefix(f"layers.{number}."): value
            for name, value in weights.items()
            if name.startswith(f"layers.{number}.")
        }
        inputs = normalize(hidden, layer, "self_attn_layer_norm")
        query, key, value = (
            inputs @ layer[f"self_attn.{name}_proj.weight"].T + layer.get(f"self_attn.{name}_proj.bias", 0.0)
            for name in "qkv"
        )
        heads = []
        for head in np.split(np.arange(TINY.d_model), TINY.encoder_attention_heads):
            scores = query[:, head] @ key[:, head].T / math.sqrt(len(head))
            shares = np.exp(scores - scores.max(axis=1, keepdims=True))
            heads.append(shares / shares.sum(axis=1, keepdims=True) @ value[:, head])
        hidden = (
            hidden
            + np.concatenate(heads, axis=1) @ layer["self_attn.out_proj.weight"].T
            + layer["self_attn.out_proj.bias"]
        )
        inner = gelu(normalize(hidden, layer, "final_layer_norm") @ layer["fc1.weight"].T + layer["fc1.bias"])
        hidden = hidden + inner @ layer["fc2.weight"].T + layer["fc2.bias"]
    return normalize(hidden, weights, "layer_norm")


def test_it_is_what_the_paper_says(encoder: WhisperEncoder, waveform: Tensor) -> None:
    weights = {name: value.double().numpy() for name, value in encoder.state_dict().items()}
    expected = encode(waveform.double().numpy(), weights)
    hidden, lengths = encoder(waveform[None], torch.tensor([len(waveform)]))
    assert lengths.tolist() == [len(expected)] == [28]
    np.testing.assert_allclose(hidden[0].detach().numpy(), expected, atol=2e-5)


def test_mel_filters_are_librosas() -> None:
    librosa = load_or_skip("librosa")
    for bins in (8, 80, 128):
        expected = librosa.filters.mel(sr=16000, n_fft=400, n_mels=bins)
        np.testing.assert_allclose(whisper_filters(bins).T, expected, atol=1e-7)


def test_it_is_that_of_transformers(encoder: WhisperEncoder, waveform: Tensor) -> None:
    transformers = load_or_skip("transformers")
    config = transformers.WhisperConfig(
        **{name: getattr(TINY, name) for name in TINY.__dataclass_fields__},
        max_source_positions=100,
        attn_implementation="eager",
    )
    peer = transformers.models.whisper.modeling_whisper.WhisperEncoder(config).eval()
    peer.load_state_dict(whole_state(encoder))
    whole = torch.nn.functional.pad(waveform, (0, 100 * 320 - len(waveform)))[None]
    lengths = torch.tensor([whole.shape[1]])
    mel, _ = encoder.log_mel(whole, lengths)
    torch.testing.assert_close(encoder(whole, lengths)[0], peer(mel).last_hidden_state, atol=1e-4, rtol=0)


def test_an_utterance_is_the_same_alone_and_in_a_batch(encoder: WhisperEncoder, waveform: Tensor) -> None:
    lengths = torch.tensor([9000, 5000, 160, 0, 4999])
    batch = waveform.repeat(5, 1)
    for row, length in zip(batch, lengths.tolist(), strict=True):
        row[length:] = 9.0  # whatever stands there
    before = batch.clone()
    hidden, frames = encoder(batch, lengths)
    assert torch.equal(batch, before)
    assert frames.tolist() == [28, 16, 1, 0, 16]
    for row, length, count in zip(hidden, lengths.tolist(), frames.tolist(), strict=True):
        assert not row[count:].any()
        if count:
            alone, _ = encoder(waveform[None, :length], torch.tensor([length]))
            torch.testing.assert_close(row[:count], alone[0], atol=1e-5, rtol=0)


def test_nothing_waits_for_a_gpu(encoder: WhisperEncoder, waveform: Tensor) -> None:
    """With lengths on the CPU, no value of a tensor on the device is read: tensors on torch's meta device have none."""
    lengths = torch.tensor([9000, 5000])
    hidden, frames = encoder.to("meta")(waveform.repeat(2, 1).to("meta"), lengths)
    assert (hidden.shape, frames.tolist()) == ((2, 28, 12), [28, 16])


@pytest.mark.parametrize("samples", [0, 1, 159, 160, 199, 200, 201, 319, 320, 480, 481])
def test_short_utterances(encoder: WhisperEncoder, waveform: Tensor, samples: int) -> None:
    hidden, lengths = encoder(waveform[None, :samples], torch.tensor([samples]))
    assert lengths.tolist() == [TINY.num_frames(samples)] == [(samples // 160 + 1) // 2]
    assert hidden.isfinite().all()


def test_digital_silence_and_loud_sound_are_finite(encoder: WhisperEncoder) -> None:
    for level in (0.0, 1.0, 1e4):
        hidden, _ = encoder(torch.full((1, 3200), level), torch.tensor([3200]))
        assert hidden.isfinite().all()


def test_an_utterance_can_be_longer_than_whispers(encoder: WhisperEncoder) -> None:
    hidden, lengths = encoder(torch.zeros(1, 31 * SAMPLE_RATE), torch.tensor([31 * SAMPLE_RATE]))
    assert lengths.tolist() == [1550] and hidden.isfinite().all()


@pytest.mark.parametrize("shape", [(100, 12), (100, 11), (100,)])
def test_positions_that_are_not_whispers_are_refused(
    encoder: WhisperEncoder, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    save_file(whole_state(encoder) | {"embed_positions.weight": torch.zeros(shape)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "whisper", **vars(TINY)}))
    with pytest.raises(DataError, match=r"'embed_positions\.weight' must hold the sinusoids"):
        load_whisper(tmp_path)


def test_each_layer_can_be_had(encoder: WhisperEncoder, waveform: Tensor) -> None:
    lengths = torch.tensor([len(waveform)])
    frames = TINY.num_frames(lengths)
    start = encoder.embedded(waveform[None], lengths)
    outputs = list(encoder.layer_outputs(start, frames))
    assert [tuple(output.shape) for output in outputs] == [(1, 28, 12)] * 2
    assert torch.equal(outputs[-1], encoder(waveform[None], lengths)[0])
    (first,) = encoder.layer_outputs(start, frames, layers=slice(1))
    (second,) = encoder.layer_outputs(first, frames, layers=slice(1, 2))
    assert torch.equal(first, outputs[0]) and torch.equal(second, outputs[1])


def test_layers_above_one_can_be_left_out(encoder: WhisperEncoder, waveform: Tensor, tmp_path: Path) -> None:
    save_file(encoder.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "whisper", **vars(TINY)}))
    lengths = torch.tensor([len(waveform)])
    first = load_whisper(tmp_path, layer=1)
    expected, _ = encoder.layer_outputs(encoder.embedded(waveform[None], lengths), TINY.num_frames(lengths))
    assert torch.equal(first(waveform[None], lengths)[0], expected)
    assert first.shape == replace(TINY, encoder_layers=1, normalize_output=False)
    assert load_whisper(tmp_path, layer=2).shape == TINY
    with pytest.raises(ConfigError, match="pretrained_layer must be between 1 and 2, not 3"):
        load_whisper(tmp_path, layer=3)


# Weights on disk


@pytest.mark.parametrize(("name", "write"), [("model.bin", write_ctranslate2), ("tiny.pt", write_openai)])
def test_weights_of_other_layouts_are_the_same_encoder(
    encoder: WhisperEncoder, waveform: Tensor, tmp_path: Path, name: str, write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr.acoustic.whisper_weights.HEAD_WIDTH", 4)  # as wide as a head of the tiny one
    write(tmp_path / name, encoder)
    convert(tmp_path / name, tmp_path / "folder")
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    assert config == {"model_type": "whisper"} | {field: getattr(TINY, field) for field in TINY.__dataclass_fields__}
    weights = load_file(tmp_path / "folder" / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float16}
    halved = WhisperEncoder(TINY)
    halved.load_state_dict({name: value.half().float() for name, value in encoder.state_dict().items()})
    lengths = torch.tensor([len(waveform)])
    loaded = load_whisper(tmp_path / "folder")
    assert torch.equal(loaded(waveform[None], lengths)[0], halved.eval()(waveform[None], lengths)[0])
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_a_folder_of_hugging_face_with_the_decoder_is_read(encoder: WhisperEncoder, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder = tmp_path / "hf"
    folder.mkdir()
    state = {f"model.encoder.{name}": value for name, value in whole_state(encoder).items()}
    save_file(state | {"model.decoder.layer_norm.weight": torch.ones(12)}, folder / "model.safetensors")
    extra = {"model_type": "whisper", "decoder_layers": 2, "vocab_size": 51864, "activation_function": "gelu"}
    shape = {field: getattr(TINY, field) for field in TINY.__dataclass_fields__}
    (folder / "config.json").write_text(json.dumps(shape | extra))
    for name, value in load_whisper(folder).state_dict().items():
        assert torch.equal(value, encoder.state_dict()[name])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.bin", b"\x06\0\0\0\x0c\0WhisperSpec\0", "must be a whole CTranslate2 model"),
        ("model.bin", b"\x05\0\0\0\x0c\0WhisperSpec\0" + bytes(40), "must be version 6 of CTranslate2's layout, not 5"),
        ("model.pt", b"no checkpoint", "must be CTranslate2's model.bin, OpenAI's .pt, or .safetensors"),
        ("model.safetensors", b"no tensors", "must be a whole safetensors file"),
    ],
)
def test_what_holds_no_encoder_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        convert(tmp_path / name, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("encoder.blocks.0.attn.gate.weight", torch.ones(2)), ("encoder.blocks.0.mlp.9.bias", torch.ones(2))],
)
def test_names_of_another_model_are_refused(encoder, tmp_path: Path, name: str, value: Tensor) -> None:
    write_openai(tmp_path / "tiny.pt", encoder)
    checkpoint = torch.load(tmp_path / "tiny.pt", weights_only=True)
    checkpoint["model_state_dict"][name] = value
    torch.save(checkpoint, tmp_path / "tiny.pt")
    with pytest.raises(DataError, match="must hold the names of a Whisper encoder, but has or lacks"):
        convert(tmp_path / "tiny.pt", tmp_path / "folder")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model_type": "bert"}, DataError, "must be of a Whisper model, not 'bert'"),
        ({"d_model": 0}, DataError, "d_model must be between 1 and 8192, not 0"),
        ({"d_model": 14}, DataError, "d_model must be a multiple of encoder_attention_heads"),
        ({"encoder_layers": 3}, DataError, "lacks .*layers.2"),
        ({"encoder_ffn_dim": 21}, DataError, "fc1.* must be .*21"),
    ],
)
def test_a_wrong_folder_is_refused(encoder, tmp_path: Path, change, error, message: str) -> None:
    write_ctranslate2(tmp_path / "model.bin", encoder)
    convert(tmp_path / "model.bin", tmp_path / "folder")
    config = tmp_path / "folder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(error, match=message):
        load_whisper(tmp_path / "folder")


def test_heads_must_share_the_width() -> None:
    with pytest.raises(ConfigError, match="d_model must be a multiple of encoder_attention_heads, not 12 with 5"):
        WhisperShape(d_model=12, encoder_attention_heads=5)


def test_samples_are_at_16_khz() -> None:
    assert SAMPLE_RATE == 16_000


def test_the_command_converts_and_reports_an_error_in_one_line(encoder, tmp_path: Path, capsys) -> None:
    write_openai(tmp_path / "tiny.pt", encoder)
    assert main([str(tmp_path / "tiny.pt"), str(tmp_path / "folder")]) == 0
    assert (tmp_path / "folder" / "model.safetensors").exists()
    for source in ("tiny.pt", "none.pt"):  # the folder exists; there is no such file
        with pytest.raises(SystemExit, match="1"):
            main([str(tmp_path / source), str(tmp_path / ("folder" if source == "tiny.pt" else "new"))])
        assert capsys.readouterr().err.count("\n") == 1
