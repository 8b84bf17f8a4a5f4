"""The parts of the epoch loop that stand alone: schedule, weight decay, and which epochs' weights stay on the disk."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from asr.encoder import Encoder, EncoderOptions
from asr.training.config import LoopOptions
from asr.training.log import read_log
from asr.training.loop import BatchLoss, drop_others, fit, learning_rate, make_optimizer, stop_signals, update

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
