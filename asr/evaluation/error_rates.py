"""Error rates of a recogniser on a manifest with intervals, its errors, and a paired test of two recognisers."""

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
from asr.text import metrics
from asr.text.metrics import AlignedPair, ErrorCounts, PairedTest
from asr.text.normalization import TextOptions, normalize, without_refusal
from asr.text.transcript import Transcript, split_words


@dataclass(frozen=True, kw_only=True)
class ScoredUtterance:
    """One utterance of a manifest with its normalised reference and hypothesis, and its errors.

    Words are right or wrong by a shortest alignment with the reference; a Han character is a word.
    """

    id: str
    speaker: str | None
    duration_seconds: float
    reference: str
    hypothesis: str
    words: ErrorCounts
    characters: ErrorCounts
    judged: tuple[tuple[float, bool], ...]  # of each recognised word: confidence, is right


@dataclass(frozen=True, kw_only=True)
class ErrorRate:
    """Errors of a whole evaluation, and the 95 % bootstrap interval of their rate.

    `interval` is None for a single utterance, or if all references are empty.
    """

    counts: ErrorCounts
    interval: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result of `evaluate`.

    Args:
        model: name of the model; may be empty.
        text: normalisation of references and hypotheses.
        utterances: readable utterances in the order of the manifest; at least one.
        unreadable: id and reason of the other utterances, left out of all figures.
        seconds: from the first sample read to the last transcript.
    """

    model: str
    text: TextOptions
    utterances: tuple[ScoredUtterance, ...]
    unreadable: tuple[tuple[str, str], ...]
    seconds: float

    @property
    def headline(self) -> Literal["wer", "cer"]:
        """The error rate for comparisons of systems: CER for languages without spaces between words, else WER."""
        return "wer" if _has_spaces(self.text) else "cer"

    @cached_property
    def wer(self) -> ErrorRate:
        return self._rate([utterance.words for utterance in self.utterances])

    @cached_property
    def cer(self) -> ErrorRate:
        """Character errors; spaces between words count, except in languages without them."""
        return self._rate([utterance.characters for utterance in self.utterances])

    @property
    def calibration_error(self) -> float | None:
        """Distance of confidences from the share of right words, see `metrics.calibration_error`.

        None if no word was recognised.
        """
        judged = [pair for utterance in self.utterances for pair in utterance.judged]
        return metrics.calibration_error(*zip(*judged, strict=True)) if judged else None

    @property
    def speakers(self) -> tuple[str, ...] | None:
        """The speaker of each utterance, for intervals by speaker; None if any is unknown, or there is only one."""
        return _speakers(self.utterances)

    @property
    def audio_seconds(self) -> float:
        return sum(utterance.duration_seconds for utterance in self.utterances)

    @property
    def real_time_factor(self) -> float:
        """Seconds of work per second of sound."""
        return self.seconds / self.audio_seconds

    def aligned(self, utterance: ScoredUtterance) -> list[AlignedPair]:
        """Alignment of reference and hypothesis, in words or characters as `headline`."""
        if self.headline == "wer":
            return metrics.align_tokens(utterance.reference.split(), utterance.hypothesis.split())
        return metrics.align_tokens("".join(utterance.reference.split()), "".join(utterance.hypothesis.split()))

    def worst(self, count: int) -> list[ScoredUtterance]:
        """At most `count` utterances with the most errors in the unit of `headline`; all have errors."""
        faulty = [utterance for utterance in self.utterances if self._counts(utterance).errors]
        return sorted(faulty, key=lambda utterance: -self._counts(utterance).errors)[:count]

    def confusions(self) -> Counter[tuple[str | None, str | None]]:
        """Counts of (reference, hypothesis) pairs of errors: (None, word) is an insertion, (word, None) a deletion."""
        return Counter(
            (step.reference, step.hypothesis)  # type: ignore[misc]  # the tokens are str
            for utterance in self.utterances
            for step in self.aligned(utterance)
            if step.operation != "match"
        )

    def to_json(self) -> dict[str, Any]:
        """The evaluation as JSON values: rates are fractions, times are in seconds."""
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
        return ErrorRate(counts=total, interval=metrics.bootstrap_interval(counts, groups=self.speakers))


def evaluate(
    recognizer: Recognizer,
    utterances: Iterable[Utterance],
    *,
    text: TextOptions | None = None,
    progress: Callable[[], object] = lambda: None,
) -> Evaluation:
    """Evaluate a recogniser on utterances with known text.

    Args:
        recognizer: the system to evaluate.
        utterances: from `asr.data.manifest.read_manifest`, with references.
        text: normalisation of references and hypotheses; None means the model's.
        progress: called after each utterance.
    Raises:
        DataError: no utterance can be read; single unreadable ones are in `Evaluation.unreadable`.
    """
    text = text or recognizer.model.text
    pending: deque[Utterance] = deque()  # read, but not yet recognised
    transcripts: list[tuple[Utterance, Transcript]] = []
    unreadable: list[tuple[str, str]] = []

    def waveforms() -> Iterator[tuple[Waveform, int]]:
        for utterance in utterances:
            try:
                waveform = read_waveform(utterance, recognizer.model.sample_rate)
            except AsrError as error:
                unreadable.append((utterance.id, str(error)))
                progress()
                continue
            pending.append(utterance)
            yield waveform, recognizer.model.sample_rate

    start = time.perf_counter()
    for result in recognizer.results(waveforms(), style="raw"):
        utterance = pending.popleft()
        if isinstance(result, Transcript):
            transcripts.append((utterance, result))
        else:
            unreadable.append((utterance.id, str(result)))
        progress()
    seconds = time.perf_counter() - start
    if not transcripts:
        reason = f"; the first: {unreadable[0][1]}" if unreadable else ""
        raise DataError(f"at least one utterance must be readable to evaluate a model; none is{reason}")
    return Evaluation(
        model=recognizer.model.name,
        text=text,
        utterances=tuple(_scored(utterance, transcript, text) for utterance, transcript in transcripts),
        unreadable=tuple(unreadable),
        seconds=seconds,
    )


def compare(a: Evaluation, b: Evaluation) -> PairedTest:
    """Test whether two systems differ in the headline error rate, on the utterances that are readable in both.

    Raises:
        InputError: the evaluations have different references or normalisations, or fewer than two utterances in common.
    """
    if a.text != b.text:
        raise InputError(f"both evaluations must normalise text in the same way; got {a.text} and {b.text}")
    by_id = {utterance.id: utterance for utterance in b.utterances}
    pairs = [(utterance, by_id[utterance.id]) for utterance in a.utterances if utterance.id in by_id]
    for ours, theirs in pairs:
        if ours.reference != theirs.reference:
            raise InputError(f"both evaluations must have the same reference for {ours.id!r}")
    return metrics.paired_test(
        [a._counts(ours) for ours, _ in pairs],
        [a._counts(theirs) for _, theirs in pairs],
        groups=_speakers([ours for ours, _ in pairs]),
    )


def _scored(utterance: Utterance, transcript: Transcript, text: TextOptions) -> ScoredUtterance:
    reference, text = spelled_text(utterance, text), without_refusal(text)
    hypothesis = normalize(transcript.text, text)
    right = metrics.right_words(split_words(reference), [normalize(word.text, text) for word in transcript.words])
    return ScoredUtterance(
        id=utterance.id,
        speaker=utterance.speaker,
        duration_seconds=utterance.duration_seconds,
        reference=reference,
        hypothesis=hypothesis,
        words=metrics.word_errors(reference, hypothesis),
        characters=metrics.character_errors(reference, hypothesis, spaces=_has_spaces(text)),
        judged=tuple(zip((word.confidence for word in transcript.words), right, strict=True)),
    )


def _has_spaces(text: TextOptions) -> bool:
    """Whether the language has spaces between words; normalising Chinese removes them."""
    return normalize("中 文", text) == "中 文"


def _speakers(utterances: Sequence[ScoredUtterance]) -> tuple[str, ...] | None:
    speakers = tuple(utterance.speaker for utterance in utterances if utterance.speaker is not None)
    return speakers if len(speakers) == len(utterances) and len(set(speakers)) > 1 else None


def _rate_values(rate: ErrorRate) -> dict[str, Any]:
    low, high = rate.interval or (None, None)
    return {"rate": rate.counts.rate, "low": low, "high": high, **_count_values(rate.counts)}


def _count_values(counts: ErrorCounts) -> dict[str, int]:
    return {"errors": counts.errors, **vars(counts)}
