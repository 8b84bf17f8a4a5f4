"""From log-probabilities to a `Transcript`: greedily, or by a prefix beam search with all that helps it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asr.confidence import agreements, of_words, word_shares
from asr.ctc import beam
from asr.ctc.beam import BeamHypothesis, BeamOptions, BeamSearch, LabelModel
from asr.ctc.greedy import best_path
from asr.ctc.hotwords import Hotwords
from asr.ctc.trie import Lexicon
from asr.errors import AsrWarning, ConfigError, DataError, InputError
from asr.options import from_json, to_json
from asr.rescoring import LEAST_SCORE, Reading, Rescorer, merge_alike
from asr.text import BLANK, Alphabet, is_han
from asr.transcript import Hypothesis, SpottedHotword, Timeline, Transcript, Word, find_words

if TYPE_CHECKING:
    from asr.lm.ngram import NgramModel
    from asr.lm.rnn import LanguageModel

HOTWORD_WEIGHT = 6.0  # nats, where none is given
BEAM_WIDTH, RESCORING_WIDTH = 16, 100  # where something needs a beam and nobody said how wide

_SUM_TOLERANCE = 0.01  # half precision is that coarse; logits and probabilities miss 1 by far more
_NEED_A_BEAM = ("lm", "fuse_lm", "lexicon", "hotwords", "rescore_lm")
_NUM_WEIGHED = 32  # hypotheses that confidences are made of, at most
_NEGLIGIBLE = 7.0  # nats behind the best: a thousandth of its probability


@dataclass(frozen=True, kw_only=True)
class DecodingOptions(BeamOptions):
    """How log-probabilities become text. A model may bring other defaults; `none` turns off a file or model of its own.

    Greedily with a beam of 1, else by a prefix beam search. In Python `hotwords` may also be a mapping of words to
    weights. `prior` has the average posterior of each label, Φ first, and no flag: `asr.tuning.tune_decoding` finds it.
    """

    beam_width: int = field(default=1, metadata={"help": "prefixes kept while decoding; 1 is greedy"})
    num_best: int = field(default=1, metadata={"help": "hypotheses to give, the best first"})
    lm: str = field(
        default="", metadata={"help": "n-gram language model of words or characters: .arpa, .gz, .xz, or .safetensors"}
    )
    fuse_lm: str = field(
        default="",
        metadata={
            "help": "recurrent language model of characters inside the search, in place of lm: a name or folder; "
            "dearer than one that ranks the hypotheses anew"
        },
    )
    lexicon: str = field(
        default="", metadata={"help": "file with a word a line: the lexicon, in place of the language model's words"}
    )
    hotwords: tuple[str, ...] = field(
        default=(),
        metadata={"help": f"words or phrases to expect, or @FILE of them, each WORD or WORD:NATS ({HOTWORD_WEIGHT:g})"},
    )
    rescore_lm: str = field(
        default="", metadata={"help": "recurrent language model that ranks the hypotheses anew: a name or folder"}
    )
    rescore_weight: float = field(
        default=0.5, metadata={"help": "factor of the recurrent language model's log-probabilities"}
    )
    rescore_word_bonus: float = field(
        default=0.0, metadata={"help": "added for each word when the hypotheses are ranked anew, in nats"}
    )
    rescore_count: int = field(default=100, metadata={"help": "hypotheses that are ranked anew, at most"})
    rescore_within: float = field(
        default=10.0, metadata={"help": "hypotheses this many nats or more behind the best are not ranked anew"}
    )
    confidence_temperature: float = field(
        default=1.0,
        metadata={"help": "of a beam: scores are divided by this for confidences; above 1 makes them humbler"},
    )
    confidence_power: float = field(
        default=1.0,
        metadata={
            "help": "of a beam: power of the posteriors of a word's characters in its confidence; 0 leaves them out"
        },
    )
    greedy_confidence_power: float = field(
        default=1.0, metadata={"help": "the same of greedy decoding; above 1 makes confidences humbler"}
    )
    prior_weight: float = field(
        default=0.3,
        metadata={
            "help": "of a beam: power of the labels' prior, if the model has one, that posteriors are divided by"
        },
    )
    prior: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.hotwords, Mapping):
            object.__setattr__(self, "hotwords", _entries(self.hotwords))
        super().__post_init__()
        if isinstance(self.hotwords, str) or not all(isinstance(entry, str) for entry in self.hotwords):
            raise ConfigError(f"hotwords must be a tuple of words, or words with their weights; got {self.hotwords!r}")
        for name in ("num_best", "rescore_count"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise ConfigError(f"{name} must be an integer, 1 or above; got {getattr(self, name)!r}")
        if not 0 <= self.rescore_weight < math.inf:
            raise ConfigError(f"rescore_weight must be finite, 0 or above; got {self.rescore_weight!r}")
        if not self.rescore_within > 0:
            raise ConfigError(f"rescore_within must be above 0; got {self.rescore_within!r}")
        if not math.isfinite(self.rescore_word_bonus):
            raise ConfigError(f"rescore_word_bonus must be finite; got {self.rescore_word_bonus!r}")
        if not 0 < self.confidence_temperature < math.inf:
            raise ConfigError(f"confidence_temperature must be above 0; got {self.confidence_temperature!r}")
        for name in ("confidence_power", "greedy_confidence_power"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be finite, 0 or above; got {getattr(self, name)!r}")
        if not 0 <= self.prior_weight < math.inf:
            raise ConfigError(f"prior_weight must be finite, 0 or above; got {self.prior_weight!r}")
        if not all(0 < each <= 1 for each in self.prior):
            raise ConfigError(f"prior must hold probabilities above 0, one for each label; got {self.prior!r}")
        if self.lm and self.fuse_lm:
            raise ConfigError(
                f"lm and fuse_lm must not both be given, a search has one language model: leave one out, or give "
                f"rescore_lm in place of fuse_lm; got {self.lm!r} and {self.fuse_lm!r}"
            )
        if self.only_lexicon and not (self.lexicon or self.lm):
            raise ConfigError("only_lexicon needs a lexicon or a language model of words; give one, or leave it off")
        if self.beam_width == 1:
            given = [name for name in _NEED_A_BEAM if getattr(self, name)] + ["num_best"] * (self.num_best > 1)
            if given:
                raise ConfigError(
                    f"{' and '.join(given)} need{'s' * (len(given) == 1)} a beam; set beam_width to 2 or more, "
                    f"{BEAM_WIDTH} for example; got 1 (greedy)"
                )

    def changed(self, changes: Mapping[str, Any]) -> DecodingOptions:
        """These options with some others: a model's own, as a person wants them.

        What needs a beam gets one of `BEAM_WIDTH` (`RESCORING_WIDTH` if hypotheses are ranked anew) where these options
        are greedy and no other width is asked for; and where greedy decoding is asked for, what needs a beam goes. Of
        lm and fuse_lm, the one that is asked for replaces the other.

        Raises:
            ConfigError: a change is wrong, or two contradict each other.
        """
        changes = {name: "" if value == "none" else value for name, value in changes.items()}
        if isinstance(hotwords := changes.get("hotwords"), Mapping):
            changes["hotwords"] = _entries(hotwords)
        wants_beam = any(changes.get(name) for name in _NEED_A_BEAM) or changes.get("num_best", 1) > 1
        for name, other in (("lm", "fuse_lm"), ("fuse_lm", "lm")):
            if changes.get(name):
                changes.setdefault(other, "")
        if changes.get("beam_width") == 1:
            needless = dict.fromkeys(_NEED_A_BEAM, "")
            changes = {**needless, "only_lexicon": False, "hotwords": (), "num_best": 1, **changes}
        elif wants_beam and self.beam_width == 1:
            changes.setdefault("beam_width", RESCORING_WIDTH if changes.get("rescore_lm") else BEAM_WIDTH)
        return from_json(DecodingOptions, {**to_json(self), **changes})


class Decoder:
    """Decodes the emissions of one alphabet: what the options name is read once, here. Threads may share it.

    Args:
        alphabet: characters of the labels.
        options: None means the defaults, greedy decoding.
        device: where a recurrent language model computes; see `asr.device.find_device`.
        dtype: the torch format of its matrix products when it ranks hypotheses anew; None is float32.
    Raises:
        DataError: a language model, the lexicon or a file of hotwords cannot be read.
        InputError: a hotword or a word of the lexicon file cannot be spelled in the alphabet, or a language model that
            is fused lacks a character of it; it is named.
    """

    def __init__(
        self, alphabet: Alphabet, options: DecodingOptions | None = None, *, device: str = "cpu", dtype: Any = None
    ):
        self.alphabet = alphabet
        self.options = options or DecodingOptions()
        self._said = _said(self.options)
        self._hotwords: tuple[str, ...] = ()
        if self.options.prior and len(self.options.prior) != alphabet.size:
            raise ConfigError(
                f"prior must have a probability for each of the {alphabet.size} labels; got {len(self.options.prior)}"
            )
        self._search = self._make_search(device) if self.options.beam_width > 1 else None
        self._rescorer = self._make_rescorer(device, dtype) if self.options.rescore_lm else None

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
        confidences = of_words(spelled, best.confidences) ** self.options.greedy_confidence_power
        return self._of_hypotheses([hypothesis], spelled, confidences.tolist(), timeline)

    def _found(self, emissions: Sequence[np.ndarray]) -> list[list[Reading]]:
        """What the search finds in each emission, the best first; at least one reading, be it empty."""
        assert self._search is not None
        options = self.options
        within = options.rescore_within if self._rescorer else math.inf
        if options.num_best == 1 and self._rescorer is None:  # then no others are needed but for confidences
            within = _NEGLIGIBLE * options.confidence_temperature
        wanted = max(options.num_best, options.rescore_count if self._rescorer else _NUM_WEIGHED)
        if options.prior and options.prior_weight:
            emissions = [without_prior(each, options.prior, options.prior_weight) for each in emissions]
        found = self._search.decode_many(emissions, num_best=wanted, within=within)
        return [self._readings(*pair) for pair in zip(emissions, found, strict=True)]

    def _readings(self, emission: np.ndarray, found: Sequence[BeamHypothesis]) -> list[Reading]:
        options = self.options
        if not found:  # nothing is possible, or nothing that the lexicon allows
            score = max(float(emission[:, BLANK].sum()), LEAST_SCORE)
            return [Reading(tokens=np.zeros(0, dtype=np.int64), text="", acoustic=score, score=score)]
        readings = [
            Reading(
                tokens=each.tokens,
                text=self.alphabet.decode(each.tokens),
                acoustic=each.acoustic_score,
                score=each.score,
                lm=each.lm_score,
                num_unknown=each.num_unknown,
                word_score=options.word_bonus * each.num_words + options.unknown_word_score * each.num_unknown,
                hotword_score=each.hotword_score,
                hotwords=each.hotwords,
            )
            for each in found
        ]
        return merge_alike(readings)

    def _transcript(self, readings: Sequence[Reading], emission: np.ndarray, timeline: Timeline) -> Transcript:
        """The transcript of readings, the best first."""
        best, options = readings[0], self.options
        shown = readings[: options.num_best]
        spans, heard = zip(*(place_tokens(emission, reading.tokens) for reading in shown), strict=True)
        hypotheses = [self._hypothesis(*pair, timeline) for pair in zip(shown, spans, strict=True)]
        scores = np.array([reading.score for reading in readings]) / options.confidence_temperature
        weighed = int((scores >= scores[0] - _NEGLIGIBLE).sum())
        shares = word_shares(agreements([reading.words for reading in readings[:weighed]]), scores[:weighed])
        confidences = shares * of_words(best.text, heard[0]) ** options.confidence_power
        return self._of_hypotheses(hypotheses, best.text, confidences.tolist(), timeline)

    def _hypothesis(self, reading: Reading, spans: Sequence[list[int]], timeline: Timeline) -> Hypothesis:
        """A reading, its labels in their places."""
        return Hypothesis(
            text=" ".join(reading.text.split()),
            score=reading.score,
            tokens=tuple(reading.tokens.tolist()),
            spans=tuple((start, end) for start, end in spans),
            acoustic=reading.acoustic,
            lm=reading.lm if self.options.lm or self.options.fuse_lm else None,
            rnn=reading.rnn,
            word_score=reading.word_score,
            hotword_score=reading.hotword_score,
            hotwords=tuple(
                SpottedHotword(
                    text=self._hotwords[match.index],
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

    def _make_search(self, device: str) -> BeamSearch:
        options, alphabet = self.options, self.alphabet
        _warm_up()
        lm = _read_lm(options.lm) if options.lm else None
        label_words = None
        if lm is not None and lm.over_characters and not options.lexicon:
            label_words = _label_words(lm, alphabet)
        words: Iterable[tuple[str, int]] = ()  # with their numbers
        if options.lexicon:
            words = ((word, _number(lm, word)) for word in _read_words(options.lexicon, alphabet))
        elif lm is not None and label_words is None:
            words = ((word, number) for number, word in enumerate(lm.words) if number)  # without <unk>
        spellings: dict[tuple[int, ...], int] = {}
        hotword_weights: dict[tuple[int, ...], float] = {}
        for word, number in words:
            if spelling := spell(word, alphabet):
                spellings.setdefault(spelling, number)
        for text, weight in _parse_hotwords(options.hotwords):
            spelling = spell(text, alphabet)
            if not spelling:
                missing = [repr(character) for character in dict.fromkeys(text) if not spell(character, alphabet)]
                raise InputError(
                    "hotwords must be spelled in the model's alphabet; "
                    f"{text!r} has {', '.join(missing) or 'no characters'}"
                )
            hotword_weights[spelling] = max(weight, hotword_weights.get(spelling, 0.0))
        self._hotwords = tuple(alphabet.decode(spelling) for spelling in hotword_weights)
        labelled = list(enumerate(alphabet.characters, start=1))
        return BeamSearch(
            num_labels=alphabet.size,
            blank=BLANK,
            options=options,
            delimiters=[label for label, character in labelled if character == " "],
            standalone=[label for label, character in labelled if is_han(character)],
            lexicon=Lexicon(list(spellings), list(spellings.values())) if spellings else None,
            lm=None if lm is None else lm.tables,
            label_words=label_words,
            label_model=self._make_label_model(device) if options.fuse_lm else None,
            hotwords=Hotwords(list(hotword_weights), list(hotword_weights.values())) if hotword_weights else None,
        )

    def _make_label_model(self, device: str) -> LabelModel:
        from asr.lm.fusion import CharacterFusion  # which loads torch

        model = _load_language_model(self.options.fuse_lm, device)
        return CharacterFusion(model, characters=self.alphabet.characters, blank=BLANK)

    def _make_rescorer(self, device: str, dtype: Any) -> Rescorer:
        model = _load_language_model(self.options.rescore_lm, device)
        return Rescorer(
            model, weight=self.options.rescore_weight, word_bonus=self.options.rescore_word_bonus, dtype=dtype
        )


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
    """The options that a transcript says it was made with: those that do something."""
    if options.beam_width == 1:
        return {"beam_width": 1}
    return {name: value for name, value in asdict(options).items() if name != "prior"}


def decode(
    log_probs: Any,
    alphabet: Alphabet,
    options: DecodingOptions | None = None,
    *,
    frame_seconds: float = 1.0,
    duration_seconds: float | None = None,
) -> Transcript:
    """Transcript of one utterance; for many with the same options, what those name is read once.

    A word lasts from the first frame of its first character to the last frame of its last one, in the best path
    (greedy) or in the most probable alignment of the chosen text (beam), so no language model, hotword or pruning
    moves it. If that lies past the end of the sound (a front end may pad the last frame into being), it is moved back
    inside, and words before it as far as they must.

    The confidence of a word is, greedily, the geometric mean of the posteriors of its characters, each over its frames;
    with a beam, the share of probability of the hypotheses that have the word in this place, times that mean. Both
    means are taken to a power, which `asr.tuning.tune_decoding` finds.

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
            sound is too short for its frames; or a hotword cannot be spelled.
        DataError: a file that the options name cannot be read.
    """
    decoder = _kept_decoder(alphabet, options or DecodingOptions())
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


def _warm_up() -> None:
    """Loads the compiled search and aligner, or compiles them, and says so."""
    from asr.ctc import alignment

    said: list[None] = []

    def say() -> None:
        if not said:
            warnings.warn("compiling the beam search, once on this machine: some seconds", AsrWarning, stacklevel=2)
        said.append(None)

    beam.warm_up(say)
    alignment.warm_up(say)


def _entries(hotwords: Mapping[str, float]) -> tuple[str, ...]:
    return tuple(f"{word}:{nats:g}" for word, nats in hotwords.items())


@lru_cache(maxsize=8)
def _kept_decoder(alphabet: Alphabet, options: DecodingOptions) -> Decoder:
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


def spell(text: str, alphabet: Alphabet) -> tuple[int, ...]:
    """The labels of a text, as it is or in the upper or lower case that the alphabet has; none if it lacks a character.

    White space counts as single spaces.
    """
    text = " ".join(text.split())
    for change in (str, str.upper, str.lower):
        if labels := alphabet.spell(change(text)):
            return labels
    return ()


def _load_language_model(name: str, device: str) -> LanguageModel:
    from asr.device import find_device  # these load torch
    from asr.lm.rnn import LanguageModel, find_language_model

    return LanguageModel.load(find_language_model(name)).to(find_device(device))


@lru_cache(maxsize=2)
def _read_lm(path: str) -> NgramModel:
    from asr.lm.ngram import NgramModel

    return NgramModel.read(path)


def _number(lm: NgramModel | None, word: str) -> int:
    """The word's number in the language model, in whatever case; 0, <unk>, if it has none."""
    if lm is None:
        return 0
    return next((lm.vocabulary[form] for form in (word, word.upper(), word.lower()) if form in lm.vocabulary), 0)


