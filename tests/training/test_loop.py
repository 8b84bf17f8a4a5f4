"""The parts of the epoch loop that stand alone: schedule, weight decay, and which epochs' weights stay on the disk."""

from __future__ import annotations

import math
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn

from asr.acoustic.encoder import Encoder, EncoderOptions
from asr.training import loop
from asr.training.config import LoopOptions
from asr.training.log import read_log
from asr.training.loop import (
    BatchLoss,
    Diverged,
    OutOfMemory,
    Timed,
    drop_others,
    fit,
    learning_rate,
    make_optimizer,
    naming,
    stop_signals,
    update,
)

OPTIONS = LoopOptions(epochs=10, learning_rate=2.0, warmup_epochs=2.0, final_learning_rate=0.25)


@pytest.mark.parametrize(
    ("epochs_done", "rate"),
    [
        (0.0, 0.0),
        (0.5, 0.5),
        (2.0, 2.0),
        (4.0, 0.5 + 1.5 * (1 + math.sqrt(0.5)) / 2),  # a quarter of the way from 2 to 10
        (6.0, 0.5 + 1.5 * 0.5),
        (10.0, 0.5),
    ],
)
def test_the_rate_rises_in_a_line_and_falls_as_half_a_cosine(epochs_done: float, rate: float) -> None:
    assert learning_rate(OPTIONS, epochs_done, halvings=0) == pytest.approx(rate)


def test_without_warm_up_the_rate_begins_at_its_peak() -> None:
    options = LoopOptions(epochs=1, learning_rate=2.0, warmup_epochs=0.0)
    assert learning_rate(options, 0.0, halvings=0) == 2.0


def test_on_a_plateau_the_rate_is_halved_down_to_its_final_share() -> None:
    options = LoopOptions(schedule="plateau", learning_rate=2.0, warmup_epochs=1.0, final_learning_rate=0.2)
    rates = [learning_rate(options, 5.0, halvings=halvings) for halvings in range(4)]
    assert rates == [2.0, 1.0, 0.5, 0.4]
    assert learning_rate(options, 0.5, halvings=3) == 1.0  # still warming up


def test_plain_gradient_descent_has_nesterovs_momentum() -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(layer.weight)
    optimizer = make_optimizer(layer, LoopOptions(optimizer="sgd", weight_decay=0.0))
    for _ in range(2):
        update(layer, optimizer, layer.weight.sum(), rate=0.1, clip_norm=1.0)
    # velocities 1 and 1.9; each step goes by the gradient plus 0.9 times the new velocity
    assert layer.weight.item() == pytest.approx(-0.1 * (1 + 0.9 * 1.0) - 0.1 * (1 + 0.9 * 1.9))


def test_only_matrices_are_decayed() -> None:
    options = EncoderOptions(cell="peephole-lstm", num_layers=1, hidden_size=8, conv_channels=4, projection=6)
    encoder = Encoder(options, num_features=10, num_labels=5)
    names = {id(parameter): name for name, parameter in encoder.named_parameters()}
    decayed, others = (
        {names[id(parameter)] for parameter in group["params"]}
        for group in make_optimizer(encoder, OPTIONS).param_groups
    )
    assert decayed == {
        "layers.0.forward_cell.inputs.weight",
        "layers.0.forward_cell.recurrent.weight",
        "layers.0.backward_cell.inputs.weight",
        "layers.0.backward_cell.recurrent.weight",
        "layers.0.projection.weight",
        "output.weight",
    }
    assert decayed | others == set(names.values()) and not decayed & others


