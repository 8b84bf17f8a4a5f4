"""One of our models from its folder, in the runtime that fits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from asr.acoustic.config import read_config
from asr.acoustic.graph import torch_only
from asr.compute.runtime import Precision, Runtime, choose_runtime, needing_torch

if TYPE_CHECKING:  # this loads torch
    from asr.acoustic.model import AcousticModel
    from asr.acoustic.onnx_model import OnnxModel


def runtime_of(folder: Path, *, device: str, precision: Precision, runtime: Runtime) -> str:
    """The runtime of the model in a folder, "onnx" or "torch"; see `asr.load`.

    Raises:
        ConfigError: the runtime cannot do what is asked for.
        InputError: there is no such device.
        DataError: the configuration in the folder cannot be read.
    """
    part = torch_only(read_config(folder))
    return choose_runtime(runtime, device=device, precision=precision, torch_for=part)


def load_own(folder: Path, *, device: str, precision: Precision, runtime: Runtime) -> AcousticModel | OnnxModel:
    """The model in a folder; see `asr.load`.

    Raises:
        ConfigError: torch is needed and not installed; or the runtime cannot do what is asked for.
        InputError: there is no such device.
        DataError: the folder is not a model, or is damaged.
    """
    part = torch_only(read_config(folder))
    if choose_runtime(runtime, device=device, precision=precision, torch_for=part) == "onnx":
        from asr.acoustic.onnx_model import OnnxModel

        return OnnxModel.load(folder)
    with needing_torch(_reason(part, device=device, precision=precision)):
        from asr.acoustic.model import AcousticModel
    return AcousticModel.load(folder)


def _reason(part: str, *, device: str, precision: Precision) -> str:
    """What needs torch, in an error."""
    if part:
        return f"a model with {part}"
    if device not in ("auto", "cpu"):
        return f"device {device}"
    return f"precision {precision}" if precision not in ("auto", "float32") else "runtime torch"
