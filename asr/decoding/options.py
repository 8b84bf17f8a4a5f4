"""What decoding can be asked for: one frozen dataclass, from which the flags of the commands are made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from asr.ctc.beam import LARGEST_SCORE, BeamOptions
from asr.errors import ConfigError
from asr.options import from_json, option, to_json

HOTWORD_WEIGHT = 6.0  # nats, where none is given
BEAM_WIDTH, RESCORING_WIDTH = 16, 100  # where something needs a beam and nobody said how wide

_OF_RESCORING = ("rescore_weight", "rescore_word_bonus", "rescore_lm_weight", "rescore_count", "rescore_within")
# A kind of model, the options that name one, and those that say something of it.
_MODELS = (
    ("a language model", ("lm", "fuse_lm"), ("lm_weight",)),
    ("a rescore_lm", ("rescore_lm",), _OF_RESCORING),
    ("a source_lm", ("source_lm",), ("source_weight",)),
)
_NEED_A_BEAM = ("lm", "fuse_lm", "lexicon", "hotwords", "rescore_lm", "source_lm")


@dataclass(frozen=True, kw_only=True)
class DecodingOptions(BeamOptions):
    """How log-probabilities become text. A model may bring other defaults; `none` turns off a file or model of its own.

    Greedily with a beam of 1, else by a prefix beam search. In Python `hotwords` may also be a mapping of words to
    weights. Two have no flag, `asr.evaluation.tuning.tune_decoding` finds them: `prior`, the average posterior of each
    label, Φ first; and `confidence_calibration`, coefficients of `asr.decoding.confidence.calibrated`, none or three.
    """

    beam_width: int = option(1, "prefixes kept while decoding; 1 is greedy")
    num_best: int = option(1, "hypotheses to give, the best first")
    lm: str = option("", "n-gram language model of words or characters: .arpa, .gz, .xz, or .safetensors")
    fuse_lm: str = option(
        "",
        "recurrent language model of characters inside the search, in place of lm: a name or folder; "
        "dearer than one that ranks the hypotheses anew",
    )
    lexicon: str = option("", "file with a word a line: the lexicon, in place of the language model's words")
    hotwords: tuple[str, ...] = option(
        (), f"words or phrases to expect, or @FILE of them, each WORD or WORD:NATS ({HOTWORD_WEIGHT:g})"
    )
    rescore_lm: str = option("", "recurrent language model that ranks the hypotheses anew: a name or folder")
    rescore_weight: float = option(0.5, "factor of the recurrent language model's log-probabilities")
    rescore_word_bonus: float = option(0.0, "added for each word when the hypotheses are ranked anew, in nats")
    rescore_lm_weight: float | None = option(None, "takes the place of lm_weight when the hypotheses are ranked anew")
    source_lm: str = option(
        "",
        "n-gram language model of characters, of the texts that the acoustic model learnt from, taken "
        "off when the hypotheses are ranked anew",
    )
    source_weight: float = option(0.3, "factor of the source language model's log-probabilities, which are taken off")
    rescore_count: int = option(100, "hypotheses that are ranked anew, at most")
    rescore_within: float = option(10.0, "hypotheses this many nats or more behind the best are not ranked anew")
    confidence_temperature: float = option(
        1.0, "of a beam: scores are divided by this for confidences; above 1 makes them humbler"
    )
    confidence_power: float = option(
        1.0, "of a beam: power of the posteriors of a word's characters in its confidence; 0 leaves them out"
    )
    confidence_calibration: tuple[float, ...] = ()
    greedy_confidence_power: float = option(1.0, "the same of greedy decoding; above 1 makes confidences humbler")
    prior_weight: float = option(
        0.0, "of a beam: power of the labels' prior that posteriors are divided by, in a model that has one"
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
        for name in ("rescore_weight", "source_weight", "confidence_power", "greedy_confidence_power", "prior_weight"):
            if not 0 <= getattr(self, name) <= LARGEST_SCORE:
                raise ConfigError(
                    f"{name} must be finite, 0 or above, {LARGEST_SCORE:g} at most; got {getattr(self, name)!r}"
                )
        if not self.rescore_within > 0:
            raise ConfigError(f"rescore_within must be above 0; got {self.rescore_within!r}")
        if self.rescore_lm_weight is not None and not 0 <= self.rescore_lm_weight <= LARGEST_SCORE:
            raise ConfigError(
                f"rescore_lm_weight must be finite, 0 or above, {LARGEST_SCORE:g} at most; "
                f"got {self.rescore_lm_weight!r}"
            )
        if not abs(self.rescore_word_bonus) <= LARGEST_SCORE:
            raise ConfigError(
                f"rescore_word_bonus must be finite, {LARGEST_SCORE:g} nats at most; got {self.rescore_word_bonus!r}"
            )
        if not 1 / LARGEST_SCORE <= self.confidence_temperature <= LARGEST_SCORE:
            raise ConfigError(
                f"confidence_temperature must be above 0, {1 / LARGEST_SCORE:g} to {LARGEST_SCORE:g}; "
                f"got {self.confidence_temperature!r}"
            )
        if len(self.confidence_calibration) not in (0, 3) or not all(map(math.isfinite, self.confidence_calibration)):
            raise ConfigError(
                f"confidence_calibration must be none or three numbers; got {self.confidence_calibration!r}"
            )
        if self.prior_weight and not self.prior:
            raise ConfigError("prior_weight needs a prior, which this model lacks: asr-evaluate --tune finds one")
        if not all(0 < each <= 1 for each in self.prior):
            raise ConfigError(f"prior must hold probabilities above 0, one for each label; got {self.prior!r}")
        if self.lm and self.fuse_lm:
            raise ConfigError(
                f"lm and fuse_lm must not both be given, a search has one language model: leave one out, or give "
                f"rescore_lm in place of fuse_lm; got {self.lm!r} and {self.fuse_lm!r}"
            )
        if self.only_lexicon and not (self.lexicon or self.lm):
            raise ConfigError("only_lexicon needs a lexicon or a language model of words; give one, or leave it off")
        if self.source_lm and not self.rescore_lm:
            raise ConfigError(
                f"source_lm needs hypotheses that are ranked anew; give rescore_lm, or leave it out: {self.source_lm!r}"
            )
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
        lm and fuse_lm, the one that is asked for replaces the other; it, or another lm_weight, counts as much when
        hypotheses are ranked anew. Without rescore_lm there is no source_lm.

        Raises:
            ConfigError: a change is wrong, or about a model that there is not; or two contradict each other.
        """
        asked = tuple(changes)
        changes = {name: "" if value == "none" else value for name, value in changes.items()}
        if changes.get("hotwords") == ("none",):
            changes["hotwords"] = ()
        if isinstance(hotwords := changes.get("hotwords"), Mapping):
            changes["hotwords"] = _entries(hotwords)
        wants_beam = any(changes.get(name) for name in _NEED_A_BEAM) or changes.get("num_best", 1) > 1
        for name, other in (("lm", "fuse_lm"), ("fuse_lm", "lm")):
            if changes.get(name):
                changes.setdefault(other, "")
        if any(changes.get(name) for name in ("lm", "fuse_lm", "lm_weight")):
            changes.setdefault("rescore_lm_weight", None)
        if changes.get("rescore_lm") == "":
            changes.setdefault("source_lm", "")
        if changes.get("beam_width") == 1:
            needless = dict.fromkeys(_NEED_A_BEAM, "")
            changes = {**needless, "only_lexicon": False, "hotwords": (), "num_best": 1, **changes}
        elif wants_beam and self.beam_width == 1:
            changes.setdefault("beam_width", RESCORING_WIDTH if changes.get("rescore_lm") else BEAM_WIDTH)
        made = from_json(DecodingOptions, {**to_json(self), **changes})
        for model, names, sayings in _MODELS:
            if not any(getattr(made, name) for name in names) and (lost := [name for name in sayings if name in asked]):
                raise ConfigError(f"{lost[0]} needs {model}; give one, or leave it out")
        return made


def _entries(hotwords: Mapping[str, float]) -> tuple[str, ...]:
    return tuple(f"{word}:{nats:g}" for word, nats in hotwords.items())
