"""Whisper encoders of random weights, in the layouts in which they are published."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from asr.acoustic.shapes import WhisperShape
from asr.acoustic.whisper import WhisperEncoder

TINY = WhisperShape(
    num_mel_bins=8,
    d_model=12,
    encoder_layers=2,
    encoder_attention_heads=3,
    encoder_ffn_dim=20,
)


def positions(count: int) -> np.ndarray:
    """(T, D), as in model.py of openai/whisper: a sine and a cosine for each of D / 2 wavelengths."""
    half = TINY.d_model // 2
    table = np.empty((count, TINY.d_model))
    for place in range(count):
        for index in range(half):
            angle = place / 10000 ** (index / (half - 1))
            table[place, index], table[place, half + index] = math.sin(angle), math.cos(angle)
    return table


def whole_state(encoder: WhisperEncoder) -> dict[str, Tensor]:
    """The weights as others store them, with the positions."""
    return encoder.state_dict() | {"embed_positions.weight": torch.from_numpy(positions(100)).float()}


def write_ctranslate2(path: Path, encoder: WhisperEncoder) -> None:
    """The encoder as CTranslate2's converter writes it; its layout is at asr.acoustic.whisper_weights."""
    state = {name: value.half().numpy() for name, value in whole_state(encoder).items()}
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
    for name, value in whole_state(encoder).items():
        if name.startswith("layers."):
            _, number, rest = name.split(".", 2)
            stem, _, part = rest.rpartition(".")
            name = f"blocks.{number}.{names[stem]}.{part}"
        name = name.replace("embed_positions.weight", "positional_embedding")
        name = "ln_post" + name[len("layer_norm") :] if name.startswith("layer_norm") else name
        state[f"encoder.{name}"] = value
    torch.save({"dims": {}, "model_state_dict": state | {"decoder.x": torch.zeros(1)}}, path)


def write_folder(folder: Path, shape: WhisperShape) -> Path:
    """An encoder in the layout of Hugging Face, with its name and licence; the folder."""
    folder.mkdir()
    torch.manual_seed(1)
    save_file(WhisperEncoder(shape).state_dict(), folder / "model.safetensors")
    content = {"model_type": "whisper", "_name_or_path": "someone/encoder", "license": "mit", **vars(shape)}
    (folder / "config.json").write_text(json.dumps(content))
    return folder
