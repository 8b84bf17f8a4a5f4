"""What tests ask of the processor that they run on."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from asr.compute.cells import make_cell
from asr.compute.device import can_run

needs_bfloat16 = pytest.mark.skipif(
    not can_run(partial(make_cell, "lstm"), torch.bfloat16, torch.device("cpu"), training=True),
    reason="this processor has no LSTM in bfloat16",
)
