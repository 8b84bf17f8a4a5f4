"""Tune the weights of decoding and the calibration of confidences on utterances with known text."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from asr.acoustic.folder import embedded_models, find_model, out_of_folder
from asr.acoustic.foreign.loading import find_foreign, folder_of, write_decoding
from asr.ctc.beam import BeamHypothesis
from asr.ctc.greedy import best_path
from asr.data.manifest import Utterance, spelled_text
from asr.data.waveforms import read_waveform
from asr.decoding.confidence import (
    agreements,
    calibrated,
    evidence,
    fit_calibration,
    of_utterance,
    of_words,
    word_shares,
)
from asr.decoding.decoder import Decoder
from asr.decoding.options import DecodingOptions
from asr.decoding.places import place_path, place_tokens
from asr.decoding.rescoring import rerank
from asr.errors import AsrError, ConfigError, InputError
from asr.options import replace_options
from asr.recognition.recognizer import Emission, Recognizer
from asr.text.alphabet import BLANK, join_bytes
from asr.text.metrics import right_words, word_errors
from asr.text.transcript import split_words

ROUNDS = 6  # at most; fewer if the weights stop changing
_WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2, 1.5)
_BONUSES = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0)
GRID: dict[str, tuple[float, ...]] = {
    "lm_weight": _WEIGHTS,
    "word_bonus": _BONUSES,
    "unknown_word_score": (0.0, -2.0, -5.0, -8.0, -12.0, -16.0, -20.0),
    "unknown_letter_score": (0.0, -0.5, -1.0, -1.5, -2.0, -3.0),
    "rescore_weight": (*_WEIGHTS, 2.0),
    "rescore_word_bonus": _BONUSES,
    "rescore_lm_weight": (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8),
    "source_weight": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0),
}
TEMPERATURES = (0.7, 0.85, 1.0, 1.2, 1.5, 1.8, 2.2, 2.7, 3.3, 4.0, 5.0, 6.5, 8.0, 10.0, 13.0)
PRIOR_WEIGHTS = (0.0, 0.15, 0.3, 0.45, 0.6, 0.8, 1.0)
TRIED_WIDTH = 100  # largest beam for trials of the prior's weight
_ADDED = ("rescore_weight", "rescore_word_bonus", "source_weight")  # weights that only rescoring adds
LEAST_PRIOR = 1e-5  # also of labels that never occur in the utterances
POWERS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0, 1.2, 1.5, 1.8, 2.2, 2.7, 3.3, 4.0, 5.0)

Rows = Sequence[Sequence[float] | np.ndarray]


def tune(base: Rows, terms: Mapping[str, Rows], errors: Rows) -> tuple[dict[str, float], int]:
    """The weights whose best hypotheses have the fewest errors, and the number of these errors.

    All weights of the `GRID` are tried. On a tie, the lowest expected number of errors wins, over all hypotheses in
    proportion to their probability: so the weights are far from values at which a small change costs an error.

    Args:
        base: for each utterance, (n,) scores without the weighted terms, in nats.
        terms: for each weight by its name, and each utterance, (n,) values to multiply.
        errors: for each utterance, (n,) errors of each hypothesis.
    Raises:
        InputError: there are no utterances.
    """
    if not len(base):
        raise InputError("weights need utterances with known text to be tuned on; got none")
    width = max(map(len, base))

    def table(rows: Rows, padding: float) -> np.ndarray:
        padded = np.full((len(rows), width), padding)
        for row, values in zip(padded, rows, strict=True):
            row[: len(values)] = values
        return padded

    scores, faults = table(base, -np.inf), table(errors, 0.0)
    tables = {name: table(rows, 0.0) for name, rows in terms.items()}
    utterances = np.arange(len(scores))
    best: tuple[float, float, tuple[float, ...]] | None = None
    for weights in itertools.product(*(GRID[name] for name in tables)):
        total = scores + sum(weight * values for weight, values in zip(weights, tables.values(), strict=True))
        fewest = float(faults[utterances, total.argmax(axis=1)].sum())
        if best is not None and fewest > best[0]:
            continue
        shares = np.exp(total - total.max(axis=1, keepdims=True))
        expected = float((faults * shares / shares.sum(axis=1, keepdims=True)).sum())
        if best is None or (fewest, expected) < best[:2]:
            best = fewest, expected, weights
    assert best is not None
    return dict(zip(tables, best[2], strict=True)), int(best[0])


def tune_decoding(
    recognizer: Recognizer, utterances: Iterable[Utterance], *, progress: Callable[[], object] = lambda: None
) -> DecodingOptions:
    """The recogniser's options with the weights that give the fewest word errors on some utterances.

    Three steps: the weights of the search (language model, word bonus, unknown words and letters, prior of labels),
    the weights of rescoring by a recurrent model, and the calibration of word confidences. Greedy decoding has only the
    last step. The hypotheses of a search depend on its weights, so the search is repeated with the weights that are
    best on all hypotheses so far, until they stop changing. The search with the fewest errors wins.

    Args:
        utterances: with known text, not seen in training. Unreadable ones are left out.
        progress: called after each utterance.
    Raises:
        InputError: no utterance can be read.
    Source: Och 2003, "Minimum error rate training in statistical machine translation", section 5, with a grid in place
        of its line search.
    """
    options = recognizer.decoder.options
    references, emissions = _emissions(recognizer, utterances, progress)
    if not references:
        raise InputError("weights need utterances with known text to be tuned on; got none")
    options = _fit_greedy_confidences(options, emissions, recognizer.decoder, references)
    if options.greedy:
        return options

    def search(options: DecodingOptions) -> list[list[BeamHypothesis]]:
        return recognizer.with_decoding(options).decoder.hypotheses(emissions)

    options = _tune_search(replace_options(options, prior=prior_of(emissions)), search, references)
    if options.rescoring.rescore_lm:
        names = weights_of_ranking(options)
        lists = search(replace_options(options, rescore_lm_weight=None, **dict.fromkeys(_ADDED, 0.0)))
        rescored = [[hypothesis.rnn_score is not None for hypothesis in row] for row in lists]
        terms: dict[str, Rows] = {
            "rescore_weight": [[hypothesis.rnn_score or 0.0 for hypothesis in row] for row in lists],
            "rescore_word_bonus": [[len(hypothesis.words) for hypothesis in row] for row in lists],
            "rescore_lm_weight": [[hypothesis.lm_score for hypothesis in row] for row in lists],
            "source_weight": [[-(hypothesis.source_score or 0.0) for hypothesis in row] for row in lists],
        }
        terms = {name: [np.multiply(*pair) for pair in zip(terms[name], rescored, strict=True)] for name in names}
        weight = options.search.lm_weight
        base = [
            [hypothesis.score - weight * hypothesis.lm_score * (hypothesis.rnn_score is not None) for hypothesis in row]
            for row in lists
        ]
        weights, _ = tune(base, terms, _errors(lists, references))
        options = replace_options(options, **weights)
        lists = [rerank(row, options) for row in lists]
    else:
        lists = search(replace(options, num_best=100))
    return _fit_confidences(options, lists, emissions, recognizer.decoder, references)


def tuned_options(options: DecodingOptions) -> list[str]:
    """The names of the options that `tune_decoding` tunes."""
    if options.greedy:
        return ["greedy_confidence_power"]
    ranking = weights_of_ranking(options) * bool(options.rescoring.rescore_lm)
    confidence = ["confidence_temperature", "confidence_power", "greedy_confidence_power"]
    return [*weights_of_search(options), "prior_weight", *ranking, *confidence]


def weights_of_search(options: DecodingOptions) -> list[str]:
    """The names of the weights that affect a search with these options."""
    language = options.language
    has_lm = bool(language.lm or language.fuse_lm)
    unknown = bool((language.lm or language.has_lexicon) and not options.search.only_lexicon)
    return [
        *["lm_weight"] * has_lm,
        *["word_bonus"] * bool(has_lm or language.has_lexicon or not options.rescoring.rescore_lm),
        *["unknown_word_score", "unknown_letter_score"] * unknown,
    ]


def weights_of_ranking(options: DecodingOptions) -> list[str]:
    """The names of the weights of rescoring with these options."""
    return [
        "rescore_weight",
        "rescore_word_bonus",
        *["rescore_lm_weight"] * bool(options.language.lm or options.language.fuse_lm),
        *["source_weight"] * bool(options.rescoring.source_lm),
    ]


def prior_of(emissions: Sequence[Emission]) -> tuple[float, ...]:
    """The average posterior of each label over all frames, at least `LEAST_PRIOR`."""
    total = sum(np.exp(emission.astype(np.float64)).sum(axis=0) for emission in emissions)
    average = total / max(sum(map(len, emissions)), 1)
    return tuple(round(float(prior), 6) for prior in np.clip(average, LEAST_PRIOR, 1.0))


Search = Callable[[DecodingOptions], list[list[BeamHypothesis]]]


def _tune_search(options: DecodingOptions, search: Search, references: Sequence[str]) -> DecodingOptions:
    """The options with the weights of the search whose best hypotheses have the fewest errors.

    The weight of the prior is tried in a beam of `TRIED_WIDTH`, with the weights that are best without a prior. Then
    the other weights are tuned again with the whole beam.
    """
    width = min(options.search.beam_width, TRIED_WIDTH)
    tried = _tune_weights(replace_options(options, beam_width=width, prior_weight=0.0), search, references)

    def fewest(prior_weight: float) -> int:
        lists = search(replace(_without_rescoring(tried), prior_weight=prior_weight))
        return _best_weights(tried, lists, _errors(lists, references))[1]

    prior_weight = min(PRIOR_WEIGHTS, key=fewest)
    prior = options.prior if prior_weight else ()
    beam_width = options.search.beam_width
    tuned = replace_options(tried, beam_width=beam_width, prior=prior, prior_weight=prior_weight)
    return tuned if not prior_weight and width == beam_width else _tune_weights(tuned, search, references)


def _without_rescoring(options: DecodingOptions) -> DecodingOptions:
    """The options of a search that gives many hypotheses, to tune its weights on them."""
    return replace_options(options, rescore_lm=None, source_lm=None, num_best=100)


def _tune_weights(options: DecodingOptions, search: Search, references: Sequence[str]) -> DecodingOptions:
    """The options with the `weights_of_search` whose best hypotheses have the fewest errors."""
    if not weights_of_search(options):
        return options
    pools: list[dict[tuple[str, ...], tuple[BeamHypothesis, int]]]  # hypotheses of all rounds, with their errors
    pools = [{} for _ in references]
    tried: dict[DecodingOptions, int] = {}  # with the errors of their best hypotheses
    while options not in tried and len(tried) < ROUNDS:
        lists = search(_without_rescoring(options))
        errors = _errors(lists, references)
        tried[options] = sum(row[0] for row in errors)
        for pool, *row in zip(pools, lists, errors, strict=True):
            for hypothesis, count in zip(*row, strict=True):
                known, _ = pool.get(hypothesis.words, (None, 0))
                if known is None or known.acoustic_score < hypothesis.acoustic_score:
                    pool[hypothesis.words] = hypothesis, count
        lists = [[hypothesis for hypothesis, _ in pool.values()] for pool in pools]
        errors = [[count for _, count in pool.values()] for pool in pools]
        weights, _ = _best_weights(options, lists, errors)
        options = replace_options(options, **weights)
    return min(tried, key=tried.__getitem__)


def _best_weights(
    options: DecodingOptions, lists: Sequence[Sequence[BeamHypothesis]], errors: Rows
) -> tuple[dict[str, float], int]:
    """The weights of the search that rank these hypotheses best, and the number of errors with them.

    The score of unknown letters is tuned last, together with the score of unknown words.
    """
    base = [np.array([hypothesis.acoustic_score + hypothesis.hotword_score for hypothesis in row]) for row in lists]
    terms: dict[str, Rows] = {
        "lm_weight": [[hypothesis.lm_score for hypothesis in row] for row in lists],
        "word_bonus": [[len(hypothesis.words) for hypothesis in row] for row in lists],
        "unknown_word_score": [[hypothesis.num_unknown for hypothesis in row] for row in lists],
        "unknown_letter_score": [[hypothesis.unknown_letters for hypothesis in row] for row in lists],
    }
    weights = {name: getattr(options.search, name) for name in weights_of_search(options)}
    first = [name for name in weights if name != "unknown_letter_score"]
    penalties = [name for name in weights if name.startswith("unknown_")]
    for names in (first, penalties) if penalties else (first,):
        rest = [name for name in weights if name not in names]
        fixed = [
            sum((weights[name] * np.array(terms[name][i]) for name in rest), start=base[i]) for i in range(len(base))
        ]
        best, fewest = tune(fixed, {name: terms[name] for name in names}, errors)
        weights |= best
    return weights, fewest


def _emissions(
    recognizer: Recognizer, utterances: Iterable[Utterance], progress: Callable[[], object]
) -> tuple[list[str], list[Emission]]:
    """The normalised reference and the log-probabilities of each utterance that can be read."""
    rate = recognizer.model.sample_rate
    references, emissions = [], []
    for utterance in utterances:
        try:
            waveform = read_waveform(utterance, rate)
        except AsrError:
            progress()
            continue
        references.append(spelled_text(utterance, recognizer.model.text))
        emissions.append(recognizer.long_log_probs((waveform, rate))[0])
        progress()
    return references, emissions


def _errors(lists: Sequence[Sequence[BeamHypothesis]], references: Sequence[str]) -> list[list[int]]:
    """Word errors of each hypothesis."""
    spoken = (" ".join(split_words(reference)) for reference in references)
    return [
        [word_errors(reference, " ".join(hypothesis.words)).errors for hypothesis in row]
        for reference, row in zip(spoken, lists, strict=True)
    ]


def _fit_confidences(
    options: DecodingOptions,
    lists: Sequence[Sequence[BeamHypothesis]],
    emissions: Sequence[Emission],
    decoder: Decoder,
    references: Sequence[str],
) -> DecodingOptions:
    """The options with the calibration under which the right and wrong words are most likely."""
    agreement = [agreements([hypothesis.words for hypothesis in hypotheses]) for hypotheses in lists]
    scores = [np.array([hypothesis.score for hypothesis in hypotheses]) for hypotheses in lists]
    characters = [
        place_tokens(emission, row[0].tokens, decoder.spellings).confidences
        for emission, row in zip(emissions, lists, strict=True)
    ]
    posteriors = np.concatenate([of_words(row[0].text, values) for row, values in zip(lists, characters, strict=True)])
    utterances = np.repeat([of_utterance(values) for values in characters], [len(row[0].words) for row in lists])
    right = _right([row[0].words for row in lists], references)

    trials = []
    for temperature in TEMPERATURES:
        tempered = zip(agreement, (row / temperature for row in scores), strict=True)
        shares = np.concatenate([word_shares(*arguments) for arguments in tempered])
        for power in POWERS:
            features = evidence(shares * posteriors**power, utterances)
            calibration = tuple(round(float(value), 4) for value in fit_calibration(features, right))
            trials.append((_surprise(calibrated(features, calibration), right), temperature, power, calibration))
    _, temperature, power, calibration = min(trials)
    return replace_options(
        options, confidence_temperature=temperature, confidence_power=power, confidence_calibration=calibration
    )


def _fit_greedy_confidences(
    options: DecodingOptions, emissions: Sequence[Emission], decoder: Decoder, references: Sequence[str]
) -> DecodingOptions:
    """The options with the best power of confidences in greedy decoding; see `_fit_confidences`."""
    paths = [best_path(emission, blank=BLANK) for emission in emissions]
    spelled = [place_path(path, decoder.labels) for path in paths]
    posteriors = np.concatenate([of_words(text, places.confidences) for text, places in spelled])
    right = _right([list(map(join_bytes, split_words(text))) for text, _ in spelled], references)
    return replace_options(
        options, greedy_confidence_power=min(POWERS, key=lambda power: _surprise(posteriors**power, right))
    )


def _right(hypotheses: Sequence[Sequence[str]], references: Sequence[str]) -> np.ndarray:
    """Whether each word of each hypothesis is right, all utterances in one array."""
    pairs = zip(references, hypotheses, strict=True)
    return np.array([right for words, row in pairs for right in right_words(split_words(words), row)], dtype=bool)


def _surprise(confidences: np.ndarray, right: np.ndarray) -> float:
    """-log P(which words are right) by the confidences, in nats."""
    return float(-np.log(np.maximum(np.where(right, confidences, 1.0 - confidences), 1e-6)).sum())


def check_own(model: str | os.PathLike[str]) -> None:
    """Check that a model may be changed.

    Raises:
        ConfigError: the model is part of the package, or of torchaudio.
    """
    if find_foreign(model):
        if folder_of(model) is None:
            raise ConfigError(f"{model} has no folder to store its options in; tune a model of a folder")
        return
    folder = find_model(model).resolve()
    if folder in (embedded.resolve() for embedded in embedded_models().values()):
        raise ConfigError(f"an embedded model must not be changed; copy {folder} and tune the copy")


def store_decoding(
    model: str | os.PathLike[str], options: DecodingOptions, *, tuned_on: str, word_error_rate: float
) -> Path:
    """Store options as the defaults of a model folder, ours or anybody's, and return the folder.

    Files in the folder are named relative to it, so it can be moved. A model with a beam keeps it: greedy options only
    change its confidences. The model's hotwords and number of hypotheses do not change.

    Args:
        model: a folder.
        tuned_on: name of the utterances for tuning, for the provenance.
        word_error_rate: on these utterances, a fraction.
    Raises:
        ConfigError: the model is part of the package.
    """
    check_own(model)
    if find_foreign(model) and (foreign_folder := folder_of(model)):
        options = replace_options(options, hotwords=(), num_best=1)  # the user's
        write_decoding(foreign_folder, out_of_folder(options, foreign_folder))
        return foreign_folder
    from asr.acoustic.config import read_config, write_config

    folder = find_model(model)
    config = read_config(folder)
    if options.greedy and not config.decoding.greedy:
        power = options.confidence.greedy_confidence_power
        own = replace_options(config.decoding, greedy_confidence_power=power)
        write_config(folder, replace(config, decoding=own))
        return folder
    own = config.decoding
    options = replace_options(options, hotwords=own.language.hotwords, num_best=own.num_best)  # the user's
    decoding = {"tuned on": tuned_on, "wer": round(word_error_rate, 5)}
    provenance = {**config.provenance, "decoding": decoding}
    write_config(folder, replace(config, decoding=out_of_folder(options, folder), provenance=provenance))
    return folder
