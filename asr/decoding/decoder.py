"""From log-probabilities to a `Transcript`: greedily, or by a prefix beam search with all that helps it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from asr.ctc.beam import BeamHypothesis, BeamSearch
from asr.ctc.greedy import best_path
from asr.decoding.confidence import agreements, calibrated, evidence, of_utterance, of_words, word_shares
from asr.decoding.options import DecodingOptions
from asr.decoding.rescoring import LEAST_SCORE, Reading, Rescorer, merge_alike
from asr.decoding.search_setup import file_versions, load_language_model, make_search, named_files, read_source
from asr.errors import ConfigError, InputError
from asr.files.reading import Identity
from asr.options import to_json
from asr.text.alphabet import BLANK, Alphabet
from asr.text.transcript import Hypothesis, SpottedHotword, Timeline, Transcript, Word, find_words

_SUM_TOLERANCE = 0.01  # half precision is that coarse; logits and probabilities miss 1 by far more
_NUM_WEIGHED = 32  # hypotheses that confidences are made of, at most
_NEGLIGIBLE = 7.0  # nats behind the best: a thousandth of its probability


class Decoder:
    """Decodes the emissions of one alphabet: what the options name is read once, here. Threads may share it.

    Args:
        alphabet: characters of the labels.
        options: None means the defaults, greedy decoding.
        device: where a recurrent language model computes; see `asr.compute.device.find_device`.
        dtype: the torch format of its matrix products when it ranks hypotheses anew; None is float32.
    Raises:
        DataError: a language model, the lexicon or a file of hotwords cannot be read, or a line of the lexicon is not
            one word in the alphabet.
        InputError: none of the hotwords, or none of the language model's words, can be spelled in the alphabet; or a
            language model that is fused lacks a character of it.
    Warns:
        AsrWarning: hotwords that cannot be spelled are left out; a language model knows few of the words or letters.
    """

    def __init__(
        self, alphabet: Alphabet, options: DecodingOptions | None = None, *, device: str = "cpu", dtype: Any = None
    ):
        self.alphabet = alphabet
        self.options = options or DecodingOptions()
        self._said = _said(self.options)
        if self.options.prior and len(self.options.prior) != alphabet.size:
            raise ConfigError(
                f"prior must have a probability for each of the {alphabet.size} labels; got {len(self.options.prior)}"
            )
        self._search: BeamSearch | None = None
        self._rescorer: Rescorer | None = None
        if not self.options.greedy:
            self._search, self._hotwords, lexicon = make_search(alphabet, self.options, device=device)
            if self.options.rescoring.rescore_lm:
                self._rescorer = self._make_rescorer(lexicon, device, dtype)

    def decode(
        self, log_probs: Any, *, frame_seconds: float = 1.0, duration_seconds: float | None = None
    ) -> Transcript:
        """The transcript of one utterance; see `decode`."""
        (transcript,) = self.decode_many([log_probs], frame_seconds=frame_seconds, durations_seconds=[duration_seconds])
        return transcript

    def decode_many(
        self, log_probs: Sequence[Any], *, frame_seconds: float = 1.0, durations_seconds: Sequence[float | None]
    ) -> list[Transcript]:
        """The transcripts of several utterances, the same as `decode` gives one by one.

        A recurrent language model hears the hypotheses of all of them together, whether it ranks them anew or is part
        of the search.
        """
        emissions = [checked_log_probs(each, num_labels=self.alphabet.size) for each in log_probs]
        timelines = [
            _make_timeline(len(emission), frame_seconds, duration_seconds)
            for emission, duration_seconds in zip(emissions, durations_seconds, strict=True)
        ]
        if self._search is None:
            return [self._greedy(*pair) for pair in zip(emissions, timelines, strict=True)]
        lists = self.readings(emissions)
        return [self._transcript(*parts) for parts in zip(lists, emissions, timelines, strict=True)]

    def readings(self, emissions: Sequence[np.ndarray]) -> list[list[Reading]]:
        """What each emission may be, the best first, ranked anew if a language model is there for it; not greedily.

        Args:
            emissions: (T, V) natural log-probabilities, trusted to be that.
        Returns:
            At least one reading of each, be it empty.
        """
        found = self._found(emissions)
        return found if self._rescorer is None else self._rescorer.rescore(found)

    def _greedy(self, emission: np.ndarray, timeline: Timeline) -> Transcript:
        """The transcript of the best path."""
        best = best_path(emission, blank=BLANK)
        spelled = self.alphabet.decode(best.tokens)
        hypothesis = Hypothesis(
            text=" ".join(spelled.split()),
            score=best.score,
            tokens=tuple(best.tokens.tolist()),
            spans=tuple((start, end) for start, end in best.spans.tolist()),
        )
        confidences = of_words(spelled, best.confidences) ** self.options.confidence.greedy_confidence_power
        return self._of_hypotheses([hypothesis], spelled, confidences.tolist(), timeline)

    def _found(self, emissions: Sequence[np.ndarray]) -> list[list[Reading]]:
        """What the search finds in each emission, the best first; at least one reading, be it empty."""
        assert self._search is not None
        options = self.options
        within = options.rescoring.rescore_within if self._rescorer else math.inf
        if options.num_best == 1 and self._rescorer is None:  # then no others are needed but for confidences
            within = _NEGLIGIBLE * options.confidence.confidence_temperature
        wanted = max(options.num_best, options.rescoring.rescore_count if self._rescorer else _NUM_WEIGHED)
        if options.prior_weight:
            emissions = [without_prior(each, options.prior, options.prior_weight) for each in emissions]
        found = self._search.decode_many(emissions, num_best=wanted, within=within)
        return [self._readings(*pair) for pair in zip(emissions, found, strict=True)]

    def _readings(self, emission: np.ndarray, found: Sequence[BeamHypothesis]) -> list[Reading]:
        if not found:  # nothing is possible, or nothing that the lexicon allows
            score = max(float(emission[:, BLANK].sum()), LEAST_SCORE)
            return [Reading(tokens=np.zeros(0, dtype=np.int64), text="", acoustic=score, score=score)]
        return merge_alike([self._reading(each) for each in found])

    def _reading(self, found: BeamHypothesis) -> Reading:
        """What the search found, without the price of unknown words where they are expected."""
        weights, expected = self.options.search, [self._hotwords[match.index] for match in found.hotwords]
        num_unknown = found.num_unknown - sum(each.num_unknown for each in expected)
        unknown_letters = found.unknown_letters - sum(each.unknown_letters for each in expected)
        return Reading(
            tokens=found.tokens,
            text=self.alphabet.decode(found.tokens),
            acoustic=found.acoustic_score,
            score=found.score,
            lm=found.lm_score,
            num_unknown=num_unknown,
            unknown_letters=unknown_letters,
            word_score=weights.word_bonus * found.num_words
            + weights.unknown_word_score * num_unknown
            + weights.unknown_letter_score * unknown_letters,
            hotword_score=sum(each.weight for each in expected),
            hotwords=found.hotwords,
        )

    def _transcript(self, readings: Sequence[Reading], emission: np.ndarray, timeline: Timeline) -> Transcript:
        """The transcript of readings, the best first."""
        best, options = readings[0], self.options.confidence
        shown = readings[: self.options.num_best]
        spans, heard = zip(*(place_tokens(emission, reading.tokens) for reading in shown), strict=True)
        hypotheses = [self._hypothesis(*pair, timeline) for pair in zip(shown, spans, strict=True)]
        scores = np.array([reading.score for reading in readings]) / options.confidence_temperature
        weighed = int((scores >= scores[0] - _NEGLIGIBLE).sum())
        shares = word_shares(agreements([reading.words for reading in readings[:weighed]]), scores[:weighed])
        confidences = shares * of_words(best.text, heard[0]) ** options.confidence_power
        if options.confidence_calibration:
            confidences = calibrated(evidence(confidences, of_utterance(heard[0])), options.confidence_calibration)
        return self._of_hypotheses(hypotheses, best.text, confidences.tolist(), timeline)

    def _hypothesis(self, reading: Reading, spans: Sequence[list[int]], timeline: Timeline) -> Hypothesis:
        """A reading, its labels in their places."""
        return Hypothesis(
            text=" ".join(reading.text.split()),
            score=reading.score,
            tokens=tuple(reading.tokens.tolist()),
            spans=tuple((start, end) for start, end in spans),
            acoustic=reading.acoustic,
            lm=reading.lm if self.options.language.lm or self.options.language.fuse_lm else None,
            rnn=reading.rnn,
            source=reading.source,
            word_score=reading.word_score,
            hotword_score=reading.hotword_score,
            hotwords=tuple(
                SpottedHotword(
                    text=self._hotwords[match.index].text,
                    start_frame=min(spans[match.start][0], timeline.num_frames - 1),
                    end_frame=min(spans[match.end - 1][1], timeline.num_frames),
                )
                for match in reading.hotwords
            ),
        )

    def _of_hypotheses(
        self, hypotheses: Sequence[Hypothesis], spelled: str, confidences: Sequence[float], timeline: Timeline
    ) -> Transcript:
        """The transcript whose first hypothesis spells that, with the confidence of each word."""
        places = list(find_words(spelled))
        return Transcript(
            text=hypotheses[0].text,
            words=tuple(_words(spelled, places, hypotheses[0].spans, confidences, timeline))[::-1],
            hypotheses=tuple(hypotheses),
            timeline=timeline,
            options=self._said,
        )

    def _make_rescorer(self, lexicon: frozenset[str], device: str, dtype: Any) -> Rescorer:
        options = self.options.rescoring
        source = read_source(options.source_lm, self.alphabet) if options.source_lm else None
        assert options.rescore_lm
        model = load_language_model(options.rescore_lm, device)
        dtype = dtype if model.can_run(dtype) else None
        return Rescorer(model, self.options, source=source, lexicon=lexicon, dtype=dtype)


def without_prior(emission: np.ndarray, prior: Sequence[float], weight: float) -> np.ndarray:
    """Posteriors divided by a power of the labels' prior, normalised anew: nearer to how likely each label sounds so.

    A network trained on few texts has learnt what labels come often, too, which a language model knows better.

    Args:
        emission: (T, V) natural log-probabilities.
        prior: (V,) the average posterior of each label, above 0.
        weight: the power.
    Returns:
        (T, V) natural log-probabilities.
    Source: Miao et al. 2015, "EESEN: End-to-end speech recognition using deep RNN models and WFST-based decoding".
    """
    scaled = emission - np.asarray(weight * np.log(prior), dtype=emission.dtype)
    return scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True)


def _said(options: DecodingOptions) -> dict[str, Any]:
    """The options that a transcript says it was made with, those that have an effect, as JSON values."""
    if options.greedy:
        return {"beam_width": 1}
    return {name: value for name, value in to_json(options).items() if name != "prior"}


def decode(
    log_probs: Any,
    alphabet: Alphabet,
    options: DecodingOptions | None = None,
    *,
    frame_seconds: float = 1.0,
    duration_seconds: float | None = None,
) -> Transcript:
    """Transcript of one utterance; for many with the same options, what those name is read once,
    and again when a file changes.

    A word lasts from the first frame of its first character to the last frame of its last one, in the best path
    (greedy) or in the most probable alignment of the chosen text (beam), so no language model, hotword or pruning
    moves it. If that lies past the end of the sound (a front end may pad the last frame into being), it is moved back
    inside, and words before it as far as they must.

    The confidence of a word is, greedily, the geometric mean of the posteriors of its characters, each over its frames;
    with a beam, the share of probability of the hypotheses that have the word in this place, times that mean. Both
    means are taken to a power, which `asr.evaluation.tuning.tune_decoding` finds, as well as what the clearness of the
    whole utterance then adds (`asr.decoding.confidence.calibrated`).

    Args:
        log_probs: (T, V) floating natural log-probabilities, a NumPy array or a torch tensor on any device; V is
            alphabet.size, Φ is column 0, T may be 0.
        alphabet: characters of the labels.
        options: None means the defaults.
        frame_seconds: from one frame to the next; left at 1, all times count frames.
        duration_seconds: of the sound, whose end lies in the last frame or the one before, or later; None means
            T * frame_seconds.
    Returns:
        Text and words without white space around them or doubled, and `options.num_best` hypotheses at most, with
        their scores in nats.
    Raises:
        InputError: log_probs has another shape or type, NaN, or rows that do not sum to 1 once exponentiated; or the
            sound is too short for its frames; or none of the hotwords can be spelled.
        DataError: a file that the options name cannot be read.
    """
    options = options or DecodingOptions()
    decoder = _kept_decoder(alphabet, options, file_versions(named_files(options)))
    return decoder.decode(log_probs, frame_seconds=frame_seconds, duration_seconds=duration_seconds)


def _make_timeline(num_frames: int, frame_seconds: float, duration_seconds: float | None) -> Timeline:
    """The timeline of an emission.

    Raises:
        InputError: the sound is too short for its frames.
    """
    if duration_seconds is None:
        duration_seconds = num_frames * frame_seconds
    timeline = Timeline(frame_seconds=frame_seconds, duration_seconds=duration_seconds)
    if num_frames > timeline.num_frames + 1:
        raise InputError(
            f"duration_seconds must reach the last of the {num_frames} frames of {frame_seconds} s, but one at "
            f"most; {timeline.duration_seconds} s have {timeline.num_frames} frames"
        )
    return timeline


@lru_cache(maxsize=8)
def _kept_decoder(alphabet: Alphabet, options: DecodingOptions, versions: tuple[Identity | None, ...]) -> Decoder:
    return Decoder(alphabet, options)


def place_tokens(emission: np.ndarray, tokens: np.ndarray) -> tuple[list[list[int]], np.ndarray]:
    """Where forced alignment finds the U tokens of a reading, [start, end) in frames, and (U,) their confidences.

    No tokens have no place, even in an emission that allows nothing.
    """
    from asr.ctc.alignment import align

    if not len(tokens):
        return [], np.zeros(0)
    found = align(emission, tokens, blank=BLANK)
    return found.spans.tolist(), found.confidences


def _words(
    spelled: str,
    places: Sequence[tuple[int, int]],
    spans: Sequence[tuple[int, int]],
    confidences: Sequence[float],
    timeline: Timeline,
) -> Iterator[Word]:
    """Words from the last to the first, each before the next; `spelled` has one character a token."""
    limit = timeline.num_frames
    for (start, end), confidence in zip(reversed(places), reversed(confidences), strict=True):
        end_frame = min(spans[end - 1][1], limit)
        limit = min(spans[start][0], end_frame - 1)
        yield Word(
            text=spelled[start:end], start_frame=limit, end_frame=end_frame, confidence=confidence, timeline=timeline
        )


def checked_log_probs(log_probs: Any, *, num_labels: int) -> np.ndarray:
    """(T, V) in float32 or float64, once it is known to hold natural log-probabilities of V labels.

    Raises:
        InputError: as `decode`.
    """
    if hasattr(log_probs, "detach"):  # a torch tensor; torch itself stays unloaded
        log_probs = log_probs.detach().cpu()
        if str(log_probs.dtype) == "torch.bfloat16":  # unknown to NumPy
            log_probs = log_probs.float()
    emission = np.asarray(log_probs)
    if emission.ndim != 2:
        raise InputError(f"log_probs must be (T, V), one utterance; got shape {emission.shape}")
    if emission.shape[1] != num_labels:
        raise InputError(
            f"log_probs must have one column for each of the {num_labels} labels, Φ included; got {emission.shape[1]}"
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
