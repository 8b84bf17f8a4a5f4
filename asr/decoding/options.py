"""Options of decoding: a small frozen dataclass for each concern; commands make their flags from them."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any

from asr.ctc.beam import BONUS, LARGEST_SCORE, WEIGHT, BeamOptions
from asr.errors import ConfigError
from asr.options import check_options, flat_fields, group, option, replace_options, to_json

HOTWORD_WEIGHT = 6.0  # nats, if no weight is given
_TIME = re.compile(r"(?:.*[^0-9])?(?:[01]?[0-9]|2[0-4]):[0-5][0-9]", re.DOTALL)
BEAM_WIDTH, RESCORING_WIDTH = 16, 100  # if an option needs a beam and no width is given


@dataclass(frozen=True, kw_only=True)
class LanguageOptions:
    """Language model, lexicon and hotwords of a beam search.

    In Python `hotwords` may also be a mapping of words to weights, and `lexicon` a list of words, which becomes
    `known_words`; this field has no flag.
    """

    lm: str | None = option(None, "n-gram model of words or characters: .arpa, .gz, .xz, or .safetensors", file=True)
    fuse_lm: str | None = option(
        None,
        "recurrent model of characters, by name or folder, instead of an n-gram model; slower than rescoring",
        file=True,
    )
    lexicon: str | None = option(None, "file of known words, one a line (default: the words of lm)", file=True)
    known_words: tuple[str, ...] = option(())
    hotwords: tuple[str, ...] = option(
        (), f"words or phrases to expect, or @FILE of them, each WORD or WORD:NATS ({HOTWORD_WEIGHT:g})"
    )

    def __post_init__(self) -> None:
        if isinstance(self.hotwords, Mapping):
            object.__setattr__(self, "hotwords", _entries(self.hotwords))
        if isinstance(self.hotwords, str) or not all(isinstance(entry, str) for entry in self.hotwords):
            raise ConfigError(f"hotwords must be a tuple of words, not {self.hotwords!r}", "hotwords")
        if self.lexicon and self.known_words:
            raise ConfigError("lexicon must be a file or a list of words; got both", "lexicon")
        if self.lm and self.fuse_lm:
            raise ConfigError(
                "lm and fuse_lm must not both be given: leave one out, or give rescore_lm in place of fuse_lm; got "
                f"{self.lm!r} and {self.fuse_lm!r}",
                *("lm", "fuse_lm", "rescore_lm"),
            )

    @property
    def has_lexicon(self) -> bool:
        """Whether there is a list of known words, in a file or not."""
        return bool(self.lexicon or self.known_words)


@dataclass(frozen=True, kw_only=True)
class RescoringOptions:
    """How a recurrent language model rescores the hypotheses of a beam search."""

    rescore_lm: str | None = option(None, "rescore with this recurrent language model, by name or folder", file=True)
    rescore_weight: float = option(0.5, "weight of the recurrent language model's log-probability", **WEIGHT)
    rescore_word_bonus: float = option(0.0, "add this for each word in rescoring, in nats", **BONUS)
    rescore_lm_weight: float | None = option(
        None, "weight of the search's language model in rescoring; none: as in the search", **WEIGHT
    )
    source_lm: str | None = option(
        None, "source model to subtract: n-gram model of characters, of the acoustic model's training texts", file=True
    )
    source_weight: float = option(0.3, "subtract the source model's log-probability times this weight", **WEIGHT)
    rescore_count: int = option(100, "rescore at most N hypotheses", least=1)
    rescore_within: float = option(10.0, "rescore only hypotheses less than this many nats behind the best", above=0)

    def __post_init__(self) -> None:
        check_options(self)
        if self.source_lm and not self.rescore_lm:
            raise ConfigError("source_lm needs rescore_lm; give one, or leave it out", "source_lm", "rescore_lm")


@dataclass(frozen=True, kw_only=True)
class ConfidenceOptions:
    """How confidences of words are computed.

    `confidence_calibration` has no flag: coefficients of `asr.decoding.confidence.calibrated`, none or three, which
    `asr.evaluation.tuning.tune_decoding` finds.
    """

    confidence_temperature: float = option(
        1.0, "divide a beam's scores by this for confidences; above 1 lowers them", least=1e-6, most=LARGEST_SCORE
    )
    confidence_power: float = option(
        1.0, "with a beam, power of the posteriors of a word's characters in its confidence; 0: leave out", **WEIGHT
    )
    greedy_confidence_power: float = option(1.0, "power of greedy confidences; above 1 lowers them", **WEIGHT)
    confidence_calibration: tuple[float, ...] = option((), **BONUS)

    def __post_init__(self) -> None:
        check_options(self)
        if len(self.confidence_calibration) not in (0, 3):
            raise ConfigError(f"confidence_calibration must have three numbers, not {self.confidence_calibration}")


@dataclass(frozen=True, kw_only=True)
class DecodingOptions:
    """How log-probabilities become text. A model may have its own defaults; `none` turns off one of its files.

    Greedily by default, else by a prefix beam search. `prior` has no flag: the average posterior of each label, Φ
    first, which `asr.evaluation.tuning.tune_decoding` finds.
    """

    search: BeamOptions = group(BeamOptions(beam_width=1))
    language: LanguageOptions = group(LanguageOptions())
    rescoring: RescoringOptions = group(RescoringOptions())
    confidence: ConfidenceOptions = group(ConfidenceOptions())
    num_best: int = option(1, "give the N best hypotheses", least=1)
    prior_weight: float = option(
        0.0, "divide a beam's posteriors by the labels' prior to this power, if the model has a prior", **WEIGHT
    )
    prior: tuple[float, ...] = option((), above=0, most=1)

    def __post_init__(self) -> None:
        check_options(self)
        if self.prior_weight and not self.prior:
            message = "prior_weight needs a prior, which this model lacks: asr-evaluate --tune finds one"
            raise ConfigError(message, "prior_weight")
        if self.search.only_lexicon and not (self.language.has_lexicon or self.language.lm):
            message = "only_lexicon needs lexicon, or an lm of words; give one, or leave it out"
            raise ConfigError(message, "only_lexicon", "lexicon", "lm")
        needs = [entry.name for entry in fields(self.language) if getattr(self.language, entry.name)]
        needs = ["lexicon" if name == "known_words" else name for name in needs]
        needs += ["rescore_lm"] * bool(self.rescoring.rescore_lm) + ["num_best"] * (self.num_best > 1)
        if self.greedy and needs:
            message = (
                f"{' and '.join(needs)} need{'s' * (len(needs) == 1)} a beam: set beam_width to 2 or more, for example"
            )
            raise ConfigError(f"{message} {BEAM_WIDTH}, not 1 (greedy)", *needs, "beam_width")

    @classmethod
    def of(cls, **options: Any) -> DecodingOptions:
        """Greedy decoding with some options changed: `DecodingOptions.of(lm="3-gram.arpa")`; see `changed`."""
        return cls().changed(options)

    @property
    def greedy(self) -> bool:
        """Whether the best label of each frame is taken, without a search."""
        return self.search.beam_width == 1

    @property
    def files(self) -> dict[str, str]:
        """The files and folders that the options name, by option."""
        values = vars(self.language) | vars(self.rescoring)
        return {name: values[name] for name in _FILES if values[name]}

    def changed(self, changes: Mapping[str, Any]) -> DecodingOptions:
        """These options with changes by name, such as a user's changes of a model's options.

        If an option needs a beam and these options are greedy, the width is `BEAM_WIDTH` (with rescoring,
        `RESCORING_WIDTH`) unless the changes set it. A change to greedy decoding drops all options that need a beam. A
        new lm replaces fuse_lm, and a new fuse_lm replaces lm; with either, or with a new lm_weight, rescoring uses the
        weight of the search. Without rescore_lm, source_lm is dropped.

        Raises:
            ConfigError: a change is wrong, has no effect for lack of a model, or contradicts another.
        """
        names = [name for name, value in changes.items() if value not in (None, "")]
        changes = dict(changes)
        if isinstance(hotwords := changes.get("hotwords"), Mapping):
            changes["hotwords"] = _entries(hotwords)
        lexicon = changes.get("lexicon")
        if lexicon is not None and not isinstance(lexicon, (str, os.PathLike)):
            changes |= {"lexicon": None, "known_words": tuple(lexicon)}
            if not changes["known_words"]:
                raise ConfigError("lexicon must have at least one word, or be None; it is empty", "lexicon")
        elif lexicon:
            changes.setdefault("known_words", ())
        for name, other in (("lm", "fuse_lm"), ("fuse_lm", "lm")):
            if changes.get(name):
                changes.setdefault(other, None)
        if any(changes.get(name) for name in ("lm", "fuse_lm", "lm_weight")):
            changes.setdefault("rescore_lm_weight", None)
        if not changes.get("rescore_lm", True):
            changes.setdefault("source_lm", None)
        language = to_json(LanguageOptions())  # these options all need a beam
        if changes.get("beam_width") == 1:
            others = {"rescore_lm": None, "source_lm": None, "only_lexicon": False, "num_best": 1}
            changes = {**language, **others, **changes}
        elif self.greedy and (changes.get("num_best", 1) != 1 or any(map(changes.get, [*language, "rescore_lm"]))):
            changes.setdefault("beam_width", RESCORING_WIDTH if changes.get("rescore_lm") else BEAM_WIDTH)
        options = replace_options(self, **changes)
        options._check_effect(names)
        return options

    def _check_effect(self, names: Collection[str]) -> None:
        """Raises: ConfigError: one of the options belongs to a model that is not given."""
        language, rescoring = self.language, self.rescoring
        for models, needed, options in (
            (("lm", "fuse_lm"), language.lm or language.fuse_lm, ["lm_weight"]),
            (("source_lm",), rescoring.source_lm, ["source_weight"]),
            (("rescore_lm",), rescoring.rescore_lm, [entry.name for entry in fields(rescoring)]),
        ):
            if not needed and (idle := [name for name in options if name in names]):
                raise ConfigError(f"{idle[0]} needs {' or '.join(models)}; give one, or leave it out", idle[0], *models)


_FILES = tuple(name for name, entry in flat_fields(DecodingOptions).items() if entry.metadata.get("file"))


def _entries(hotwords: Mapping[str, float]) -> tuple[str, ...]:
    for word, nats in hotwords.items():
        if not isinstance(nats, Real):
            raise ConfigError(f"the weight of hotword {word!r} must be a number of nats, not {nats!r}", "hotwords")
    entries = (f"{word}:{nats:g}" for word, nats in hotwords.items())
    return tuple(f"{entry}.0" if ends_with_time(entry) else entry for entry in entries)


def ends_with_time(entry: str) -> bool:
    """Whether a hotword ends like a time of day, 12:30, which might also be a number and its weight."""
    return _TIME.fullmatch(entry) is not None
