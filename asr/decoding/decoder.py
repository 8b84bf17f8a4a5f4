"""From log-probabilities to a `Transcript`: greedily, or by prefix beam search with language models and hotwords."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from asr.ctc.beam import BeamHypothesis, BeamSearch
from asr.ctc.greedy import best_path
from asr.decoding.beam_search import file_versions, hotword_spellings, make_search, named_files, read_source
from asr.decoding.confidence import agreements, calibrated, evidence, of_utterance, of_words, word_shares
from asr.decoding.open_text import LIVE_BEAM, LIVE_THRESHOLD, OpenText
from asr.decoding.options import DecodingOptions
from asr.decoding.places import Places, make_spellings, place_path, place_tokens
from asr.decoding.rescoring import LEAST_SCORE, Rescorer, merge_duplicates, rescoring_bonus
from asr.errors import ConfigError, InputError
from asr.files.reading import Identity
from asr.options import to_json
from asr.text.alphabet import BLANK, Alphabet, join_bytes
from asr.text.subwords import Subwords
from asr.text.transcript import (
    Hypothesis,
    SpottedHotword,
    Timeline,
    Transcript,
    Word,
    find_words,
    join_texts,
    split_words,
)

_SUM_TOLERANCE = 0.02  # rounding of bfloat16, at most 1.6 %; for logits and probabilities the error is much larger
_NUM_WEIGHED = 32  # hypotheses for confidences, at most
_UNLISTED = ("prior", "known_words")  # long options, which transcripts do not repeat
_NEGLIGIBLE = 7.0  # nats behind the best: a thousandth of its probability


class Decoder:
    """Decodes the emissions of one model; reads the files of its options once. Threads may share it.

    Args:
        labels: an alphabet, or subwords, whose characters are then the `alphabet`.
        options: None means the defaults, greedy decoding.
        device: where a recurrent language model computes; see `asr.compute.device.find_device`.
        dtype: torch format of its matrix products in rescoring; None is float32, on the processor in onnxruntime.
    Attributes:
        hotword_spellings: the hotwords as the user spells them, by their words in lower case.
    Raises:
        DataError: a language model, the lexicon or a file of hotwords cannot be read, or a line of the lexicon is not
            one word in the alphabet.
        ConfigError: fuse_lm is given for subwords.
        InputError: the alphabet can spell no hotword, or no word of the language model; or a fused language model lacks
            one of its characters.
    Warns:
        AsrWarning: hotwords that cannot be spelled are left out; a language model lacks most of the words or letters.
    """

    def __init__(
        self,
        labels: Alphabet | Subwords,
        options: DecodingOptions | None = None,
        *,
        device: str = "cpu",
        dtype: Any = None,
    ):
        self.labels, self.spellings = labels, make_spellings(labels)
        self.alphabet = labels.alphabet if isinstance(labels, Subwords) else labels
        self.options = options or DecodingOptions()
        values = {"beam_width": 1} if self.options.greedy else to_json(self.options)
        self._effective_options = {name: value for name, value in values.items() if name not in _UNLISTED}
        if self.options.prior and len(self.options.prior) != labels.size:
            raise ConfigError(
                f"prior must have a probability for each of the {labels.size} labels; got {len(self.options.prior)}"
            )
        self.hotword_spellings: dict[tuple[str, ...], str] = {}
        self._search: BeamSearch | None = None
        self._rescorer: Rescorer | None = None
        if not self.options.greedy:
            self._search, self._hotwords, lexicon = make_search(
                self.alphabet, self.options, device=device, spellings=self.spellings
            )
            self.hotword_spellings = hotword_spellings(self.options.language.hotwords, self.alphabet)
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
        """The transcripts of several utterances, the same as from `decode` one by one.

        A recurrent language model, in rescoring or in the search, scores the hypotheses of all utterances together.
        """
        emissions = [checked_log_probs(emission, num_labels=self.labels.size) for emission in log_probs]
        timelines = [
            _make_timeline(len(emission), frame_seconds, duration_seconds)
            for emission, duration_seconds in zip(emissions, durations_seconds, strict=True)
        ]
        if self._search is None:
            return [self._greedy(*pair) for pair in zip(emissions, timelines, strict=True)]
        lists = self.hypotheses(emissions)
        return [self._transcript(*parts) for parts in zip(lists, emissions, timelines, strict=True)]

    def decode_beginning(
        self,
        log_probs: Any,
        words: Sequence[str],
        *,
        searched: np.ndarray | None = None,
        frame_seconds: float = 1.0,
        duration_seconds: float | None = None,
    ) -> Transcript | None:
        """As `decode`, with the best hypothesis that begins with these words first; None if there is none.

        Hypotheses are searched in the emission `searched`, if it is given; their times and confidences are of
        `log_probs`.
        """
        emission = checked_log_probs(log_probs, num_labels=self.labels.size)
        timeline, beginning = _make_timeline(len(emission), frame_seconds, duration_seconds), tuple(words)
        if self._search is None:
            transcript = self._greedy(emission, timeline)
            if searched is not None:
                spelled, _ = place_path(best_path(searched, blank=BLANK), self.labels)
                transcript = self.place_text(emission, spelled, timeline)
            begins = tuple(word.text for word in transcript.words[: len(beginning)]) == beginning
            return transcript if begins else None
        (hypotheses,) = self.hypotheses([emission if searched is None else searched])
        best = next((each for each in hypotheses if each.words[: len(beginning)] == beginning), None)
        if best is None:
            return None
        others = [each for each in hypotheses if each is not best]  # confidences need them
        return self._transcript([best, *others], emission, timeline)

    def place_text(self, emission: np.ndarray, spelled: str, timeline: Timeline) -> Transcript:
        """The transcript with this text, in characters of the alphabet, where it fits the emission (T, V) best."""
        labels = {character: label for label, character in enumerate(self.alphabet.characters, start=1)}
        tokens = np.array([labels[character] for character in spelled], dtype=np.int64)
        words = tuple(map(join_bytes, split_words(spelled)))
        hypothesis = replace(_empty(emission), tokens=tokens, text=spelled, words=words)
        return self._transcript([hypothesis], emission, timeline)

    def start(self) -> OpenText:
        """The text of an utterance whose frames come in pieces."""
        return OpenText(self)

    @cached_property
    def live_search(self) -> BeamSearch | None:
        """A narrower search for the text of open utterances; None for greedy decoding."""
        if self._search is None:
            return None
        options = self._search.options
        threshold = min(LIVE_THRESHOLD, options.score_threshold or LIVE_THRESHOLD)
        return self._search.pruned(beam_width=min(LIVE_BEAM, options.beam_width), score_threshold=threshold)

    def adapted(self, emission: np.ndarray) -> np.ndarray:
        """The emission (T, V) as the search takes it, without a part of the prior."""
        options = self.options
        return without_prior(emission, options.prior, options.prior_weight) if options.prior_weight else emission

    def hypotheses(self, emissions: Sequence[np.ndarray]) -> list[list[BeamHypothesis]]:
        """The hypotheses of each emission, the best first, rescored if `rescore_lm` is set; not for greedy decoding.

        Args:
            emissions: (T, V) natural log-probabilities, which are not checked.
        Returns:
            At least one hypothesis for each, perhaps an empty one, with its text.
        """
        lists = self._search_all(emissions)
        return lists if self._rescorer is None else self._rescorer.rescore(lists)

    def _greedy(self, emission: np.ndarray, timeline: Timeline) -> Transcript:
        """The transcript of the best path."""
        best = best_path(emission, blank=BLANK)
        spelled, places = place_path(best, self.labels)
        hypothesis = Hypothesis(
            text=" ".join(join_bytes(spelled).split()),
            score=best.score,
            tokens=tuple(places.labels),
            spans=tuple((start, end) for start, end in places.label_spans),
        )
        confidences = of_words(spelled, places.confidences) ** self.options.confidence.greedy_confidence_power
        return self._of_hypotheses([hypothesis], spelled, places.spans, confidences.tolist(), timeline)

    def _search_all(self, emissions: Sequence[np.ndarray]) -> list[list[BeamHypothesis]]:
        """The hypotheses of the search for each emission, the best first; at least one, perhaps an empty one."""
        assert self._search is not None
        options = self.options
        within = options.rescoring.rescore_within if self._rescorer else math.inf
        if options.num_best == 1 and self._rescorer is None:  # only confidences need the others
            within = _NEGLIGIBLE * options.confidence.confidence_temperature
        count = max(options.num_best, options.rescoring.rescore_count if self._rescorer else _NUM_WEIGHED)
        adapted = list(map(self.adapted, emissions))
        lists = self._search.decode_many(adapted, num_best=count, within=within)
        return [
            merge_duplicates(list(map(self._spell, hypotheses))) if hypotheses else [_empty(emission)]
            for emission, hypotheses in zip(emissions, lists, strict=True)
        ]

    def _spell(self, hypothesis: BeamHypothesis) -> BeamHypothesis:
        """A hypothesis of the search with its text, without the unknown words of hotwords and their penalty."""
        text = self.alphabet.decode(hypothesis.tokens)
        expected = [self._hotwords[match.index] for match in hypothesis.hotwords]
        return replace(
            hypothesis,
            text=text,
            words=tuple(map(join_bytes, split_words(text))),
            num_unknown=hypothesis.num_unknown - sum(hotword.num_unknown for hotword in expected),
            unknown_letters=hypothesis.unknown_letters - sum(hotword.unknown_letters for hotword in expected),
            hotword_score=sum(hotword.weight for hotword in expected),
        )

    def _transcript(self, hypotheses: Sequence[BeamHypothesis], emission: np.ndarray, timeline: Timeline) -> Transcript:
        """The transcript of hypotheses, the best first."""
        options, spelled = self.options.confidence, hypotheses[0].text
        n_best = hypotheses[: self.options.num_best]
        places = [place_tokens(emission, hypothesis.tokens, self.spellings) for hypothesis in n_best]
        character_confidences = places[0].confidences
        scores = np.array([hypothesis.score for hypothesis in hypotheses]) / options.confidence_temperature
        num_weighed = int((scores >= scores[0] - _NEGLIGIBLE).sum())
        agreement = agreements([hypothesis.words for hypothesis in hypotheses[:num_weighed]])
        shares = word_shares(agreement, scores[:num_weighed])
        confidences = shares * of_words(spelled, character_confidences) ** options.confidence_power
        if options.confidence_calibration:
            features = evidence(confidences, of_utterance(character_confidences))
            confidences = calibrated(features, options.confidence_calibration)
        readable = [self._hypothesis(*pair, timeline) for pair in zip(n_best, places, strict=True)]
        return self._of_hypotheses(readable, spelled, places[0].spans, confidences.tolist(), timeline)

    def _hypothesis(self, hypothesis: BeamHypothesis, places: Places, timeline: Timeline) -> Hypothesis:
        """The hypothesis for a transcript, with its text and the spans of its tokens."""
        options, spans = self.options, places.spans
        return Hypothesis(
            text=" ".join(join_bytes(hypothesis.text).split()),
            score=hypothesis.score,
            tokens=tuple(places.labels),
            spans=tuple((start, end) for start, end in places.label_spans),
            acoustic=hypothesis.acoustic_score,
            lm=hypothesis.lm_score if options.language.lm or options.language.fuse_lm else None,
            rnn=hypothesis.rnn_score,
            source=hypothesis.source_score,
            word_score=options.search.word_bonus * hypothesis.num_words
            + options.search.unknown_word_score * hypothesis.num_unknown
            + options.search.unknown_letter_score * hypothesis.unknown_letters
            + rescoring_bonus(hypothesis, options),
            hotword_score=hypothesis.hotword_score,
            hotwords=tuple(
                SpottedHotword(
                    text=self._hotwords[match.index].text,
                    start_frame=min(spans[match.start][0], timeline.num_frames - 1),
                    end_frame=min(spans[match.end - 1][1], timeline.num_frames),
                )
                for match in hypothesis.hotwords
            ),
        )

    def _of_hypotheses(
        self,
        hypotheses: Sequence[Hypothesis],
        spelled: str,
        spans: Sequence[Sequence[int]],
        confidences: Sequence[float],
        timeline: Timeline,
    ) -> Transcript:
        """The transcript of hypotheses, with the confidence of each word.

        The first hypothesis has the characters `spelled` with these spans.
        """
        words = tuple(_words(spelled, spans, confidences, timeline))[::-1]
        whole = len(words) == len(confidences)
        return Transcript(
            text=hypotheses[0].text if whole else join_texts(word.text for word in words),
            words=words,
            hypotheses=tuple(hypotheses),
            timeline=timeline,
            options=self._effective_options,
        )

    def _make_rescorer(self, lexicon: frozenset[str], device: str, dtype: Any) -> Rescorer:
        options = self.options.rescoring
        source = read_source(options.source_lm, self.alphabet) if options.source_lm else None
        assert options.rescore_lm
        from asr.lm.loading import load_language_model
        from asr.lm.recurrent import find_language_model

        runtime = "onnx" if device == "cpu" and dtype is None else "torch"
        folder = find_language_model(options.rescore_lm)
        model = load_language_model(folder, runtime=runtime, device=device, dtype=dtype)
        expected = [word for hotword in self._hotwords for word in hotword.text.split()]
        return Rescorer(model, self.options, source=source, lexicon=lexicon, expected=expected)


def without_prior(emission: np.ndarray, prior: Sequence[float], weight: float) -> np.ndarray:
    """Posteriors divided by a power of the labels' prior, normalised again: closer to the likelihood of the sound.

    A network trained on few texts also learns the frequencies of labels; a language model estimates them better.

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


