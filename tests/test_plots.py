"""The picture of a training: what its lines say, and that it is a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from asr.plots import _training_figure, training_curve

plt = pytest.importorskip("matplotlib.pyplot")

# Two steps an epoch, three epochs; the third step was skipped since its loss was not finite.
RECORDS: list[dict[str, Any]] = [
    {"kind": "step", "step": 1, "loss": 4.0},
    {"kind": "step", "step": 2, "loss": 2.0},
    {"kind": "epoch", "step": 2, "epoch": 1, "wer": 1.0, "cer": 0.75, "loss": 2.5},
    {"kind": "step", "step": 3, "loss": None},
    {"kind": "note", "step": 3, "text": "step skipped"},
    {"kind": "step", "step": 4, "loss": 1.5},
    {"kind": "epoch", "step": 4, "epoch": 2, "wer": 0.25, "cer": 0.125, "loss": None},
    {"kind": "step", "step": 5, "loss": 0.5},
    {"kind": "step", "step": 6, "loss": 1.0},
    {"kind": "epoch", "step": 6, "epoch": 3, "wer": 0.5, "cer": 0.2, "loss": 0.8},
    {"kind": "step", "step": 7, "loss": 99.0},  # of an epoch that has not ended
]


def test_the_lines_are_the_means_of_epochs_and_the_dev_figures() -> None:
    losses, errors = _training_figure(RECORDS).axes
    lines = {line.get_label(): line.get_xydata().T.tolist() for axes in (losses, errors) for line in axes.get_lines()}
    assert lines.pop("training, per character") == [[1, 2, 3], [3.0, 1.5, 0.75]]
    epochs, dev_losses = lines.pop("dev, per character")
    assert epochs == [1, 2, 3]
    assert dev_losses[::2] == [2.5, 0.8] and math.isnan(dev_losses[1])
    assert lines == {
        "dev WER, best 25.0 %": [[1, 2, 3], [100.0, 25.0, 50.0]],
        "dev CER, best 12.5 %": [[1, 2, 3], [75.0, 12.5, 20.0]],
    }
    assert losses.get_ylabel() == "CTC loss (nats)" and losses.get_yscale() == "log"
    assert errors.get_xlabel() == "epoch" and errors.get_ylabel() == "error rate (%)"


def test_the_picture_is_a_png(tmp_path: Path) -> None:
    training_curve(RECORDS, tmp_path / "curve.png")
    image = plt.imread(tmp_path / "curve.png")
    assert image.shape[:2] == (720, 960)
    assert len({tuple(pixel) for row in image for pixel in row.round(1)}) > 3  # not blank


def test_a_training_of_one_epoch_has_a_picture(tmp_path: Path) -> None:
    training_curve(RECORDS[:3], tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 1000
