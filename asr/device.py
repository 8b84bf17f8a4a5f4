"""Where to compute, and in which number format: float32 everywhere, bfloat16 where the hardware gains by it.

Only matrix products run in bfloat16 (autocast); weights, log-softmax, CTC and the optimiser stay float32.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import nn

from asr.errors import InputError

Precision = Literal["auto", "float32", "bfloat16"]

GAIN = 1.15  # bfloat16 must be this much faster to be chosen: a near tie is not worth the digits


def find_device(name: str) -> torch.device:
    """The torch device of that name; "auto" is CUDA where there is one, else the CPU.

    Raises:
        InputError: the name is none of a device, or this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device must be auto, cpu or a CUDA device of this machine, not {name!r}: {reason}") from None
    return device


def choose_precision(precision: Precision, device: torch.device, *, training: bool) -> torch.dtype:
    """The dtype to compute in: what was asked for or, for "auto", what a trial on this machine shows to be faster.

    The trial runs a small LSTM a few times in each format (about 50 ms); processors with bfloat16 units gain 2 to 5
    times, others lose. On a GPU bfloat16 is taken where it is supported in hardware.
    """
    if precision != "auto":
        return getattr(torch, precision)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device.type != "cpu":
        return torch.float32
    seconds = {dtype: _trial_seconds(dtype, training=training) for dtype in (torch.float32, torch.bfloat16)}
    return torch.bfloat16 if seconds[torch.bfloat16] * GAIN < seconds[torch.float32] else torch.float32


def autocast(dtype: torch.dtype, device: torch.device) -> AbstractContextManager[None]:
    """A context in which matrix products run in `dtype`."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def _trial_seconds(dtype: torch.dtype, *, training: bool) -> float:
    """The least of three times of an LSTM step in `dtype`, after one to warm up; random states are left alone."""
    with torch.random.fork_rng(devices=[]):
        lstm = nn.LSTM(256, 256, batch_first=True)
    inputs = torch.zeros(8, 16, 256)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        with torch.set_grad_enabled(training), autocast(dtype, torch.device("cpu")):
            outputs, _ = lstm(inputs)
        if training:
            outputs.float().sum().backward()
        times.append(time.perf_counter() - start)
    return min(times[1:])
