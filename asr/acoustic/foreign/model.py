"""`ForeignModel`: anybody's CTC network with its labels, as a recogniser needs it.

waveforms ─▶ network ─▶ outputs, a column for each of its labels ─▶ log_probs, Φ first
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from asr.errors import DataError
from asr.text.alphabet import Alphabet
from asr.text.labels import Labels
from asr.text.normalization import HAN, TextOptions
from asr.text.subwords import Subwords

if TYPE_CHECKING:  # a network in another runtime needs no torch
    from asr.compute.runtime import Precision

SHORTEST_SECONDS = 0.25  # some networks have no frame for shorter sound
_SUM_TOLERANCE = 0.01  # of probabilities in half precision
_HAN = re.compile(f"[{HAN}]")


class Network(Protocol):
    """Waveforms to outputs; one small class for each family of models."""

    def prepare(self, device: str, precision: Precision) -> tuple[Any, Any]:
        """See `asr.acoustic.ctc_model.CTCModel.prepare`."""
        ...

    def outputs(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs (T, V) of some waveforms (N,) in one batch: logits, log-probabilities or probabilities."""
        ...


@dataclass(frozen=True)
class ForeignModel:
    """A model of others; a `CTCModel`.

    Args:
        name: for transcripts.
        network: computes the outputs.
        labels: of its columns.
        sample_rate: samples per second of its waveforms.
        samples_per_frame: from one frame of its outputs to the next.
        text: how its texts are written.
        exact_batches: whether the outputs of a waveform do not depend on the batch that it is in.
        shortest_seconds: shorter sound is padded with zeros.
    """

    name: str
    network: Network
    labels: Labels
    sample_rate: int
    samples_per_frame: int
    text: TextOptions
    exact_batches: bool
    shortest_seconds: float = SHORTEST_SECONDS

    @property
    def alphabet(self) -> Alphabet | Subwords:
        """The labels after Φ, which is label 0."""
        return self.labels.alphabet

    @property
    def frame_seconds(self) -> float:
        """Seconds from one frame of log_probs to the next."""
        return self.samples_per_frame / self.sample_rate

    def output_length(self, num_samples: int) -> int:
        """Frames of log_probs for a number of samples, to within one."""
        return -(-num_samples // self.samples_per_frame)

    def prepare(self, device: str, precision: Precision) -> tuple[Any, Any]:
        """See `CTCModel.prepare`."""
        return self.network.prepare(device, precision)

    def log_probs(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """See `CTCModel.log_probs`.

        Raises:
            DataError: the network has another number of columns than labels, or its outputs are not finite.
        """
        size = len(waveforms) if self.exact_batches else 1
        shortest = round(self.shortest_seconds * self.sample_rate)
        padded = [np.pad(waveform, (0, max(0, shortest - len(waveform)))) for waveform in waveforms]
        batches = (padded[begin : begin + size] for begin in range(0, len(padded), size))
        outputs = [outputs for batch in batches for outputs in self.network.outputs(batch)]
        counts = [self.output_length(len(waveform)) if len(waveform) < shortest else None for waveform in waveforms]
        return [self._log_probs(each[:count]) for each, count in zip(outputs, counts, strict=True)]

    def _log_probs(self, outputs: np.ndarray) -> np.ndarray:
        """(T, V) float32 log-probabilities, Φ first."""
        if outputs.shape[1] != self.labels.num_columns:
            raise DataError(
                f"the model must have a label for each of its {outputs.shape[1]} outputs; it has "
                f"{self.labels.num_columns} labels",
                path=self.name,
            )
        if not np.isfinite(outputs.max(axis=1)).all():  # -inf alone is an impossible label
            raise DataError("the model's outputs must be numbers; it gives NaN or inf", path=self.name)
        return self.labels.arrange(log_softmax(outputs)).astype(np.float32)


def log_softmax(outputs: np.ndarray) -> np.ndarray:
    """(T, V) float64 natural log-probabilities of logits, of log-probabilities, or of probabilities."""
    outputs = np.asarray(outputs, dtype=np.float64)
    if outputs.size and outputs.min() >= 0 and (np.abs(outputs.sum(axis=1) - 1) < _SUM_TOLERANCE).all():
        with np.errstate(divide="ignore"):
            outputs = np.log(outputs)
    return outputs - np.logaddexp.reduce(outputs, axis=1, keepdims=True)


def text_like(alphabet: Alphabet | Subwords) -> TextOptions:
    """The spelling that an alphabet allows: its case, its punctuation, and Chinese if it has Han characters."""
    characters = "".join(alphabet.alphabet.characters if isinstance(alphabet, Subwords) else alphabet.characters)
    upper, lower = (any(map(has_case, characters)) for has_case in (str.isupper, str.islower))
    marks = any(unicodedata.category(character)[0] == "P" for character in characters if character not in "'’-")
    return TextOptions(
        language="zh" if _HAN.search(characters) else "en",
        case="keep" if upper == lower else "upper" if upper else "lower",
        punctuation="keep" if marks else "drop",
    )
