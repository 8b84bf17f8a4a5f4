"""Compare texts with sounds: forced alignment of each text and its neighbours' texts, and what a model hears."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from asr.audio.waveform import Waveform
from asr.ctc.alignment import align
from asr.ctc.collapse import minimum_frames
from asr.doctor.checks import TextMatch, model_alphabet
from asr.errors import InputError
from asr.recognition.recognizer import Emission, Recognizer
from asr.text.alphabet import BLANK
from asr.text.normalization import normalize


def match_texts(
    recognizer: Recognizer,
    waveforms: Sequence[Waveform],
    texts: Sequence[str],
    neighbours: Sequence[Sequence[tuple[int, str]]],
    *,
    hear: bool = False,
) -> list[TextMatch | None]:
    """The costs of each text and of its neighbours' texts on its waveform.

    Args:
        recognizer: the waveforms are one batch for its model.
        waveforms: each (N,) float32 at the model's rate, N >= 1.
        texts: normalised like the model's texts.
        neighbours: for each waveform, the other texts with their numbers.
        hear: decode the waveforms too, for `TextMatch.heard`.
    Returns:
        A match for each waveform; None if its text has no character of the model's alphabet.
    """
    emissions = recognizer.batch_log_probs(waveforms)
    heard = [""] * len(waveforms)
    if hear:
        seconds = [len(waveform) / recognizer.model.sample_rate for waveform in waveforms]
        transcripts = recognizer.decoder.decode_many(
            emissions, frame_seconds=recognizer.model.frame_seconds, durations_seconds=seconds
        )
        heard = [normalize(transcript.text, recognizer.model.text) for transcript in transcripts]
    return [
        _match(recognizer, emission, text, others, heard=words)
        for emission, text, others, words in zip(emissions, texts, neighbours, heard, strict=True)
    ]


def _match(
    recognizer: Recognizer, emission: Emission, text: str, others: Sequence[tuple[int, str]], *, heard: str
) -> TextMatch | None:
    alphabet = model_alphabet(recognizer.model)
    labels = alphabet.encode(text, dropped=Counter())
    if not labels:
        return None
    neighbour_cost, neighbour = math.inf, None
    for number, other in others:
        other_labels = alphabet.encode(other, dropped=Counter())
        if other_labels and other_labels != labels and (cost := _cost(emission, other_labels)) < neighbour_cost:
            neighbour_cost, neighbour = cost, number
    return TextMatch(cost=_cost(emission, labels), neighbour_cost=neighbour_cost, neighbour=neighbour, heard=heard)


def _cost(emission: Emission, labels: Sequence[int]) -> float:
    """log P(best path) - log P(best path of the labels), in nats per label; infinite if there is none."""
    if minimum_frames(labels) > len(emission):
        return math.inf
    try:
        score = align(emission, labels, blank=BLANK).score
    except InputError:  # every path has a log-probability of -inf, as in digital silence
        return math.inf
    return max(float(emission.max(axis=1).sum()) - score, 0.0) / len(labels)  # max: rounding, if both are the same path
