"""The encoder: lengths, padding, cells against independent implementations, gradients."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from asr.acoustic.encoder import Encoder, max_pool_time, permute_frames, reversal
from asr.acoustic.options import EncoderOptions
from asr.compute.cells import PeepholeLSTM
from asr.compute.recurrence import Cell
from asr.ctc.loss import ctc_loss
from asr.errors import ConfigError
from tests.processors import needs_bfloat16

CELLS = get_args(Cell)
SHAPES = [
    {},
    {"reduction": "stack", "time_strides": (3,), "pool_after_layer": 0},
    {"time_strides": (2, 2), "merge": "concat", "projection": 6, "pool_after_layer": 2},
    {"bidirectional": False, "residual": False, "layer_norm": False},
    {"time_strides": (1, 3), "pool_after_layer": 0},
]


def make_encoder(**changes) -> Encoder:
    torch.manual_seed(0)
    options = EncoderOptions(**{"num_layers": 2, "hidden_size": 8, "conv_channels": 3, **changes})
    return Encoder(options, num_features=10, num_labels=5).eval()


@pytest.mark.parametrize("changes", SHAPES)
def test_lengths_follow_the_formula(changes):
    encoder = make_encoder(**changes)
    for num_frames in range(0, 51):
        log_probs, lengths = encoder(torch.randn(1, num_frames, 10), torch.tensor([num_frames]))
        expected = encoder.options.output_length(num_frames)
        assert log_probs.shape == (1, expected, 5)
        assert lengths.tolist() == [expected]
        assert encoder.options.output_length(torch.tensor([num_frames])).tolist() == [expected]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("changes", SHAPES)
def test_an_utterance_alone_is_the_same_as_in_a_padded_batch(cell, changes):
    encoder = make_encoder(cell=cell, **changes)
    lengths = torch.tensor([37, 40, 1, 0, 22, 2])
    features = torch.randn(6, 45, 10)
    padded = features.clone()
    padded[torch.arange(45) >= lengths[:, None]] = torch.nan  # padding may hold anything
    batch, batch_lengths = encoder(padded, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone, alone_lengths = encoder(features[row : row + 1, :length], lengths[row : row + 1])
        assert alone_lengths[0] == batch_lengths[row]
        own = batch[row, : batch_lengths[row]]
        torch.testing.assert_close(own, alone[0], atol=1e-5, rtol=0)


@needs_bfloat16
@pytest.mark.parametrize("changes", SHAPES)
def test_rows_are_log_probabilities_in_float32_also_under_autocast(changes):
    encoder = make_encoder(**changes)
    with torch.autocast("cpu", torch.bfloat16):
        log_probs, _ = encoder(torch.randn(2, 20, 10), torch.tensor([20, 11]))
    assert log_probs.dtype == torch.float32
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(log_probs.shape[:2]))


def test_both_directions_equal_a_packed_bidirectional_lstm():
    encoder = make_encoder(merge="concat", residual=False, layer_norm=False)
    layer = encoder.layers[0]
    packed_lstm = nn.LSTM(layer.forward_cell.input_size, 8, batch_first=True, bidirectional=True)
    state = dict(layer.forward_cell.state_dict())
    state |= {f"{name}_reverse": value for name, value in layer.backward_cell.state_dict().items()}
    packed_lstm.load_state_dict(state)
    lengths = torch.tensor([9, 4, 7])
    inputs = torch.randn(3, 9, packed_lstm.input_size)
    packed = nn.utils.rnn.pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(packed_lstm(packed)[0], batch_first=True)
    ours = layer(inputs, reversal(lengths, 9))
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(ours[row, :length], expected[row, :length], atol=1e-6, rtol=0)


def test_reversal_is_its_own_inverse_and_leaves_padding():
    order = reversal(torch.tensor([3, 0, 5]), 5)
    frames = torch.arange(15.0).reshape(3, 5, 1)
    once = permute_frames(frames, order)
    assert once[:, :, 0].tolist() == [[2, 1, 0, 3, 4], [5, 6, 7, 8, 9], [14, 13, 12, 11, 10]]
    assert torch.equal(permute_frames(once, order), frames)


def test_max_pool_takes_an_odd_last_frame_alone_and_ignores_padding():
    hidden = torch.tensor([[1.0, 5.0, -3.0, 99.0], [2.0, 1.0, 7.0, 4.0]])[:, :, None]
    pooled, lengths = max_pool_time(hidden, torch.tensor([3, 4]))
    assert lengths.tolist() == [2, 2]
    assert pooled[:, :, 0].tolist() == [[5, -3], [2, 7]]


def test_peephole_lstm_without_peepholes_is_an_lstm():
    torch.manual_seed(1)
    ours, lstm = PeepholeLSTM(4, 3), nn.LSTM(4, 3, batch_first=True)
    with torch.no_grad():
        ours.peepholes.zero_()
        lstm.weight_ih_l0.copy_(ours.inputs.weight)
        lstm.weight_hh_l0.copy_(ours.recurrent.weight)
        lstm.bias_ih_l0.copy_(ours.inputs.bias)
        lstm.bias_hh_l0.zero_()
    inputs = torch.randn(2, 6, 4)
    torch.testing.assert_close(ours(inputs)[0], lstm(inputs)[0])


def test_peephole_lstm_follows_its_equations():
    """Against NumPy, one element at a time, with peepholes that matter."""
    torch.manual_seed(2)
    cell = PeepholeLSTM(2, 3).double()
    with torch.no_grad():
        cell.peepholes.normal_(std=2.0)
    inputs = torch.randn(1, 5, 2, dtype=torch.float64)
    weight, recurrent = cell.inputs.weight.detach().numpy(), cell.recurrent.weight.detach().numpy()
    bias, (peep_i, peep_f, peep_o) = cell.inputs.bias.detach().numpy(), cell.peepholes.detach().numpy()

    def sigmoid(value):
        return 1 / (1 + np.exp(-value))

    hidden, state = np.zeros(3), np.zeros(3)
    for frame in range(5):
        driven = weight @ inputs[0, frame].numpy() + recurrent @ hidden + bias
        new_state, new_hidden = np.zeros(3), np.zeros(3)
        for unit in range(3):
            gate_i = sigmoid(driven[unit] + peep_i[unit] * state[unit])
            gate_f = sigmoid(driven[3 + unit] + peep_f[unit] * state[unit])
            new_state[unit] = gate_f * state[unit] + gate_i * np.tanh(driven[6 + unit])
            gate_o = sigmoid(driven[9 + unit] + peep_o[unit] * new_state[unit])
            new_hidden[unit] = gate_o * np.tanh(new_state[unit])
        hidden, state = new_hidden, new_state
        np.testing.assert_allclose(cell(inputs)[0][0, frame].detach().numpy(), hidden, atol=1e-12)


def test_peephole_gradients_are_right():
    torch.manual_seed(3)
    cell = PeepholeLSTM(2, 2).double()
    inputs = torch.randn(1, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, p: torch.func.functional_call(cell, {"peepholes": p}, (x,))[0],
        (inputs, cell.peepholes.detach().clone().requires_grad_()),
    )


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_learns_to_spell_by_ctc(cell):
    """Two utterances whose frames say their labels: the loss falls to nearly nothing, and the best path is right."""
    torch.manual_seed(4)
    options = EncoderOptions(
        cell=cell, num_layers=2, hidden_size=16, reduction="stack", time_strides=(1,), pool_after_layer=1, dropout=0.0
    )
    encoder = Encoder(options, num_features=4, num_labels=4)
    targets = torch.tensor([[1, 2, 3], [3, 1, 0]])
    features = torch.zeros(2, 24, 4)
    for row in range(2):
        for position, label in enumerate(targets[row].tolist()):
            features[row, 8 * position : 8 * position + 6, label] = 1.0
    lengths, target_lengths = torch.tensor([24, 18]), torch.tensor([3, 2])
    optimizer = torch.optim.Adam(encoder.parameters(), lr=0.01)
    first = None
    for _ in range(120):
        log_probs, output_lengths = encoder(features, lengths)
        loss = ctc_loss(log_probs, targets, output_lengths, target_lengths, blank=0).sum()
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 < 5 < first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_layers": 0}, "num_layers must be between 1 and 256, not 0"),
        ({"cell": "sru"}, "cell must be one of rnn-tanh, rnn-relu, gru, lstm, peephole-lstm, not 'sru'"),
        ({"merge": "mean"}, "merge must be one of sum, concat, not 'mean'"),
        ({"num_layers": 10**6}, "num_layers must be between 1 and 256, not 1000000"),
        ({"hidden_size": -1}, "hidden_size must be between 1 and 65536, not -1"),
        ({"hidden_size": 10**9}, "hidden_size must be between 1 and 65536, not 1000000000"),
        ({"conv_channels": 0}, "conv_channels must be between 1 and 1024, not 0"),
        ({"conv_channels": 10**6}, "conv_channels must be between 1 and 1024"),
        ({"time_strides": ()}, "time_strides must be 1 to 8 integers, not 0"),
        ({"time_strides": (1,) * 1000}, "time_strides must be 1 to 8 integers, not 1000"),
        ({"time_strides": (2, 0)}, "time_strides must be between 1 and 100, not 0"),
        ({"time_strides": (2**60,)}, "time_strides must be between 1 and 100"),
        (
            {"reduction": "stack", "time_strides": (2, 2)},
            r"time_strides must be one number with reduction stack, not \(2, 2\)",
        ),
        ({"pool_after_layer": 5}, "pool_after_layer must be at most 4, not 5"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, not 1.0"),
        ({"projection": -1}, "projection must be between 0 and 65536, not -1"),
    ],
)
def test_bad_options_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        EncoderOptions(**changes)
