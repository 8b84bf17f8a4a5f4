"""Which model a name or a folder means, among those of others.

torchaudio:NAME                 a bundle of torchaudio
FILE.onnx, or a folder with one an ONNX export, its labels beside it
a folder with weights of        a model of Hugging Face with a CTC output
transformers
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.acoustic.folder import BUNDLE, embedded_models
from asr.compute.runtime import needing_torch
from asr.decoding.options import DecodingOptions
from asr.errors import AsrError, ConfigError, DataError, InputError
from asr.files.model_config import CONFIG_FILE, is_run, read_values
from asr.files.reading import read_json
from asr.files.writing import write_whole
from asr.options import from_json, to_json

if TYPE_CHECKING:
    from asr.acoustic.foreign.model import ForeignModel
    from asr.compute.runtime import Runtime

DECODING_FILE = "asr-decoding.json"  # the options of decoding that were tuned for a model, beside it
HUGGING_FACE_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
KNOWN = (
    "a folder of asr (config.json, weights.safetensors), of Hugging Face (config.json, model.safetensors), or with an "
    "ONNX export (model.onnx, tokens.txt)"
)


def find_foreign(model: str | os.PathLike[str]) -> Callable[[Runtime], ForeignModel] | None:
    """The function that loads a model of others in a runtime; None if the model is ours, or does not exist.

    Args:
        model: torchaudio:NAME, a file that ends in .onnx, or a folder. The name of an embedded model means that model,
            even if there is a folder of this name.
    Raises:
        InputError: it is a file of another kind.
        DataError: the folder holds no model that can be read, or several.
    """
    name, path = os.fspath(model), Path(model)
    if name in embedded_models():
        return None
    if name.startswith(BUNDLE):
        return partial(_load_bundle, name.removeprefix(BUNDLE))
    if path.is_file():
        if path.suffix != ".onnx":
            raise InputError(f"a model must be {KNOWN}, not the file {name}{_advice(path)}")
        return partial(_load_onnx, path)
    if not path.is_dir():
        return None
    config = read_values(path) if (path / CONFIG_FILE).is_file() else {}
    if "format_version" in config or is_run(config):
        return None
    if any((path / weights).is_file() for weights in HUGGING_FACE_WEIGHTS):
        return _hugging_face(path, config)
    from asr.acoustic.foreign.onnx_export import find_onnx

    if export := find_onnx(path):
        return partial(_load_onnx, export)
    raise DataError(f"a model must be {KNOWN}; this folder is none of them", path=path)


def read_decoding(folder: Path) -> DecodingOptions:
    """The options that were tuned for the model in a folder; greedy decoding if there are none.

    Raises:
        DataError: their file is damaged.
    """
    path = folder / DECODING_FILE
    if not path.is_file():
        return DecodingOptions()
    try:
        return from_json(DecodingOptions, read_json(path))
    except (AsrError, ValueError, OSError) as error:
        raise DataError(f"these options of decoding cannot be read: {error}", path=path) from None


def write_decoding(folder: Path, options: DecodingOptions) -> None:
    """Store options as the defaults of the model in a folder."""
    write_whole(folder / DECODING_FILE, json.dumps(to_json(options), ensure_ascii=False, indent=2) + "\n")


def folder_of(model: str | os.PathLike[str]) -> Path | None:
    """The folder of a model of others; None for a bundle, which has none."""
    if os.fspath(model).startswith(BUNDLE):
        return None
    return Path(model) if Path(model).is_dir() else Path(model).parent


def _load_onnx(path: Path, runtime: Runtime) -> ForeignModel:
    _check_runtime(runtime, "onnx")
    from asr.acoustic.foreign.onnx_export import load_onnx

    return load_onnx(path)


def _load_bundle(name: str, runtime: Runtime) -> ForeignModel:
    _check_runtime(runtime, "torch")
    with needing_torch("a model of torchaudio"):
        from asr.acoustic.foreign.torchaudio_bundle import load_bundle
    return load_bundle(name)


def _load_hugging_face(folder: Path, runtime: Runtime) -> ForeignModel:
    _check_runtime(runtime, "torch")
    with needing_torch("a model of Hugging Face"):
        from asr.acoustic.foreign.hugging_face import load_hugging_face
    return load_hugging_face(folder)


def _check_runtime(runtime: Runtime, own: str) -> None:
    """Raise a ConfigError if a model that only its own runtime computes shall be computed by another."""
    if runtime not in ("auto", own):
        raise ConfigError(f"runtime must be auto or {own} for this model, not {runtime}", "runtime")


def _hugging_face(folder: Path, config: dict[str, Any]) -> Callable[[Runtime], ForeignModel]:
    """Checks that the model has a CTC output: transformers would give others a random one."""
    architectures = config.get("architectures") or []
    if not any(str(name).endswith("ForCTC") for name in architectures):
        named = ", ".join(map(str, architectures)) or "none"
        raise DataError(f"architectures must name a CTC model, such as Wav2Vec2ForCTC, but is {named}", path=folder)
    return partial(_load_hugging_face, folder)


def _advice(path: Path) -> str:
    return "; export it to ONNX with NeMo's model.export" if path.suffix == ".nemo" else ""