def _label_words(lm: NgramModel, alphabet: Alphabet) -> np.ndarray:
    """(V,) the number of each label in a language model of characters; 0 for Φ, which has none."""
    spelled = (lm.space if character == " " else character for character in alphabet.characters)
    return np.array([0, *(_number(lm, character) for character in spelled)])


def _read_words(path: str, alphabet: Alphabet) -> list[str]:
    """The words of a lexicon file.

    Raises:
        DataError: it cannot be read, has no word, or a line is not one word spelled in the alphabet.
    """
    words = []
    for number, line in _lines(path):
        if len(line.split()) > 1:
            raise DataError(f"a line of a lexicon must be one word, not {line!r}", path=path, line=number)
        if not spell(line, alphabet):
            raise DataError(f"{line!r} cannot be spelled in the model's alphabet", path=path, line=number)
        words.append(line)
    if not words:
        raise DataError("a lexicon must have at least one word; it has none", path=path)
    return words


def _parse_hotwords(entries: Iterable[str]) -> Iterator[tuple[str, float]]:
    """Text and weight of each hotword; `@file` stands for the lines of a file."""
    for entry in entries:
        if entry.startswith("@"):
            yield from _parse_hotwords(line for _, line in _lines(entry[1:]))
            continue
        text, colon, number = entry.rpartition(":")
        try:
            weight = float(number) if colon else HOTWORD_WEIGHT
        except ValueError:
            raise InputError(f"a hotword must be WORD or WORD:NATS; got {entry!r}") from None
        if not 0 < weight < math.inf:
            raise InputError(f"the weight of a hotword must be finite and above 0 nats; got {entry!r}")
        yield text if colon else entry, weight


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """Number and text of the lines that are not empty."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"this file of words cannot be read: {error.strerror}", path=path) from None
    except UnicodeDecodeError as error:
        raise DataError(f"a file of words must be UTF-8: {error}", path=path) from None
    return ((number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip())


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
