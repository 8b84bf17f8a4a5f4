"""The number formats of recurrent layers on this processor."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import partial

import torch

from asr.compute.cells import make_cell
from asr.compute.device import can_run


def runnable(names: Iterable[str], *, training: bool) -> list[str]:
    """The formats in which an LSTM runs on the CPU; print the others on stderr."""
    formats = []
    for name in names:
        if can_run(partial(make_cell, "lstm"), getattr(torch, name), torch.device("cpu"), training=training):
            formats.append(name)
        else:
            print(f"{name} is left out: this processor cannot run an LSTM in it", file=sys.stderr)
    return formats
