"""Whether texts are of the sounds they stand beside: forced alignment of each, and of its neighbours'."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from asr.audio.waveform import Waveform
from asr.ctc.alignment import align
from asr.ctc.collapse import minimum_frames
from asr.doctor.checks import TextMatch
from asr.errors import InputError
from asr.recognition.recognizer import Emission, Recognizer
from asr.text.alphabet import BLANK


def match_texts(
    recognizer: Recognizer,
    waveforms: Sequence[Waveform],
    texts: Sequence[str],
    neighbours: Sequence[Sequence[tuple[int, str]]],
) -> list[TextMatch | None]:
    """How each text fits its waveform, and whether that of a neighbour fits better.

    Args:
        recognizer: whose model listens; the waveforms go through it as one batch.
        waveforms: each (N,) float32 at the model's rate, N >= 1.
        texts: normalised as the model's texts are.
        neighbours: for each waveform, the other texts, each with a number that names it.
    Returns:
        A match for each waveform, None where its text has no character that the model knows.
    """
    emissions = recognizer.batch_log_probs(waveforms)
    return [
        _match(recognizer, emission, text, others)
        for emission, text, others in zip(emissions, texts, neighbours, strict=True)
    ]


def _match(
    recognizer: Recognizer, emission: Emission, text: str, others: Sequence[tuple[int, str]]
) -> TextMatch | None:
    labels = recognizer.model.alphabet.encode(text, dropped=Counter())
    if not labels:
        return None
    neighbour_cost, neighbour = math.inf, None
    for number, other in others:
        other_labels = recognizer.model.alphabet.encode(other, dropped=Counter())
        if other_labels and other_labels != labels and (cost := _cost(emission, other_labels)) < neighbour_cost:
            neighbour_cost, neighbour = cost, number
    return TextMatch(cost=_cost(emission, labels), neighbour_cost=neighbour_cost, neighbour=neighbour)


def _cost(emission: Emission, labels: Sequence[int]) -> float:
    """Nats a character that the best path of the labels lacks to the best of all; infinite if there is none."""
    if minimum_frames(labels) > len(emission):
        return math.inf
    try:
        score = align(emission, labels, blank=BLANK).score
    except InputError:  # every path meets a log-probability of -inf, as in digital silence
        return math.inf
    return max(float(emission.max(axis=1).sum()) - score, 0.0) / len(labels)  # rounding, where they are one path
