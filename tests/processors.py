"""What tests ask of the processor that they run on."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from asr.device import can_run
from asr.encoder import make_cell

needs_bfloat16 = pytest.mark.skipif(
    not can_run(partial(make_cell, "lstm"), torch.bfloat16, torch.device("cpu"), training=True),
    reason="this processor has no LSTM in bfloat16",
)
