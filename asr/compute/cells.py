"""Recurrent cells with one interface, (B, T, D) -> (B, T, H) and a state."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asr.compute.recurrence import Cell


def make_cell(cell: Cell, width: int, hidden: int) -> nn.Module:
    """One direction of a layer: (B, T, width) -> ((B, T, hidden), final state)."""
    if cell == "peephole-lstm":
        return PeepholeLSTM(width, hidden)
    if cell == "lstm":
        lstm = nn.LSTM(width, hidden, batch_first=True)
        open_forget_gate(lstm.get_parameter("bias_ih_l0"), hidden)
        return lstm
    if cell == "gru":
        return nn.GRU(width, hidden, batch_first=True)
    return nn.RNN(width, hidden, batch_first=True, nonlinearity="tanh" if cell == "rnn-tanh" else "relu")


def open_forget_gate(bias: Tensor, hidden: int) -> None:
    """Set the forget gate's bias (the second of i, f, g, o) to 1, so that the cell remembers from the start.

    Source: Jozefowicz, Zaremba and Sutskever 2015, "An Empirical Exploration of Recurrent Network Architectures".
    """
    with torch.no_grad():
        bias[hidden : 2 * hidden] = 1.0


class PeepholeLSTM(nn.Module):
    """An LSTM whose gates see the cell state, with one weight for each unit.

        i_t = σ(W_i x_t + R_i h_{t-1} + p_i ⊙ c_{t-1} + b_i)        c_t = f_t ⊙ c_{t-1} + i_t ⊙ g_t
        f_t = σ(W_f x_t + R_f h_{t-1} + p_f ⊙ c_{t-1} + b_f)        h_t = o_t ⊙ tanh(c_t)
        g_t = tanh(W_g x_t + R_g h_{t-1} + b_g)
        o_t = σ(W_o x_t + R_o h_{t-1} + p_o ⊙ c_t + b_o)

    With p = 0 it is `nn.LSTM`. There is no fused kernel for it: the forward pass is a Python loop over frames.
    Source: Gers and Schmidhuber 2000, "Recurrent nets that time and count".
    """

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.hidden = hidden
        self.inputs = nn.Linear(width, 4 * hidden)
        self.recurrent = nn.Linear(hidden, 4 * hidden, bias=False)
        self.peepholes = nn.Parameter(torch.zeros(3, hidden))  # input, forget, output gate
        bound = hidden**-0.5
        for parameter in (*self.inputs.parameters(), *self.recurrent.parameters(), self.peepholes):
            nn.init.uniform_(parameter, -bound, bound)
        open_forget_gate(self.inputs.bias, hidden)

    def forward(self, inputs: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        driven = self.inputs(inputs)  # (B, T, 4 H): all input products in one multiplication
        hidden = cell = driven.new_zeros(inputs.shape[0], self.hidden)
        peep_input, peep_forget, peep_output = self.peepholes
        outputs = []
        for frame in driven.unbind(dim=1):
            to_input, to_forget, candidate, to_output = (frame + self.recurrent(hidden)).chunk(4, dim=-1)
            memory = torch.sigmoid(to_forget + peep_forget * cell) * cell
            cell = memory + torch.sigmoid(to_input + peep_input * cell) * torch.tanh(candidate)
            hidden = torch.sigmoid(to_output + peep_output * cell) * torch.tanh(cell)
            outputs.append(hidden)
        stacked = torch.stack(outputs, dim=1) if outputs else driven.new_zeros(inputs.shape[0], 0, self.hidden)
        return stacked, (hidden, cell)
