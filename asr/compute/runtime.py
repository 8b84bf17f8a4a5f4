"""Which runtime computes: torch, or onnxruntime, which comes with the package; without loading either."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from asr.errors import ConfigError, InputError
from asr.extras import needing_extras

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "float32", "bfloat16", "float16"]
Runtime = Literal["auto", "onnx", "torch"]

_GPUS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # Nvidia's, the same under Windows' WSL, AMD's


def choose_runtime(runtime: Runtime, *, device: str, precision: Precision, torch_for: str = "") -> str:
    """The runtime of one of our models, "onnx" or "torch".

    For "auto" it is torch on a GPU, in a precision that onnxruntime lacks, and for models that onnxruntime cannot
    compute; otherwise onnxruntime, which starts faster.

    Args:
        runtime: asked for.
        device: as in `asr.load`; "auto" is a GPU if there is one and torch can use it.
        precision: as in `asr.load`.
        torch_for: the part of the model for which it needs torch; empty: none.
    Raises:
        ConfigError: onnxruntime cannot do it; or there is no such runtime or precision.
        InputError: there is no such device.
    """
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (number and not number.isdecimal()):
        raise InputError(f"device must be auto, cpu or a CUDA device of this machine, not {device!r}")
    check_precision(precision)
    if runtime not in get_args(Runtime):
        raise ConfigError(f"runtime must be one of {', '.join(get_args(Runtime))}, not {runtime!r}", "runtime")
    reasons = {
        f"device {device}": device != "cpu" and (device != "auto" or has_gpu()),
        f"precision {precision}": precision not in ("auto", "float32"),
        torch_for: bool(torch_for),
    }
    reason = next((reason for reason, holds in reasons.items() if holds), None)
    if runtime == "onnx" and reason and not reason.startswith("device auto"):
        raise ConfigError(f"{reason} needs runtime torch; got runtime onnx", "runtime")
    return "torch" if runtime == "torch" or (runtime == "auto" and reason) else "onnx"


def has_gpu() -> bool:
    """Whether torch is installed and can use a GPU; torch is loaded only where a driver is."""
    if not has_torch() or not any(Path(name).exists() for name in _GPUS):
        return False
    import torch

    return torch.cuda.is_available()


def has_torch() -> bool:
    """Whether torch is installed."""
    return find_spec("torch") is not None


def needing_torch(what: str) -> AbstractContextManager[None]:
    """Make a missing torch a ConfigError that names what needs it, and the extra of this package that brings it."""
    return needing_extras(what, {"torch": "torch"})


def check_precision(precision: str, device: torch.device | None = None) -> None:
    """Raise a ConfigError if there is no such precision, or the device lacks it."""
    if precision not in get_args(Precision):
        raise ConfigError(f"precision must be one of {', '.join(get_args(Precision))}, not {precision!r}")
    if precision == "float16" and device and device.type != "cuda":
        raise ConfigError(f"precision float16 needs a CUDA device, not {device}: try auto")
