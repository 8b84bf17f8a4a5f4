"""Trainings on a GPU beside those on the CPU; without a GPU there is nothing to compare."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from asr.cli.transcribe import main
from asr.training import acoustic
from asr.training.acoustic import train_acoustic_model
from asr.training.acoustic_task import AcousticTask
from asr.training.config import TrainingConfig
from asr.training.log import read_log
from asr.training.task import OutOfMemory

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acoustic, "draw_curve", lambda folder: None)


def train(config: object, folder: Path, **options: Any) -> list[dict[str, Any]]:
    """The log of a training."""
    assert isinstance(config, TrainingConfig)
    train_acoustic_model(config, folder, note=lambda _: None, **{"device": "cuda", **options})
    return read_log(folder)


def losses(log: list[dict[str, Any]]) -> list[float]:
    return [record["loss"] for record in log if record["kind"] == "step"]


@pytest.mark.parametrize("backend", ["native", "cudnn"])
def test_losses_are_those_of_the_cpu(tone_config: Callable[..., object], tmp_path: Path, backend: str) -> None:
    config = tone_config(epochs=1, learning_rate=1e-3, ctc_backend=backend)
    expected = losses(train(tone_config(epochs=1, learning_rate=1e-3), tmp_path / "cpu", device="cpu"))
    assert losses(train(config, tmp_path / "gpu")) == pytest.approx(expected, rel=1e-2)


def test_the_log_says_which_kernel_runs(tone_config: Callable[..., object], tmp_path: Path) -> None:
    log = train(tone_config(epochs=1), tmp_path)
    assert any(record["kind"] == "note" and record["text"].startswith("CTC for up to ") for record in log)


def test_deterministic_trainings_have_the_same_losses_twice(tone_config: Callable[..., object], tmp_path: Path) -> None:
    config = tone_config(epochs=2, deterministic=True)
    assert isinstance(config, TrainingConfig)
    config = replace(config, encoder=replace(config.encoder, dropout=0.3))
    logs = [train(config, tmp_path / name) for name in ("once", "again")]
    assert losses(logs[0]) == losses(logs[1])
    figures = [[record for record in log if record["kind"] == "epoch"] for log in logs]
    assert figures[0] == figures[1]


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_tones_are_learnt_in_each_precision(tone_config: Callable[..., object], tmp_path: Path, precision: str) -> None:
    log = train(tone_config(epochs=30, warmup_epochs=2.0, precision=precision), tmp_path)
    assert all(loss is not None and math.isfinite(loss) for loss in losses(log))
    assert min(record["wer"] for record in log if record["kind"] == "epoch") < 0.2


def test_workers_feed_the_gpu_the_same_batches(tone_config: Callable[..., object], tmp_path: Path) -> None:
    config = tone_config(epochs=1, deterministic=True)
    alone, fed = train(config, tmp_path / "alone"), train(config, tmp_path / "fed", workers=2)
    assert losses(alone) == losses(fed)
    assert all(0.0 <= record["waiting"] <= 1.0 for record in fed if record["kind"] == "time")


def test_memory_that_runs_out_names_the_utterances_at_once(
    tone_config: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the model is there, it gets no more memory: not for the gradients of some million weights."""
    plain = AcousticTask.rehearse

    def starved(task: AcousticTask) -> None:
        torch.cuda.empty_cache()
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(torch.cuda.memory_reserved() / whole)
        plain(task)

    monkeypatch.setattr(AcousticTask, "rehearse", starved)
    config = tone_config(epochs=1)
    assert isinstance(config, TrainingConfig)
    try:
        with pytest.raises(OutOfMemory, match=r"does not hold this one of \d+: tone-\d\d"):
            train(replace(config, encoder=replace(config.encoder, hidden_size=512)), tmp_path)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert not (tmp_path / "log.jsonl").exists()


def test_processes_on_the_gpu_transcribe_as_one_on_the_cpu(
    tone_run: tuple[Path, list[str]], tone_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(tone_corpus), "--model", str(tone_run[0] / "model"), "--precision", "float32"]
    assert main([*command, "--device", "cpu"]) == 0
    expected = capsys.readouterr().out
    assert main([*command, "--device", "cuda", "--nproc", "2"]) == 0
    assert capsys.readouterr().out == expected