def decode(
    log_probs: Any,
    alphabet: Alphabet | Subwords,
    options: DecodingOptions | None = None,
    *,
    frame_seconds: float = 1.0,
    duration_seconds: float | None = None,
) -> Transcript:
    """The transcript of one utterance. Files of the same options are read once, and again when one changes.

    A word lasts from the first frame of its first character to the last frame of its last character, in the best path
    (greedy) or in the most probable alignment of the chosen text (beam), so no language model, hotword or pruning
    moves it. A word past the end of the sound (a front end may pad the last frame) is moved back inside, and words
    before it as far as necessary.

    Greedily, the confidence of a word is the geometric mean of the posteriors of its characters, each over its frames;
    with a beam, the share of probability of the hypotheses that have the word in this place, times this mean. Both
    means are raised to a power. `asr.evaluation.tuning.tune_decoding` finds these powers, and the coefficients of
    `asr.decoding.confidence.calibrated`, which adds the confidence of the whole utterance.

    Args:
        log_probs: (T, V) floating natural log-probabilities, a NumPy array or a torch tensor on any device; V is
            alphabet.size, Φ is column 0, T may be 0.
        alphabet: characters of the labels, or subwords.
        options: None means the defaults.
        frame_seconds: from one frame to the next; left at 1, all times count frames.
        duration_seconds: of the sound, which ends in the frame before the last or later; None means
            T * frame_seconds.
    Returns:
        Text and words without white space at the ends or doubled, and `options.num_best` hypotheses at most, with their
        scores in nats.
    Raises:
        InputError: log_probs has another shape or type, NaN, or rows that do not sum to 1 once exponentiated; or the
            sound is too short for its frames; or no hotword can be spelled.
        DataError: a file of the options cannot be read.
    """
    options = options or DecodingOptions()
    decoder = _cached_decoder(alphabet, options, file_versions(named_files(options)))
    return decoder.decode(log_probs, frame_seconds=frame_seconds, duration_seconds=duration_seconds)


