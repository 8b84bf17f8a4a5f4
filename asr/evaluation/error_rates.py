"""How well a recogniser does on a manifest: error rates with intervals, what it got wrong, and two of them compared."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from asr.audio.waveform import Waveform
from asr.data.manifest import Utterance, spelled_text
from asr.data.waveforms import read_waveform
from asr.errors import AsrError, DataError, InputError
from asr.recognition.recognizer import Recognizer
from asr.text.metrics import (
    AlignedPair,
    ErrorCounts,
    PairedTest,
    align_tokens,
    bootstrap_interval,
    calibration_error,
    character_errors,
    paired_test,
    right_words,
    word_errors,
)
from asr.text.normalization import TextOptions, normalize, without_refusal
from asr.text.transcript import Transcript, Word, split_words


@dataclass(frozen=True, kw_only=True)
class ScoredUtterance:
    """One utterance of a manifest with what was said, what was recognised (both normalised), and its errors.

    A word is judged by a shortest alignment with the reference; a Han character is a word.
    """

    id: str
    speaker: str | None
    duration_seconds: float
    reference: str
    hypothesis: str
    words: ErrorCounts
    characters: ErrorCounts
    judged: tuple[tuple[float, bool], ...]  # confidence of each recognised word, and whether it is right


@dataclass(frozen=True, kw_only=True)
class ErrorRate:
    """Errors of a whole evaluation, and the 95 % bootstrap interval of their rate.

    `interval` is None where there is nothing to draw from: a single utterance, or references without text.
    """

    counts: ErrorCounts
    interval: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What `evaluate` found.

    Args:
        model: name of the model; may be empty.
        text: how references and hypotheses were normalised.
        utterances: those that could be read, in the order of the manifest; at least one.
        unreadable: id and reason of those that could not, and are in no figure.
        seconds: from the first sample read to the last transcript.
    """

    model: str
    text: TextOptions
    utterances: tuple[ScoredUtterance, ...]
    unreadable: tuple[tuple[str, str], ...]
    seconds: float

    @property
    def headline(self) -> Literal["wer", "cer"]:
        """The error rate to compare systems by: that of characters where the language does not part words by spaces."""
        return "wer" if _has_spaces(self.text) else "cer"

    @cached_property
    def wer(self) -> ErrorRate:
        """Errors in words."""
        return self._rate([utterance.words for utterance in self.utterances])

    @cached_property
    def cer(self) -> ErrorRate:
        """Errors in characters, the space between words counted but where the language has none."""
        return self._rate([utterance.characters for utterance in self.utterances])

    @property
    def calibration_error(self) -> float | None:
        """How far confidences are from the share of words that are right, see `metrics.calibration_error`.

        None where no word was recognised.
        """
        judged = [pair for utterance in self.utterances for pair in utterance.judged]
        return calibration_error(*zip(*judged, strict=True)) if judged else None

    @property
    def speakers(self) -> tuple[str, ...] | None:
        """The speaker of each utterance where all are known and they are several: then intervals draw speakers."""
        return _speakers(self.utterances)

    @property
    def audio_seconds(self) -> float:
        """Length of all utterances together."""
        return sum(utterance.duration_seconds for utterance in self.utterances)

    @property
    def real_time_factor(self) -> float:
        """Seconds of work for each second of sound."""
        return self.seconds / self.audio_seconds

    def aligned(self, utterance: ScoredUtterance) -> list[AlignedPair]:
        """Reference and hypothesis side by side, in the headline's words or characters."""
        if self.headline == "wer":
            return align_tokens(utterance.reference.split(), utterance.hypothesis.split())
        return align_tokens("".join(utterance.reference.split()), "".join(utterance.hypothesis.split()))

    def worst(self, count: int) -> list[ScoredUtterance]:
        """The utterances with most errors in the headline's unit, at most `count`, none without errors."""
        faulty = [utterance for utterance in self.utterances if self._counts(utterance).errors]
        return sorted(faulty, key=lambda utterance: -self._counts(utterance).errors)[:count]

    def confusions(self) -> Counter[tuple[str | None, str | None]]:
        """How often what was taken for what; None in the place of a reference is an insertion, else a deletion."""
        return Counter(
            (step.reference, step.hypothesis)  # type: ignore[misc]  # the tokens are str
            for utterance in self.utterances
            for step in self.aligned(utterance)
            if step.operation != "match"
        )

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values: rates are fractions, times in seconds."""
        return {
            "model": self.model,
            "headline": self.headline,
            "wer": _rate_values(self.wer),
            "cer": _rate_values(self.cer),
            "calibration_error": self.calibration_error,
            "intervals": None if self.wer.interval is None else "speakers" if self.speakers else "utterances",
            "num_utterances": len(self.utterances),
            "num_speakers": len(set(self.speakers)) if self.speakers else None,
            "audio_seconds": round(self.audio_seconds, 3),
            "seconds": round(self.seconds, 3),
            "real_time_factor": round(self.real_time_factor, 5),
            "unreadable": [{"id": id_, "reason": reason} for id_, reason in self.unreadable],
            "utterances": [
                {
                    "id": utterance.id,
                    "speaker": utterance.speaker,
                    "duration": utterance.duration_seconds,
                    "reference": utterance.reference,
                    "hypothesis": utterance.hypothesis,
                    "words": _count_values(utterance.words),
                    "characters": _count_values(utterance.characters),
                }
                for utterance in self.utterances
            ],
        }

    def _counts(self, utterance: ScoredUtterance) -> ErrorCounts:
        return utterance.words if self.headline == "wer" else utterance.characters

    def _rate(self, counts: Sequence[ErrorCounts]) -> ErrorRate:
        total = sum(counts, start=ErrorCounts())
        if len(counts) < 2 or not total.reference_length:
            return ErrorRate(counts=total, interval=None)
        return ErrorRate(counts=total, interval=bootstrap_interval(counts, groups=self.speakers))


def evaluate(
    recognizer: Recognizer,
    utterances: Iterable[Utterance],
    *,
    text: TextOptions | None = None,
    progress: Callable[[], object] = lambda: None,
) -> Evaluation:
    """The recogniser's errors on utterances with known text.

    Args:
        recognizer: what is evaluated.
        utterances: with their references, as `asr.data.manifest.read_manifest` gives them.
        text: how references and hypotheses are normalised; None is as the model was trained.
        progress: called after each utterance.
    Raises:
        DataError: none of the utterances can be read; a few that cannot are in `Evaluation.unreadable`.
    """
    text = text or recognizer.model.config.text
    read: deque[Utterance] = deque()  # those whose result is still to come
    heard: list[tuple[Utterance, Transcript]] = []
    unreadable: list[tuple[str, str]] = []

    def waveforms() -> Iterator[tuple[Waveform, int]]:
        for utterance in utterances:
            try:
                waveform = read_waveform(utterance, recognizer.model.sample_rate)
            except AsrError as error:
                unreadable.append((utterance.id, str(error)))
                progress()
                continue
            read.append(utterance)
            yield waveform, recognizer.model.sample_rate

    start = time.perf_counter()
    for result in recognizer.results(waveforms()):
        utterance = read.popleft()
        if isinstance(result, Transcript):
            heard.append((utterance, result))
        else:
            unreadable.append((utterance.id, str(result)))
        progress()
    seconds = time.perf_counter() - start
    if not heard:
        reason = f"; of the first: {unreadable[0][1]}" if unreadable else ""
        raise DataError(f"at least one utterance must be readable to evaluate a model; none is{reason}")
    return Evaluation(
        model=recognizer.model.config.name,
        text=text,
        utterances=tuple(_scored(utterance, transcript, text) for utterance, transcript in heard),
        unreadable=tuple(unreadable),
        seconds=seconds,
    )


def compare(a: Evaluation, b: Evaluation) -> PairedTest:
    """Whether two systems differ in the headline error rate, on the utterances that both could read.

    Raises:
        InputError: the evaluations are of other utterances, or of texts normalised otherwise; or there are fewer than
            two utterances in common.
    """
    if a.text != b.text:
        raise InputError(f"both evaluations must normalise text alike; got {a.text} and {b.text}")
    of_b = {utterance.id: utterance for utterance in b.utterances}
    pairs = [(utterance, of_b[utterance.id]) for utterance in a.utterances if utterance.id in of_b]
    for ours, theirs in pairs:
        if ours.reference != theirs.reference:
            raise InputError(f"both evaluations must have the same reference for {ours.id!r}")
    return paired_test(
        [a._counts(ours) for ours, _ in pairs],
        [a._counts(theirs) for _, theirs in pairs],
        groups=_speakers([ours for ours, _ in pairs]),
    )


def _scored(utterance: Utterance, transcript: Transcript, text: TextOptions) -> ScoredUtterance:
    reference, text = spelled_text(utterance, text), without_refusal(text)
    hypothesis = normalize(transcript.text, text)
    return ScoredUtterance(
        id=utterance.id,
        speaker=utterance.speaker,
        duration_seconds=utterance.duration_seconds,
        reference=reference,
        hypothesis=hypothesis,
        words=word_errors(reference, hypothesis),
        characters=character_errors(reference, hypothesis, spaces=_has_spaces(text)),
        judged=tuple(_judged(reference, transcript.words, text)),
    )


def _judged(reference: str, words: Sequence[Word], text: TextOptions) -> Iterator[tuple[float, bool]]:
    """Confidence of each recognised word, and whether it is right."""
    right = right_words(split_words(reference), [normalize(word.text, text) for word in words])
    return ((word.confidence, is_right) for word, is_right in zip(words, right, strict=True))


def _has_spaces(text: TextOptions) -> bool:
    """Whether the language parts words by spaces; normalising Chinese takes them out."""
    return normalize("中 文", text) == "中 文"


def _speakers(utterances: Sequence[ScoredUtterance]) -> tuple[str, ...] | None:
    speakers = tuple(utterance.speaker for utterance in utterances if utterance.speaker is not None)
    return speakers if len(speakers) == len(utterances) and len(set(speakers)) > 1 else None


def _rate_values(rate: ErrorRate) -> dict[str, Any]:
    low, high = rate.interval or (None, None)
    return {"rate": rate.counts.rate, "low": low, "high": high, **_count_values(rate.counts)}


def _count_values(counts: ErrorCounts) -> dict[str, int]:
    return {
        "errors": counts.errors,
        "substitutions": counts.substitutions,
        "insertions": counts.insertions,
        "deletions": counts.deletions,
        "reference_length": counts.reference_length,
    }
