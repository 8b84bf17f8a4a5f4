"""Outputs of networks that are no probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from asr.acoustic.foreign.model import ForeignModel, text_like
from asr.errors import DataError
from asr.text.labels import Labels


class Constant:
    """A network that gives the same outputs for any sound."""

    def __init__(self, outputs: list[list[float]]):
        self.values = np.array(outputs, np.float32).reshape(-1, 3)

    def outputs(self, waveforms):
        return [self.values for _ in waveforms]


def log_probs(outputs: list[list[float]]) -> np.ndarray:
    labels = Labels(["<blk>", "a", "b"], blank=0)
    model = ForeignModel(
        name="x",
        network=Constant(outputs),  # type: ignore[arg-type]
        labels=labels,
        sample_rate=16_000,
        samples_per_frame=320,
        text=text_like(labels.alphabet),
        exact_batches=False,
    )
    return model.log_probs([np.zeros(16_000, np.float32)])[0]


@pytest.mark.parametrize("row", [[np.nan, 0, 0], [np.inf, 0, 0], [-np.inf] * 3])
def test_rows_without_a_probability_are_refused(row: list[float]) -> None:
    with pytest.raises(DataError, match="the model's outputs must be numbers; it gives NaN or inf"):
        log_probs([[0.0, 1.0, 2.0], row])


def test_an_impossible_label_and_no_frames_are_allowed() -> None:
    assert np.allclose(np.exp(log_probs([[0.0, 0.0, -np.inf]])), [[0.5, 0.5, 0.0]])
    assert log_probs([]).shape == (0, 3)
