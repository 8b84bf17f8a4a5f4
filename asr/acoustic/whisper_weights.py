"""Convert the weights of Whisper models to the layout of Hugging Face: config.json, model.safetensors.

    python -m asr.acoustic.whisper_weights model.bin whisper-tiny.en

Read CTranslate2's `model.bin` (faster-whisper), OpenAI's `.pt`, or `model.safetensors`, and write the encoder alone.
Nothing but tensors is unpickled.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import struct
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from asr.acoustic.hugging_face import CONFIG_FILE, WEIGHTS_FILE
from asr.acoustic.shapes import WhisperShape
from asr.acoustic.whisper import POSITIONS
from asr.errors import AsrError, DataError
from asr.files.folders import replacing_folder
from asr.files.reading import open_regular
from asr.options import to_json

HEAD_WIDTH = 64  # of all Whisper models
_MOST_BYTES = 1 << 33
_DTYPES: tuple[type[np.generic], ...] = (np.float32, np.int8, np.int16, np.int32, np.float16)  # by CTranslate2's number

# Of a layer: CTranslate2's and OpenAI's names of what Hugging Face calls so.
_CTRANSLATE2 = {
    "ffn/layer_norm": "final_layer_norm",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
    "self_attention/layer_norm": "self_attn_layer_norm",
    "self_attention/linear_1": "self_attn.out_proj",
}
_OPENAI = {
    "attn.query": "self_attn.q_proj",
    "attn.key": "self_attn.k_proj",
    "attn.value": "self_attn.v_proj",
    "attn.out": "self_attn.out_proj",
    "attn_ln": "self_attn_layer_norm",
    "mlp.0": "fc1",
    "mlp.2": "fc2",
    "mlp_ln": "final_layer_norm",
}


def convert(
    source: str | os.PathLike[str], folder: str | os.PathLike[str], *, name: str = "", licence: str = ""
) -> None:
    """Write the encoder of a Whisper model as a folder in the layout of Hugging Face, float16.

    Args:
        source: CTranslate2's model.bin, OpenAI's checkpoint (.pt), or model.safetensors.
        folder: to write; it must be new.
        name: of the original, such as openai/whisper-base, for config.json.
        licence: of the weights, for config.json.
    Raises:
        DataError: the source is none of these, or is damaged.
    """
    folder = Path(folder)
    if folder.exists():
        raise DataError("the folder must be a new one, but it exists", path=folder)
    weights, heads = read_encoder(source)
    shape = _shape(weights, heads, path=source)
    with replacing_folder(folder) as new:
        origin = {"_name_or_path": name, "license": licence}
        content = {"model_type": "whisper", **{key: value for key, value in origin.items() if value}, **to_json(shape)}
        (new / CONFIG_FILE).write_text(json.dumps(content, indent=2) + "\n")
        halves = {f"model.encoder.{name}": tensor.half().contiguous() for name, tensor in weights.items()}
        save_file(halves, new / WEIGHTS_FILE, metadata={"format": "pt"})


def read_encoder(source: str | os.PathLike[str]) -> tuple[dict[str, Tensor], int]:
    """The encoder's weights by Hugging Face's names within the encoder, and the number of attention heads.

    Where a file does not tell the heads, they are as many as all Whisper models have: one for 64 values.

    Raises:
        DataError: as `convert`.
    """
    path = Path(source)
    try:
        return _read_encoder(path)
    except KeyError as error:
        raise DataError(f"must hold the names of a Whisper encoder, but has or lacks {error}", path=path) from None


def _read_encoder(path: Path) -> tuple[dict[str, Tensor], int]:
    """`read_encoder`; a KeyError is of a name that only other models have, or lack."""
    with open_regular(path) as file:
        head = file.read(64)
    if path.suffix == ".safetensors":
        try:
            tensors = load_file(path)
        except SafetensorError as error:
            raise DataError(f"must be a whole safetensors file: {error}", path=path) from None
        weights = {name.rpartition("encoder.")[2]: value for name, value in tensors.items() if "encoder." in name}
        return weights, _heads(weights, path=path)
    if b"WhisperSpec" in head:
        return _from_ctranslate2(read_ctranslate2(path), path=path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        state = checkpoint["model_state_dict"]
    except Exception as error:  # pickle, zipfile and torch raise many kinds
        raise DataError("must be CTranslate2's model.bin, OpenAI's .pt, or .safetensors", path=path) from error
    weights = {_from_openai(name): value for name, value in state.items() if name.startswith("encoder.")}
    return weights, _heads(weights, path=path)


def read_ctranslate2(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The variables of a CTranslate2 model file, version 6, by their names.

    Layout, little-endian: uint32 version; name of the specification; uint32 its revision; uint32 number of variables;
    of each: name, uint8 rank, uint32 dimensions, uint8 number of the type, uint32 number of bytes, the bytes. A name is
    a uint16 length, then as many bytes, the last of them zero.

    Raises:
        DataError: it ends early, or is of another version.
    """
    with open_regular(path) as file:
        content = file.read(_MOST_BYTES)
    place = 0

    def number(code: str) -> int:
        nonlocal place
        (value,) = struct.unpack_from(f"<{code}", content, place)
        place += struct.calcsize(code)
        return value

    def name() -> str:
        nonlocal place
        size = number("H")
        text = content[place : place + size].rstrip(b"\0").decode()
        place += size
        return text

    try:
        if (version := number("I")) != 6:
            raise DataError(f"must be version 6 of CTranslate2's layout, not {version}", path=path)
        name(), number("I")
        variables = {}
        for _ in range(number("I")):
            key = name()
            shape = [number("I") for _ in range(number("B"))]
            dtype = np.dtype(_DTYPES[number("B")])
            size = number("I")
            values = np.frombuffer(content, dtype, count=size // dtype.itemsize, offset=place)
            variables[key] = values.reshape(shape)
            place += size
        return variables
    except (struct.error, ValueError, IndexError, UnicodeDecodeError) as error:
        raise DataError(f"must be a whole CTranslate2 model: {error}", path=path) from None


def _from_ctranslate2(variables: Mapping[str, np.ndarray], *, path: Path) -> tuple[dict[str, Tensor], int]:
    weights: dict[str, Tensor] = {}
    endings = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}
    for key, values in variables.items():
        if not key.startswith("encoder/") or not values.ndim:
            continue
        if values.dtype not in (np.float16, np.float32):
            raise DataError(
                f"{key} must be of floating point, not {values.dtype}: take an unquantised model", path=path
            )
        tensor = torch.from_numpy(values.copy())
        stem, _, ending = key.removeprefix("encoder/").rpartition("/")
        layer = re.match(r"layer_(\d+)/", stem)
        if stem == "position_encodings":
            weights[POSITIONS] = tensor
        elif layer is None:
            weights[f"{stem}.{endings[ending]}"] = tensor
        elif (inner := stem[layer.end() :]) == "self_attention/linear_0":
            for projection, part in zip(("q", "k", "v"), tensor.chunk(3), strict=True):
                if projection != "k" or ending != "bias":  # keys have no bias: zeros here
                    weights[f"layers.{layer[1]}.self_attn.{projection}_proj.{ending}"] = part
        else:
            weights[f"layers.{layer[1]}.{_CTRANSLATE2[inner]}.{endings[ending]}"] = tensor
    return weights, int(variables["encoder/num_heads"])


