"""asr.acoustic.pretrained and whisper_weights: against formulas written anew in NumPy, librosa, and transformers."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from asr.acoustic.pretrained import (
    SAMPLE_RATE,
    WhisperEncoder,
    WhisperShape,
    load_whisper,
    mel_filters,
    num_frames,
)
from asr.acoustic.whisper_weights import convert, main
from asr.errors import ConfigError, DataError, InputError
from tests.oracles import load_or_skip

TINY = WhisperShape(
    num_mel_bins=8,
    d_model=12,
    encoder_layers=2,
    encoder_attention_heads=3,
    encoder_ffn_dim=20,
    max_source_positions=100,
)


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
    hidden = hidden + weights["embed_positions.weight"][: len(hidden)]
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
        np.testing.assert_allclose(mel_filters(bins).T.numpy(), expected, atol=1e-7)


def test_it_is_that_of_transformers(encoder: WhisperEncoder, waveform: Tensor) -> None:
    transformers = load_or_skip("transformers")
    config = transformers.WhisperConfig(
        **{name: getattr(TINY, name) for name in TINY.__dataclass_fields__}, attn_implementation="eager"
    )
    peer = transformers.models.whisper.modeling_whisper.WhisperEncoder(config).eval()
    peer.load_state_dict(encoder.state_dict())
    whole = torch.nn.functional.pad(waveform, (0, TINY.most_samples - len(waveform)))[None]
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


@pytest.mark.parametrize("samples", [0, 1, 159, 160, 199, 200, 201, 319, 320, 480, 481])
def test_short_utterances(encoder: WhisperEncoder, waveform: Tensor, samples: int) -> None:
    hidden, lengths = encoder(waveform[None, :samples], torch.tensor([samples]))
    assert lengths.tolist() == [num_frames(samples)] == [(samples // 160 + 1) // 2]
    assert hidden.isfinite().all()


def test_digital_silence_and_loud_sound_are_finite(encoder: WhisperEncoder) -> None:
    for level in (0.0, 1.0, 1e4):
        hidden, _ = encoder(torch.full((1, 3200), level), torch.tensor([3200]))
        assert hidden.isfinite().all()


def test_an_utterance_longer_than_its_positions_is_refused(encoder: WhisperEncoder) -> None:
    longest = TINY.most_samples
    encoder(torch.zeros(1, longest), torch.tensor([longest]))
    with pytest.raises(InputError, match=r"^waveforms must be at most 2 s long for this encoder, not 2.00006 s$"):
        encoder(torch.zeros(1, longest + 1), torch.tensor([longest + 1]))


def test_each_layer_can_be_had(encoder: WhisperEncoder, waveform: Tensor) -> None:
    states = encoder.hidden_states(waveform[None], torch.tensor([len(waveform)]))
    assert [tuple(state.shape) for state in states] == [(1, 28, 12)] * 3
    assert torch.equal(states[-1], encoder(waveform[None], torch.tensor([len(waveform)]))[0])


# Weights on disk


def write_ctranslate2(path: Path, encoder: WhisperEncoder) -> None:
    """The encoder as CTranslate2's converter writes it; its layout is at asr.acoustic.whisper_weights."""
    state = {name: value.half().numpy() for name, value in encoder.state_dict().items()}
    variables: dict[str, np.ndarray] = {"encoder/num_heads": np.array(3, np.int16)}
    for name in ("conv1", "conv2"):
        variables |= {f"encoder/{name}/{part}": state[f"{name}.{part}"] for part in ("weight", "bias")}
    variables["encoder/position_encodings/encodings"] = state["embed_positions.weight"]
    variables |= {
        "encoder/layer_norm/gamma": state["layer_norm.weight"],
        "encoder/layer_norm/beta": state["layer_norm.bias"],
    }
    for number in range(TINY.encoder_layers):
        ours, theirs = f"layers.{number}", f"encoder/layer_{number}"
        for norm, place in (("self_attn_layer_norm", "self_attention"), ("final_layer_norm", "ffn")):
            variables[f"{theirs}/{place}/layer_norm/gamma"] = state[f"{ours}.{norm}.weight"]
            variables[f"{theirs}/{place}/layer_norm/beta"] = state[f"{ours}.{norm}.bias"]
        for linear, place in (
            ("fc1", "ffn/linear_0"),
            ("fc2", "ffn/linear_1"),
            ("self_attn.out_proj", "self_attention/linear_1"),
        ):
            variables |= {f"{theirs}/{place}/{part}": state[f"{ours}.{linear}.{part}"] for part in ("weight", "bias")}
        projections = [state[f"{ours}.self_attn.{name}_proj.weight"] for name in "qkv"]
        biases = [
            state[f"{ours}.self_attn.q_proj.bias"],
            np.zeros(12, np.float16),
            state[f"{ours}.self_attn.v_proj.bias"],
        ]
        variables[f"{theirs}/self_attention/linear_0/weight"] = np.concatenate(projections)
        variables[f"{theirs}/self_attention/linear_0/bias"] = np.concatenate(biases)
    variables["decoder/embeddings/weight"] = np.zeros((2, 2), np.float16)
    types = {np.dtype(np.float16): 4, np.dtype(np.int16): 2}

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    content = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(variables))
    for name, values in variables.items():
        shape = struct.pack(f"<B{values.ndim}I", values.ndim, *values.shape)
        content += text(name) + shape + struct.pack("<BI", types[values.dtype], values.nbytes) + values.tobytes()
    path.write_bytes(content + struct.pack("<I", 0))


def write_openai(path: Path, encoder: WhisperEncoder) -> None:
    names = {
        "self_attn_layer_norm": "attn_ln",
        "self_attn.q_proj": "attn.query",
        "self_attn.k_proj": "attn.key",
        "self_attn.v_proj": "attn.value",
        "self_attn.out_proj": "attn.out",
        "final_layer_norm": "mlp_ln",
        "fc1": "mlp.0",
        "fc2": "mlp.2",
    }
    state = {}
    for name, value in encoder.state_dict().items():
        if name.startswith("layers."):
            _, number, rest = name.split(".", 2)
            stem, _, part = rest.rpartition(".")
            name = f"blocks.{number}.{names[stem]}.{part}"
        name = name.replace("embed_positions.weight", "positional_embedding")
        name = "ln_post" + name[len("layer_norm") :] if name.startswith("layer_norm") else name
        state[f"encoder.{name}"] = value
    torch.save({"dims": {}, "model_state_dict": state | {"decoder.x": torch.zeros(1)}}, path)


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
    state = {f"model.encoder.{name}": value for name, value in encoder.state_dict().items()}
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
    ("change", "error", "message"),
    [
        ({"model_type": "bert"}, DataError, "must be of a Whisper model, not 'bert'"),
        ({"d_model": 0}, DataError, "d_model must be between 1 and 8192, not 0"),
        ({"d_model": 13}, DataError, "d_model must be a multiple of encoder_attention_heads"),
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
