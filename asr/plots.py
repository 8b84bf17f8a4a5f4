"""Every picture; matplotlib is loaded when one is drawn."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Sequence
from math import nan
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def training_curve(records: Sequence[dict[str, Any]], path: str | os.PathLike[str]) -> None:
    """Draw loss and dev error rates over the epochs of a run as a PNG.

    Args:
        records: what `asr.training.log.read_log` gives, one epoch at least; figures that are None are left out.
        path: where the picture goes.
    Raises:
        ImportError: matplotlib is not installed.
    """
    _training_figure(records).savefig(Path(path), dpi=120, format="png")


def _training_figure(records: Sequence[dict[str, Any]]) -> Figure:
    """Two axes, losses above and error rates below."""
    from matplotlib.figure import Figure

    epochs = [record for record in records if record["kind"] == "epoch"]
    numbers = range(1, len(epochs) + 1)
    figure = Figure(figsize=(8, 6), layout="constrained")
    losses, errors = figure.subplots(2, 1, sharex=True)
    training = _epoch_means(records, [record["step"] for record in epochs])
    losses.plot(numbers, training, marker=".", label="training, per character")
    losses.plot(numbers, [_number(record["loss"]) for record in epochs], marker=".", label="dev, per character")
    losses.set(ylabel="CTC loss (nats)", yscale="log")
    for name in ("wer", "cer"):
        rates = [100 * record[name] for record in epochs]
        errors.plot(numbers, rates, marker=".", label=f"dev {name.upper()}, best {min(rates):.1f} %")
    errors.set(xlabel="epoch", ylabel="error rate (%)", ylim=(0, 100))
    errors.locator_params(axis="x", integer=True)
    for axes in (losses, errors):
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def _epoch_means(records: Sequence[dict[str, Any]], ends: Sequence[int]) -> list[float]:
    """Mean training loss of the steps of each epoch, given the step that each epoch ends at; skipped steps apart."""
    losses: list[list[float]] = [[] for _ in ends]
    for record in records:
        if record["kind"] == "step" and record["loss"] is not None and record["step"] <= ends[-1]:
            losses[bisect_left(ends, record["step"])].append(record["loss"])
    return [fmean(epoch) if epoch else nan for epoch in losses]


def _number(value: float | None) -> float:
    """What matplotlib leaves a gap for, where there is no number."""
    return nan if value is None else value
