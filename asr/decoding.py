"""From log-probabilities to a `Transcript`: the one door to the decoders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from asr.ctc.greedy import BestPath, best_path
from asr.errors import ConfigError, InputError
from asr.text import BLANK, Alphabet
from asr.transcript import Hypothesis, Timeline, Transcript, Word, find_words

_SUM_TOLERANCE = 0.01  # half precision is that coarse; logits and probabilities miss 1 by far more


@dataclass(frozen=True, kw_only=True)
class DecodingOptions:
    """How log-probabilities become text."""

    beam_width: int = field(default=1, metadata={"help": "prefixes kept while decoding; 1 is greedy"})

    def __post_init__(self) -> None:
        if type(self.beam_width) is not int or self.beam_width != 1:
            raise ConfigError(f"beam_width must be 1 (greedy); got {self.beam_width!r}")


def decode(
    log_probs: Any,
    alphabet: Alphabet,
    options: DecodingOptions | None = None,
    *,
    frame_seconds: float = 1.0,
    duration_seconds: float | None = None,
) -> Transcript:
    """Transcript of one utterance: the collapsed best path, cut into words.

    The confidence of a character is the geometric mean of its posteriors over the frames of its span; that of a word,
    the geometric mean of the confidences of its characters. A word lasts from the first frame of its first character
    to the last frame of its last one. If that lies past the end of the sound (a front end may pad the last frame into
    being), it is moved back inside, and words before it as far as they must.

    Args:
        log_probs: (T, V) floating natural log-probabilities, a NumPy array or a torch tensor on any device; V is
            alphabet.size, Φ is column 0, T may be 0.
        alphabet: characters of the labels.
        options: None means the defaults.
        frame_seconds: from one frame to the next; left at 1, all times count frames.
        duration_seconds: of the sound, whose end lies in the last frame or the one before, or later; None means
            T * frame_seconds.
    Returns:
        Text and words without white space around them or doubled, and one hypothesis with its score in nats.
    Raises:
        InputError: log_probs has another shape or type, NaN, or rows that do not sum to 1 once exponentiated; or the
            sound is too short for its frames.
    """
    options = options or DecodingOptions()
    emission = _checked_emission(log_probs, alphabet)
    num_frames = len(emission)
    timeline = Timeline(
        frame_seconds=frame_seconds,
        duration_seconds=num_frames * frame_seconds if duration_seconds is None else duration_seconds,
    )
    if num_frames > timeline.num_frames + 1:
        raise InputError(
            f"duration_seconds must reach the last of the {num_frames} frames of {frame_seconds} s, but one at most; "
            f"{timeline.duration_seconds} s have {timeline.num_frames} frames"
        )
    best = best_path(emission, blank=BLANK)
    spelled = alphabet.decode(best.tokens)
    text = " ".join(spelled.split())
    hypothesis = Hypothesis(
        text=text,
        score=best.score,
        tokens=tuple(best.tokens.tolist()),
        spans=tuple((start, end) for start, end in best.spans.tolist()),
    )
    return Transcript(
        text=text,
        words=tuple(_words(spelled, best, timeline))[::-1],
        hypotheses=(hypothesis,),
        timeline=timeline,
        options=asdict(options),
    )


def _words(spelled: str, best: BestPath, timeline: Timeline) -> Iterator[Word]:
    """Words from the last to the first, each before the next; `spelled` has one character a token."""
    logs = np.log(best.confidences)
    limit = timeline.num_frames
    for start, end in reversed(list(find_words(spelled))):
        end_frame = min(int(best.spans[end - 1, 1]), limit)
        limit = min(int(best.spans[start, 0]), end_frame - 1)
        yield Word(
            text=spelled[start:end],
            start_frame=limit,
            end_frame=end_frame,
            confidence=float(np.exp(logs[start:end].mean())),
            timeline=timeline,
        )


def _checked_emission(log_probs: Any, alphabet: Alphabet) -> np.ndarray:
    """(T, V) in float32 or float64, once it is known to hold natural log-probabilities."""
    if hasattr(log_probs, "detach"):  # a torch tensor; torch itself stays unloaded
        log_probs = log_probs.detach().cpu()
        if str(log_probs.dtype) == "torch.bfloat16":  # unknown to NumPy
            log_probs = log_probs.float()
    emission = np.asarray(log_probs)
    if emission.ndim != 2:
        raise InputError(f"log_probs must be (T, V), one utterance; got shape {emission.shape}")
    if emission.shape[1] != alphabet.size:
        raise InputError(
            f"log_probs must have one column for each of the {alphabet.size} labels of the alphabet, Φ included; "
            f"got {emission.shape[1]}"
        )
    if emission.dtype.kind != "f":
        raise InputError(f"log_probs must hold floating-point numbers; got {emission.dtype}")
    emission = emission.astype(np.promote_types(emission.dtype, np.float32), copy=False)
    if (invalid := np.flatnonzero(np.isnan(emission).any(axis=1))).size:
        raise InputError(f"log_probs must not hold NaN; the first is in row {invalid[0]}")
    with np.errstate(over="ignore"):
        sums = np.exp(emission).sum(axis=1)
    if (wrong := np.flatnonzero(~(np.abs(sums - 1.0) <= _SUM_TOLERANCE))).size:
        row = wrong[0]
        raise InputError(
            "log_probs must hold natural log-probabilities, each row of which sums to 1 once exponentiated; "
            f"row {row} sums to {sums[row]:.4g}; apply log_softmax to logits, the logarithm to probabilities"
        )
    return emission