def _from_openai(name: str) -> str:
    name = name.removeprefix("encoder.")
    if name == "positional_embedding":
        return POSITIONS
    if block := re.fullmatch(r"blocks\.(\d+)\.(.+)\.(weight|bias)", name):
        return f"layers.{block[1]}.{_OPENAI[block[2]]}.{block[3]}"
    return name.replace("ln_post", "layer_norm")


def _heads(weights: Mapping[str, Tensor], *, path: Path) -> int:
    if "conv1.weight" not in weights:
        raise DataError("must hold a Whisper encoder, but there is no conv1.weight", path=path)
    return max(1, len(weights["conv1.weight"]) // HEAD_WIDTH)


def _shape(weights: Mapping[str, Tensor], heads: int, *, path: str | os.PathLike[str]) -> WhisperShape:
    try:
        width, bins, _ = weights["conv1.weight"].shape
        return WhisperShape(
            num_mel_bins=bins,
            d_model=width,
            encoder_layers=1 + max(int(name.split(".")[1]) for name in weights if name.startswith("layers.")),
            encoder_attention_heads=heads,
            encoder_ffn_dim=len(weights["layers.0.fc1.bias"]),
        )
    except (KeyError, ValueError) as error:
        raise DataError(f"must hold a Whisper encoder, but lacks {error}", path=path) from None


def main(argv: Sequence[str] | None = None) -> int:
    """Convert as the arguments say; the exit status."""
    parser = argparse.ArgumentParser("asr.acoustic.whisper_weights", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", type=Path, help="CTranslate2's model.bin, OpenAI's .pt, or model.safetensors")
    parser.add_argument("folder", type=Path, help="folder to write; it must be new")
    parser.add_argument("--name", default="", help="name of the original, such as openai/whisper-base")
    parser.add_argument("--licence", default="", help="licence of the weights; OpenAI's have MIT")
    args = parser.parse_args(argv)
    try:
        convert(args.source, args.folder, name=args.name, licence=args.licence)
    except (AsrError, OSError) as error:
        parser.exit(1, f"{parser.prog}: error: {error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