def _empty(emission: np.ndarray) -> BeamHypothesis:
    """The empty hypothesis, for an emission in which no text, or no text of the lexicon, is possible."""
    score = max(float(emission[:, BLANK].sum()), LEAST_SCORE)
    return BeamHypothesis(tokens=np.zeros(0, dtype=np.int64), score=score, acoustic_score=score)


def _make_timeline(num_frames: int, frame_seconds: float, duration_seconds: float | None) -> Timeline:
    """The timeline of an emission."""
    if duration_seconds is None:
        duration_seconds = num_frames * frame_seconds
    timeline = Timeline(frame_seconds=frame_seconds, duration_seconds=duration_seconds)
    if num_frames > timeline.num_frames + 1:
        raise InputError(
            f"duration_seconds must cover at least {num_frames - 1} of the {num_frames} frames of {frame_seconds} s; "
            f"{timeline.duration_seconds} s have {timeline.num_frames} frames"
        )
    return timeline


@lru_cache(maxsize=8)
def _cached_decoder(
    alphabet: Alphabet | Subwords, options: DecodingOptions, versions: tuple[Identity | None, ...]
) -> Decoder:
    return Decoder(alphabet, options)


def _words(
    spelled: str,
    spans: Sequence[Sequence[int]],
    confidences: Sequence[float],
    timeline: Timeline,
) -> Iterator[Word]:
    """Words from the last to the first, without overlap; `spans` are those of the characters of `spelled`.

    Several words may have one label, and so one frame: each takes a frame of its own. If there are more words than
    frames, the first ones are joined; a sound without a frame, of less than 2 ms, has no words.
    """
    limit, words = timeline.num_frames, list(find_words(spelled))
    if limit < len(words):
        first = [(0, words[-limit][1])] if limit else []
        words, confidences = [*first, *words[len(words) - limit + 1 :]], confidences[len(words) - limit :]
    for place, ((start, end), confidence) in list(enumerate(zip(words, confidences, strict=True)))[::-1]:
        end_frame = max(min(spans[end - 1][1], limit), place + 1)
        limit = max(min(spans[start][0], end_frame - 1), place)
        yield Word(
            text=join_bytes("".join(spelled[start:end].split())),
            start_frame=limit,
            end_frame=end_frame,
            confidence=confidence,
            timeline=timeline,
        )


def checked_log_probs(log_probs: Any, *, num_labels: int, remedy: str = "") -> np.ndarray:
    """(T, V) in float32 or float64, checked to hold natural log-probabilities of V labels.

    `remedy` is the end of the message about logits and probabilities.

    Raises:
        InputError: as `decode`.
    """
    if hasattr(log_probs, "detach"):  # a torch tensor, without loading torch
        log_probs = log_probs.detach().cpu()
        if str(log_probs.dtype) == "torch.bfloat16":  # not in NumPy
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
            f"row {row} sums to {sums[row]:.4g}; apply log_softmax to logits, the logarithm to probabilities{remedy}"
        )
    return emission
