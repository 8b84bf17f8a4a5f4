"""The epoch loop: early stopping, checkpoints, overflows, and the time that is spent waiting."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn

from asr.training import loop
from asr.training.config import LoopOptions
from asr.training.log import read_log
from asr.training.loop import Diverged, Timed, fit
from asr.training.task import BatchLoss, OutOfMemory, naming


class Wandering:
    """A task whose dev figure falls from epoch to epoch; `lucky` alone decides how good epoch 3 is."""

    criterion = "wer"
    learning_rates = {}  # noqa: RUF012
    waiting_remedy = ": see --workers"
    data_digest = ""

    def __init__(self, lucky: bool):
        self.modules = nn.ModuleDict({"model": nn.Linear(1, 1)})
        self.figures = iter([0.5, 0.4, 0.3 if lucky else 0.9, *[0.8] * 9])

    def num_batches(self, epoch):
        return 1

    def batches(self, epoch, *, start):
        yield from [None][start:]

    def loss(self, batch, *, generator):
        loss = self.modules["model"].weight.sum()
        return BatchLoss(loss=loss, figures={"loss": loss.item()})

    def evaluate(self):
        return {"wer": next(self.figures), "loss": 1.0}


def test_training_ends_early_without_a_better_epoch_and_stays_ended(tmp_path: Path) -> None:
    options = LoopOptions(epochs=9, warmup_epochs=0.0, average_best=2, early_stop_epochs=2)
    task, notes = Wandering(lucky=True), []
    fit(task, options, tmp_path, note=notes.append)
    assert [note for note in notes if note.startswith("epoch")][-1].startswith("epoch 5: ")  # 3 was the best
    assert "no epoch after 3 was better: training ends early" in notes
    again = Wandering(lucky=True)
    fit(again, options, tmp_path, note=notes.append)
    assert len([note for note in notes if note.startswith("epoch")]) == 5


def test_a_longer_run_has_the_rates_of_a_new_one_from_there_on(tmp_path: Path) -> None:
    short, long = (LoopOptions(epochs=epochs, warmup_epochs=1.0, average_best=1) for epochs in (3, 5))
    fit(Wandering(lucky=True), short, tmp_path / "run", note=lambda _: None)
    fit(Wandering(lucky=True), short, tmp_path / "run", note=lambda _: None)  # nothing left, nothing noted
    fit(Wandering(lucky=True), long, tmp_path / "run", note=lambda _: None)
    fit(Wandering(lucky=True), long, tmp_path / "new", note=lambda _: None)
    rates = {
        name: [record["rate"] for record in read_log(tmp_path / name) if record["kind"] == "step"]
        for name in ("run", "new")
    }
    assert len(rates["run"]) == 5
    assert rates["run"][3:] == rates["new"][3:] and rates["run"][1:3] != rates["new"][1:3]
    (note,) = (record for record in read_log(tmp_path / "run") if record["kind"] == "note")
    assert note["step"] == 3 and note["text"].startswith("the run has 5 epochs now, not 3: after 3 of them, it goes on")


def test_the_figures_before_training_are_epoch_0(tmp_path: Path) -> None:
    options = LoopOptions(epochs=1, average_best=1)
    notes: list[str] = []
    fit(Wandering(lucky=True), options, tmp_path, note=notes.append, start_figures=True)
    fit(Wandering(lucky=True), options, tmp_path, note=notes.append, start_figures=True)  # resumes: once is enough
    figures = [
        (record["epoch"], record["step"], record["wer"]) for record in read_log(tmp_path) if record["kind"] == "epoch"
    ]
    assert figures == [(0, 0, 0.5), (1, 1, 0.4)]
    assert notes[0] == "before training: dev wer 0.5, dev loss 1"


def test_only_epochs_that_are_not_the_best_lower_the_rate(tmp_path: Path) -> None:
    options = LoopOptions(epochs=5, warmup_epochs=0.0, schedule="plateau", learning_rate=0.4, average_best=1)
    fit(Wandering(lucky=False), options, tmp_path, note=lambda _: None)  # 0.5, 0.4, 0.9, 0.8, 0.8
    rates = [entry["rate"] for entry in read_log(tmp_path) if entry["kind"] == "step"]
    assert rates == [0.4, 0.4, 0.4, 0.2, 0.1]


def test_the_spare_checkpoint_finds_the_weights_that_it_names(tmp_path: Path) -> None:
    """Epoch 3 pushes out epoch 1; its checkpoint is lost, and the second time (on a GPU, say) it comes out worse."""
    options = LoopOptions(epochs=3, warmup_epochs=0.0, average_best=2)
    fit(Wandering(lucky=True), options, tmp_path, note=lambda _: None)
    last = max((tmp_path / "checkpoints").glob("step-*.pt"))
    last.write_bytes(b"")
    again = Wandering(lucky=False)
    next(again.figures), next(again.figures)
    notes: list[str] = []
    fit(again, options, tmp_path, note=notes.append)
    assert any("average of epochs 2, 1: " in note for note in notes)


class Halves:
    """A loss whose gradient overflows in float16 when it is scaled by more than `most`."""

    criterion = "wer"
    learning_rates = {}  # noqa: RUF012
    waiting_remedy = ": see --workers"
    data_digest = ""

    def __init__(self, most: float, steps: int):
        self.modules = nn.ModuleDict({"model": nn.Linear(1, 1, bias=False)})
        self.factor, self.steps = 60_000.0 / most, steps

    def num_batches(self, epoch):
        return self.steps

    def batches(self, epoch, *, start):
        yield from range(start, self.steps)

    def loss(self, batch, *, generator):
        loss = self.factor * self.modules["model"].weight.half().float().sum()
        return BatchLoss(loss=loss, figures={"loss": loss.item()}, ids=("u",))

    def evaluate(self):
        return {"wer": 1.0, "loss": 1.0}


@pytest.fixture
def scaling_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = torch.amp.GradScaler
    monkeypatch.setattr(torch.amp, "GradScaler", lambda _, enabled: plain("cpu", enabled=enabled))


def test_overflows_are_noted_but_are_no_failures_and_the_scale_is_in_the_checkpoint(
    tmp_path: Path, scaling_on_the_cpu: None
) -> None:
    options = LoopOptions(epochs=1, warmup_epochs=0.0, precision="float16", patience_steps=2)
    notes: list[str] = []
    fit(Halves(most=2.0**12, steps=6), options, tmp_path, note=notes.append)
    assert [note for note in notes if "float16" in note] == [
        f"step {step}: a gradient overflowed in float16, step skipped; the loss scale is lower from now on"
        for step in (1, 2, 3, 4)
    ]
    state = torch.load(max((tmp_path / "checkpoints").glob("step-*.pt")), weights_only=True)
    assert state["scaler"]["scale"] == 2.0**12 and state["position"]["skipped"] == 4
    more = LoopOptions(epochs=2, warmup_epochs=0.0, precision="float16", patience_steps=2)
    notes.clear()
    fit(Halves(most=2.0**12, steps=6), more, tmp_path, note=notes.append)
    assert not any("float16" in note for note in notes)


def test_a_gradient_that_no_scale_makes_finite_stops_the_run(tmp_path: Path, scaling_on_the_cpu: None) -> None:
    options = LoopOptions(epochs=1, warmup_epochs=0.0, precision="float16", patience_steps=3)
    notes: list[str] = []
    with pytest.raises(Diverged, match="3 steps in a row were not finite"):
        fit(Halves(most=2.0**-9, steps=99), options, tmp_path, note=notes.append)
    assert sum("float16" in note for note in notes) == 16


# Waiting, and memory


def test_the_time_that_batches_are_waited_for_is_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A note says it of epochs that are long enough."""

    class Slow(Wandering):
        def batches(self, epoch, *, start):
            for batch in super().batches(epoch, start=start):
                time.sleep(0.05)
                yield batch

    notes: list[str] = []
    fit(Slow(lucky=True), LoopOptions(epochs=1, warmup_epochs=0.0), tmp_path / "short", note=notes.append)
    assert not any("waiting for data" in note for note in notes)
    monkeypatch.setattr(loop, "WAITING_SECONDS", 0.0)
    fit(Slow(lucky=True), LoopOptions(epochs=1, warmup_epochs=0.0), tmp_path, note=notes.append)
    (record,) = (record for record in read_log(tmp_path) if record["kind"] == "time")
    assert record["epoch"] == 1 and record["seconds"] >= 0.05 and 0.05 < record["waiting"] <= 1.0
    assert any(note.endswith("% of epoch 1 was spent waiting for data: see --workers") for note in notes)


