"""Devices by name, and the choice of a number format."""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys
from functools import partial
from typing import get_args

import pytest
import torch
from torch import nn

from asr.compute import device
from asr.compute.cells import make_cell
from asr.compute.device import autocast, choose_precision, deterministic, find_device
from asr.compute.recurrence import Cell
from asr.errors import ConfigError, InputError
from tests.processors import needs_bfloat16

CPU = torch.device("cpu")


@pytest.mark.parametrize(("has_cuda", "expected"), [(False, "cpu"), (True, "cuda")])
def test_auto_is_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch, has_cuda: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    assert find_device("auto") == torch.device(expected)


def test_a_device_goes_by_its_name() -> None:
    assert find_device("cpu") == CPU


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cpu:x", "meta"])
def test_a_name_that_is_none_of_a_device_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"device must be auto, cpu or a CUDA device of this machine, not '{name}'"):
        find_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_where_there_is_none_is_refused_with_torchs_reason() -> None:
    with pytest.raises(InputError, match=r"not 'cuda': \w[^\n]+$"):
        find_device("cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_cuda_device_that_the_machine_lacks_is_refused() -> None:
    assert find_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(InputError, match="not 'cuda:99': "):
        find_device("cuda:99")


class NoBfloat16(nn.LSTM):
    """An LSTM on a processor for which oneDNN has none in bfloat16."""

    def forward(self, *inputs: torch.Tensor) -> object:  # type: ignore[override]
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("could not create a primitive descriptor for the LSTM forward propagation primitive")
        return super().forward(*inputs)


@pytest.mark.parametrize("training", [False, True])
def test_a_format_that_the_processor_cannot_run_is_never_chosen_and_refused_where_it_is_named(training: bool) -> None:
    assert choose_precision("auto", CPU, make_cell=NoBfloat16, training=training) == torch.float32
    assert device._trial_seconds(NoBfloat16, training=training)[torch.bfloat16] == math.inf
    with pytest.raises(ConfigError, match=r"precision bfloat16 is not available for recurrent layers.* auto or"):
        choose_precision("bfloat16", CPU, make_cell=NoBfloat16, training=training)


LOWEST = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "default"}  # as on a processor with AVX2 alone
ON_THE_LOWEST = """
import asr
from asr.cli.transcribe import main
print(asr.load(device="cpu").transcribe("tests/audio/merchant.flac").text)
print(main(["tests/audio/merchant.flac", "--device", "cpu", "--precision", "bfloat16", "--model", "an4"]))
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the instructions are x86's")
def test_recordings_are_transcribed_on_a_processor_with_avx2_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ON_THE_LOWEST], env={**os.environ, **LOWEST}, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["But the merchant understood what the boy had said.", "2"]
    assert done.stderr.splitlines()[-1].startswith("asr-transcribe: error: precision bfloat16 is not available for")


@needs_bfloat16
def test_a_precision_that_is_named_is_taken_without_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(device, "_trial_seconds")
    assert choose_precision("float32", CPU, make_cell=nn.LSTM, training=True) == torch.float32
    assert choose_precision("bfloat16", CPU, make_cell=nn.LSTM, training=False) == torch.bfloat16


@pytest.mark.parametrize("name", ["float64", "half", "Tensor", ""])
def test_another_precision_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"precision must be one of auto, float32, bfloat16, float16, not '{name}'"):
        choose_precision(name, CPU, make_cell=nn.LSTM, training=False)  # type: ignore[arg-type]


def test_float16_is_for_gpus_only() -> None:
    with pytest.raises(ConfigError, match="precision float16 needs a CUDA device, not cpu: try auto"):
        choose_precision("float16", CPU, make_cell=nn.LSTM, training=True)
    cuda = torch.device("cuda")
    assert choose_precision("float16", cuda, make_cell=nn.LSTM, training=True) == torch.float16


@pytest.mark.parametrize("before", [False, True])
def test_deterministic_algorithms_are_asked_for_inside_and_only_if_wanted(before: bool, monkeypatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    torch.use_deterministic_algorithms(before)
    try:
        with deterministic(False):
            assert torch.are_deterministic_algorithms_enabled() == before
            assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
        with pytest.raises(ZeroDivisionError), deterministic(True):
            assert torch.are_deterministic_algorithms_enabled()
            assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
            raise ZeroDivisionError
        assert torch.are_deterministic_algorithms_enabled() == before
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(("gain", "expected"), [(2.0, torch.bfloat16), (1.1, torch.float32), (0.5, torch.float32)])
def test_auto_takes_bfloat16_only_where_it_is_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, gain: float, expected: torch.dtype
) -> None:
    monkeypatch.setattr(
        device, "_trial_seconds", lambda make_cell, *, training: {torch.float32: gain, torch.bfloat16: 1.0}
    )
    assert choose_precision("auto", CPU, make_cell=nn.LSTM, training=True) == expected


@pytest.mark.parametrize(("supported", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_asks_a_gpu_for_bfloat16_in_hardware(
    monkeypatch: pytest.MonkeyPatch, supported: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *, including_emulation: supported)
    assert choose_precision("auto", torch.device("cuda"), make_cell=nn.LSTM, training=True) == expected


@needs_bfloat16
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("cell", get_args(Cell))
def test_the_trial_times_both_formats_and_leaves_the_random_state_alone(cell: Cell, training: bool) -> None:
    before = torch.get_rng_state()
    seconds = device._trial_seconds(partial(make_cell, cell), training=training)
    assert seconds.keys() == {torch.float32, torch.bfloat16}
    assert all(0 < value < 10 for value in seconds.values())
    assert torch.equal(torch.get_rng_state(), before)


def test_autocast_runs_matrix_products_in_the_format() -> None:
    matrix = torch.eye(3)
    for dtype in (torch.float32, torch.bfloat16):
        with autocast(dtype, CPU):
            assert (matrix @ matrix).dtype == dtype
    assert (matrix @ matrix).dtype == torch.float32


SHAPES = """
import asr.compute.device, random, torch
torch.set_num_threads(1)
lstm = torch.nn.LSTM(32, 32, batch_first=True)
random.seed(0)
shapes = random.sample([(batch, frames) for batch in range(2, 12) for frames in range(10, 100)], 600)
resident = []
for batch, frames in shapes:
    outputs, _ = lstm(torch.randn(batch, frames, 32, requires_grad=True))
    outputs.sum().backward()
    resident.append(int(open("/proc/self/statm").read().split()[1]) * 4096)
print(resident[-1] - resident[100])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_the_shapes_that_batches_have() -> None:
    done = subprocess.run([sys.executable, "-c", SHAPES], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 50e6
