"""One step of training: schedule, weight decay, and scaling for float16."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from asr.acoustic.encoder import Encoder
from asr.acoustic.options import EncoderOptions
from asr.training.config import LoopOptions
from asr.training.optimizer import learning_rate, make_optimizer, update

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


@pytest.mark.parametrize(("epochs", "rising"), [(1, 0.5), (2, 1.0), (3, 2.0), (80, 2.0)])
def test_a_short_training_has_a_short_warm_up(epochs: int, rising: float) -> None:
    options = LoopOptions(epochs=epochs, learning_rate=2.0)  # warmup_epochs is 2
    assert learning_rate(options, rising / 2, halvings=0) == 1.0
    assert learning_rate(options, rising, halvings=0) == 2.0
    assert learning_rate(options, epochs, halvings=0) == pytest.approx(0.02)


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
    norms, scales, weights = [], [], []
    for _ in range(3):
        scales.append(scaler.get_scale())
        loss = 2.0 * (layer.weight.half() * 1.0).float().sum()
        norms.append(update(layer, optimizer, loss, rate=0.1, clip_norm=9.0, scaler=scaler))
        weights.append(layer.weight.item())
    assert scales == [2.0**16, 2.0**15, 2.0**14]  # the largest float16 is 65504: twice 2^15 overflows
    assert [math.isfinite(norm) for norm in norms] == [False, False, True] and norms[2] == 2.0
    assert weights[:2] == [1.0, 1.0] and weights[2] == pytest.approx(0.9)