def test_an_update_that_is_not_finite_changes_nothing() -> None:
    """A finite loss with an infinite gradient: the derivative of the square root at 0."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(layer.weight)
    optimizer = make_optimizer(layer, OPTIONS)
    assert not math.isfinite(update(layer, optimizer, layer.weight.sum().sqrt(), rate=0.1, clip_norm=1.0))
    assert layer.weight.item() == 0.0
    assert update(layer, optimizer, layer.weight.sum(), rate=0.1, clip_norm=1.0) == 1.0
    assert layer.weight.item() == pytest.approx(-0.1)


def test_a_batch_of_which_nothing_can_be_learnt_changes_nothing() -> None:
    layer = nn.Linear(1, 1)
    optimizer = make_optimizer(layer, OPTIONS)
    update(layer, optimizer, layer(torch.ones(1, 1)).sum(), rate=0.1, clip_norm=1.0)  # gives it momentum
    before = [parameter.clone() for parameter in layer.parameters()]
    nothing = layer(torch.ones(1, 1))[:0].sum()
    assert update(layer, optimizer, nothing, rate=0.1, clip_norm=1.0) == 0.0
    assert all(torch.equal(one, other) for one, other in zip(before, layer.parameters(), strict=True))


def test_only_the_weights_of_the_best_epochs_stay(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    for epoch in (1, 2, 3, 4):
        (tmp_path / "checkpoints" / f"epoch-000{epoch}.safetensors").touch()
    (tmp_path / "checkpoints" / "step-00000001.pt").touch()
    drop_others([(0.5, 1.0, 2), (0.6, 1.0, 4)], tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "epoch-0002.safetensors",
        "epoch-0004.safetensors",
        "step-00000001.pt",
    ]


class Wandering:
    """A task whose dev figure falls from epoch to epoch; `lucky` alone decides how good epoch 3 is."""

    criterion = "wer"
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


def test_a_signal_is_only_remembered_and_the_second_interrupts() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with stop_signals() as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


# Scaling for float16, whose steps are those of any other device


def scaler_of(scale: float) -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", init_scale=scale)


def test_scaling_by_a_power_of_two_changes_no_bit_of_a_step() -> None:
    weights, norms = [], []
    for scaler in (torch.amp.GradScaler("cpu", enabled=False), scaler_of(2.0**16)):
        torch.manual_seed(0)
        layer = nn.Linear(3, 2)
        optimizer = make_optimizer(layer, OPTIONS)
        for value in (0.3, 0.7):
            loss = layer(torch.full((1, 3), value)).square().sum()
            norms.append(update(layer, optimizer, loss, rate=0.1, clip_norm=0.5, scaler=scaler))
        weights.append(layer.weight.detach().clone())
    assert torch.equal(*weights) and norms[:2] == norms[2:]


def test_a_gradient_too_small_for_float16_survives_when_it_is_scaled() -> None:
    found = []
    for scale in (1.0, 2.0**16):
        layer = nn.Linear(1, 1, bias=False)
        nn.init.ones_(layer.weight)
        optimizer = make_optimizer(layer, OPTIONS)
        loss = 1e-8 * (layer.weight.half() * 1.0).float().sum()  # 1e-8 is nothing in float16
        found.append(update(layer, optimizer, loss, rate=0.1, clip_norm=1.0, scaler=scaler_of(scale)))
    assert found == [0.0, pytest.approx(1e-8, rel=1e-3)]


def test_a_gradient_that_overflows_lowers_the_scale_and_changes_nothing() -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.ones_(layer.weight)
    optimizer, scaler = make_optimizer(layer, OPTIONS), scaler_of(2.0**16)
    for scale in (2.0**16, 2.0**15):
        assert scaler.get_scale() == scale
        loss = 2.0 * (layer.weight.half() * 1.0).float().sum()
        norm = update(layer, optimizer, loss, rate=0.1, clip_norm=9.0, scaler=scaler)
        assert math.isfinite(norm) == (scale == 2.0**15 and norm == 2.0)
        assert (layer.weight.item() == 1.0) != math.isfinite(norm)


class Halves:
    """A loss whose gradient overflows in float16 when it is scaled by more than `most`."""

    criterion = "wer"
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
        f"step {step}: a gradient overflowed in float16, step skipped; the loss is scaled less from now on"
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
    assert any(note.endswith("% of epoch 1 went into waiting for data: see --workers") for note in notes)


def test_only_waiting_is_timed() -> None:
    def items():
        time.sleep(0.02)
        yield "a"
        yield "b"

    timed = Timed(items())
    for _ in timed:
        time.sleep(0.05)
    assert 0.02 <= timed.seconds < 0.04


def test_memory_that_runs_out_names_what_was_computed() -> None:
    message = r"does not hold this one of 2: a, b; lower data.batch_seconds"
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