def test_only_waiting_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that stands still but for the seconds that are added here."""
    clock = 0.0

    def work(seconds: float) -> None:
        nonlocal clock
        clock += seconds

    def items():
        work(2.0)
        yield "a"
        work(3.0)
        yield "b"
        work(4.0)

    monkeypatch.setattr(time, "perf_counter", lambda: clock)
    timed = Timed(items())
    for _ in timed:
        work(100.0)
    assert timed.seconds == 9.0 and clock == 209.0


def test_memory_that_runs_out_names_what_was_computed() -> None:
    message = r"^GPU out of memory on a batch of 2 utterances .a, b.; lower data.batch_seconds"
    with pytest.raises(OutOfMemory, match=message), naming(["a", "b"]):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    with pytest.raises(RuntimeError, match="another"), naming(["a"]):
        raise RuntimeError("another")


def test_a_training_in_another_thread_leaves_signals_alone(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    options = LoopOptions(epochs=1, warmup_epochs=0.0, average_best=1)
    with ThreadPoolExecutor(1) as pool:
        figures = pool.submit(fit, Wandering(lucky=True), options, tmp_path, note=lambda _: None).result()
    assert figures["wer"] == 0.4  # of the second evaluation, after training
    assert signal.getsignal(signal.SIGINT) == before
