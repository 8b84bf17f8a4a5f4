"""Every picture; matplotlib is loaded when one is drawn."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def training_curve(records: Sequence[dict[str, Any]], path: str | os.PathLike[str]) -> None:
    """Draw loss and dev error rates over the epochs of a run as a PNG.

    Args:
        records: what `asr.training.log.read_log` gives.
        path: where the picture goes.
    """
    from matplotlib.figure import Figure

    epochs = [record for record in records if record["kind"] == "epoch"]
    steps = [record for record in records if record["kind"] == "step"]
    ends = [record["step"] for record in epochs]
    figure = Figure(figsize=(8, 6), layout="constrained")
    losses, errors = figure.subplots(2, 1, sharex=True)
    losses.plot(*_epoch_means(steps, ends), label="training, per character")
    losses.plot(range(1, len(epochs) + 1), [record["loss"] for record in epochs], label="dev, per character")
    losses.set(ylabel="CTC loss (nats)", yscale="log")
    rates = {name: f"dev {name.upper()}" for name in ("wer", "cer")}
    for name, label in rates.items():
        values = [100 * record[name] for record in epochs if name in record]
        if values:
            best = min(values)
            errors.plot(range(1, len(values) + 1), values, label=f"{label}, best {best:.1f} %")
    errors.set(xlabel="epoch", ylabel="error rate (%)", ylim=(0, 100))
    for axes in (losses, errors):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(Path(path), dpi=120)


def _epoch_means(steps: Sequence[dict[str, Any]], ends: Sequence[int]) -> tuple[list[int], list[float]]:
    """Mean training loss of each epoch, given the step that each epoch ends at."""
    means = []
    start = 0
    for end in ends:
        losses = [record["loss"] for record in steps if start < record["step"] <= end]
        means.append(sum(losses) / max(len(losses), 1))
        start = end
    return list(range(1, len(ends) + 1)), means
