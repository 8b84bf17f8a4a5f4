"""The device and number format of computations: float32 everywhere, bfloat16 where it is faster.

Only matrix products run in bfloat16, or in float16 on a GPU (autocast); weights, log-softmax, CTC and the optimiser
stay float32.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeAlias

import torch
from torch import nn

from asr.compute.runtime import Precision, check_precision
from asr.compute.threads import chosen_threads
from asr.errors import ConfigError, InputError

# oneDNN caches compiled code for each shape of a recurrent layer, and every batch has another shape: with the default
# of 1024 entries, memory grows by gigabytes in hours of transcription or training. oneDNN reads this limit at the first
# layer.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")

if threads := chosen_threads():  # before torch was loaded
    torch.set_num_threads(threads)

MakeCell: TypeAlias = Callable[[int, int], nn.Module]

GAIN = 1.15  # bfloat16 must be this much faster to be chosen: a small gain is not worth the loss of precision
TRIAL_WIDTH = 256
# Utterances and frames of a trial. Fewer hide the gain in training behind overhead; more delay transcription.
TRAINING_TRIAL, INFERENCE_TRIAL = (32, 32), (8, 16)


def find_device(name: str) -> torch.device:
    """The torch device with this name: "cpu", "cuda", "cuda:1"; "auto" is CUDA if available, otherwise the CPU.

    Raises:
        InputError: the name is not one of these, or this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    reason = ""
    try:
        device = torch.device(name)
        if device.type in ("cpu", "cuda"):
            torch.empty(0, device=device)
            return device
    except (RuntimeError, AssertionError) as error:  # not a device name, no such device, or torch without CUDA
        reason = ": " + str(error).partition("\n")[0]
    raise InputError(f"device must be auto, cpu or a CUDA device of this machine, not {name!r}{reason}")


def choose_precision(precision: Precision, device: torch.device, *, make_cell: MakeCell, training: bool) -> torch.dtype:
    """The dtype of computations: `precision` or, for "auto", the faster one in a trial on this machine.

    The trial runs a recurrent layer a few times in each format (0.05 s; 0.2 s for training) and does not change random
    states. With bfloat16 matrix units an LSTM becomes 1.5 to 5 times faster, but a GRU may become slower on the same
    processor. A GPU uses bfloat16 if its hardware supports it.

    Args:
        precision: "float32", "bfloat16", "float16" (CUDA only) or "auto".
        device: where to compute.
        make_cell: makes the kind of layer that takes most of the time: (width, hidden size) to a module.
        training: whether gradients will be computed too.
    Raises:
        ConfigError: there is no such precision, the device lacks it, or this processor cannot run the layer in it.
    """
    check_precision(precision, device)
    if precision != "auto":
        dtype: torch.dtype = getattr(torch, precision)
        if not can_run(make_cell, dtype, device, training=training):
            raise ConfigError(
                f"precision {precision} is not available for recurrent layers on this processor "
                "(on x86 an LSTM in bfloat16 needs AVX-512): choose auto or float32"
            )
        return dtype
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device.type != "cpu":
        return torch.float32
    seconds = _trial_seconds(make_cell, training=training)
    return torch.bfloat16 if seconds[torch.bfloat16] * GAIN < seconds[torch.float32] else torch.float32


def can_run(make_cell: MakeCell, dtype: torch.dtype, device: torch.device, *, training: bool) -> bool:
    """Whether a recurrent layer runs in this format: oneDNN has no bfloat16 LSTM for a CPU without AVX-512."""
    if dtype == torch.float16:
        return device.type == "cuda"
    if device.type != "cpu" or dtype == torch.float32:
        return True
    return _runs(_trial_cell(make_cell), dtype, training=training)


@contextmanager
def deterministic(enabled: bool) -> Iterator[None]:
    """If enabled, make a GPU deterministic inside the context; operations that cannot be raise a RuntimeError.

    It costs time. cuBLAS gets a fixed workspace, which must be set before its first use (a process that has already
    multiplied on a GPU needs CUBLAS_WORKSPACE_CONFIG=:16:8 in its environment). cuDNN uses its deterministic
    algorithms, and the CTC loss runs in cuDNN or on the CPU.
    Source: https://docs.pytorch.org/docs/stable/notes/randomness.html
    """
    before = torch.are_deterministic_algorithms_enabled()
    if enabled:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":16:8")
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        if enabled:
            torch.use_deterministic_algorithms(before)


def autocast(dtype: torch.dtype, device: torch.device) -> AbstractContextManager[None]:
    """A context in which matrix products run in `dtype`."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def _trial_seconds(make_cell: MakeCell, *, training: bool) -> dict[torch.dtype, float]:
    """The shortest of three times of a step on the CPU in each format, after one to warm up; inf if it cannot run."""
    cell = _trial_cell(make_cell)
    inputs = torch.zeros(*(TRAINING_TRIAL if training else INFERENCE_TRIAL), TRIAL_WIDTH)
    least = {torch.float32: math.inf, torch.bfloat16: math.inf}
    formats = [dtype for dtype in least if dtype == torch.float32 or _runs(cell, dtype, training=training)]
    for attempt in range(4):
        for dtype in formats:  # in turn, so that other load on the machine slows down both
            start = time.perf_counter()
            _take_step(cell, inputs, dtype, training=training)
            if attempt > 0:
                least[dtype] = min(least[dtype], time.perf_counter() - start)
    return least


def _trial_cell(make_cell: MakeCell) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        return make_cell(TRIAL_WIDTH, TRIAL_WIDTH)


def _runs(cell: nn.Module, dtype: torch.dtype, *, training: bool) -> bool:
    """Whether a step on the CPU runs in this format."""
    try:
        _take_step(cell, torch.zeros(1, 1, TRIAL_WIDTH), dtype, training=training)
    except RuntimeError:  # "could not create a primitive descriptor ..."
        return False
    return True


def _take_step(cell: nn.Module, inputs: torch.Tensor, dtype: torch.dtype, *, training: bool) -> None:
    with torch.set_grad_enabled(training), autocast(dtype, torch.device("cpu")):
        outputs, _ = cell(inputs)
    if training:
        outputs.float().sum().backward()
