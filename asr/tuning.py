"""The weights of decoding, and the temperature of its confidences, from utterances with known text."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from asr.acoustic_model import embedded_models, find_model, read_config, write_config
from asr.audio import Waveform
from asr.data.manifest import Utterance
from asr.data.waveforms import read_waveform
from asr.decoding import DecodingOptions, word_posteriors
from asr.errors import AsrError, ConfigError, InputError
from asr.metrics import right_words, word_errors
from asr.recognizer import Recognizer, out_of_folder
from asr.rescoring import LEAST_SCORE
from asr.text import normalize
from asr.transcript import Hypothesis, Transcript, split_words

NUM_HYPOTHESES = 100
TEMPERATURES = (0.7, 0.85, 1.0, 1.2, 1.5, 1.8, 2.2, 2.7, 3.3, 4.0)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What `tune` found: the weights, and the errors that they give."""

    lm_weight: float
    rescore_weight: float
    word_bonus: float
    errors: int


WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2, 1.5)
BONUSES = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0)


def tune(
    base: Sequence[np.ndarray],
    ngram: Sequence[np.ndarray] | None,
    rnn: Sequence[np.ndarray] | None,
    words: Sequence[np.ndarray],
    errors: Sequence[np.ndarray],
) -> Weights:
    """The weights with which the best readings of all utterances have the fewest errors.

    All of a grid are tried. Of those with equally few errors it takes the one with which readings are expected to have
    the fewest, when each counts by its share of probability: far from where a small change would cost an error.

    Args:
        base: for each utterance (n,) what is not weighed: acoustic scores, hotwords, unknown words; nats.
        ngram, rnn: for each utterance (n,) natural log-probabilities; None without such a model.
        words: for each utterance (n,) words of each reading.
        errors: for each utterance (n,) errors of each reading.
    Raises:
        InputError: there are no utterances.
    """
    if not len(base):
        raise InputError("weights need utterances with known text to be tuned on; got none")
    width = max(map(len, base))

    def table(rows: Sequence[np.ndarray], padding: float) -> np.ndarray:
        padded = np.full((len(rows), width), padding)
        for row, values in zip(padded, rows, strict=True):
            row[: len(values)] = values
        return padded

    scores, counts, faults = table(base, LEAST_SCORE), table(words, 0.0), table(errors, 0.0)
    grams = table(ngram, 0.0) if ngram is not None else np.zeros_like(scores)
    recurrent = table(rnn, 0.0) if rnn is not None else np.zeros_like(scores)
    rows = np.arange(len(scores))
    best: tuple[float, float, Weights] | None = None
    for lm_weight in WEIGHTS if ngram is not None else (0.0,):
        for rescore_weight in WEIGHTS if rnn is not None else (0.0,):
            weighed = scores + lm_weight * grams + rescore_weight * recurrent
            for bonus in BONUSES:
                total = weighed + bonus * counts
                fewest = int(faults[rows, total.argmax(axis=1)].sum())
                if best is not None and fewest > best[0]:
                    continue
                shares = np.exp(total - total.max(axis=1, keepdims=True))
                expected = float((faults * shares / shares.sum(axis=1, keepdims=True)).sum())
                if best is None or (fewest, expected) < best[:2]:
                    weights = Weights(
                        lm_weight=lm_weight, rescore_weight=rescore_weight, word_bonus=bonus, errors=fewest
                    )
                    best = fewest, expected, weights
    assert best is not None
    return best[2]


def tune_decoding(
    recognizer: Recognizer, utterances: Iterable[Utterance], *, progress: Callable[[], object] = lambda: None
) -> DecodingOptions:
    """The recogniser's options with the weights that give the fewest word errors on some utterances.

    Weights of the language models that the options name, the bonus for words, and the temperature with which the
    confidences of words say best whether they are right. The search is made once, with the weights as they are, and its
    hypotheses are ranked with others.

    Args:
        recognizer: its options have a beam.
        utterances: with known text, which training has not seen. Those that cannot be read are left out.
        progress: called after each utterance.
    Raises:
        ConfigError: the options are greedy.
        InputError: no utterance can be read.
    """
    options = recognizer.decoder.options
    if options.beam_width == 1:
        raise ConfigError("greedy decoding has nothing to tune; give --beam-width, --rescore-lm, --fuse-lm or --lm")
    count = options.rescore_count if options.rescore_lm else min(NUM_HYPOTHESES, options.beam_width)
    searching = replace(options, num_best=count, word_bonus=0.0, rescore_word_bonus=0.0)
    heard = list(_hypotheses(recognizer.with_decoding(searching), utterances, progress))
    references = [reference for reference, _ in heard]
    lists = [hypotheses for _, hypotheses in heard]
    weights = tune(
        [np.array([(each.acoustic or 0.0) + each.word_score + each.hotword_score for each in row]) for row in lists],
        [np.array([each.lm or 0.0 for each in row]) for row in lists] if options.lm or options.fuse_lm else None,
        [np.array([each.rnn or 0.0 for each in row]) for row in lists] if options.rescore_lm else None,
        [np.array([len(split_words(each.text)) for each in row]) for row in lists],
        [np.array([word_errors(reference, each.text).errors for each in row]) for reference, row in heard],
    )
    tuned = replace(
        options,
        lm_weight=weights.lm_weight if options.lm or options.fuse_lm else options.lm_weight,
        rescore_weight=weights.rescore_weight if options.rescore_lm else options.rescore_weight,
        word_bonus=0.0 if options.rescore_lm else weights.word_bonus,
        rescore_word_bonus=weights.word_bonus if options.rescore_lm else 0.0,
    )
    ranked = [_ranked(row, weights) for row in lists]
    return replace(tuned, confidence_temperature=_fit_temperature(ranked, references))


def _hypotheses(
    recognizer: Recognizer, utterances: Iterable[Utterance], progress: Callable[[], object]
) -> Iterator[tuple[str, tuple[Hypothesis, ...]]]:
    """The normalised reference and the hypotheses of each utterance that can be read."""
    text = recognizer.model.config.text
    references: list[str] = []

    def waveforms() -> Iterator[tuple[Waveform, int]]:
        for utterance in utterances:
            try:
                waveform = read_waveform(utterance, recognizer.model.sample_rate)
            except AsrError:
                progress()
                continue
            references.append(normalize(utterance.text, text))
            yield waveform, recognizer.model.sample_rate

    for number, result in enumerate(recognizer.results(waveforms())):
        progress()
        if isinstance(result, Transcript):
            yield references[number], result.hypotheses


def _ranked(hypotheses: Sequence[Hypothesis], weights: Weights) -> list[tuple[float, list[str]]]:
    """Scores with the weights, and words, the best first."""
    ranked = []
    for each in hypotheses:
        words = split_words(each.text)
        score = (each.acoustic or 0.0) + each.word_score + each.hotword_score + weights.word_bonus * len(words)
        score += weights.lm_weight * (each.lm or 0.0) + weights.rescore_weight * (each.rnn or 0.0)
        ranked.append((score, words))
    return sorted(ranked, key=lambda pair: -pair[0])


def _fit_temperature(lists: Sequence[Sequence[tuple[float, list[str]]]], references: Sequence[str]) -> float:
    """The temperature with which confidences give the words that are right, and those that are not, the most."""

    def loss(temperature: float) -> float:
        total = 0.0
        for ranked, reference in zip(lists, references, strict=True):
            scores = np.array([score for score, _ in ranked]) / temperature
            confidences = word_posteriors([words for _, words in ranked], scores)
            right = right_words(split_words(reference), ranked[0][1])
            for confidence, is_right in zip(confidences, right, strict=True):
                share = confidence if is_right else 1.0 - confidence
                total -= float(np.log(max(share, 1e-6)))
        return total

    return min(TEMPERATURES, key=loss)


def check_own(model: str | os.PathLike[str]) -> None:
    """Nothing, if the model may be changed.

    Raises:
        ConfigError: it is one that comes with the package.
    """
    folder = find_model(model).resolve()
    if folder in (embedded.resolve() for embedded in embedded_models().values()):
        raise ConfigError(f"an embedded model must stay as it is; copy {folder} to a place of your own, and tune that")


def store_decoding(
    model: str | os.PathLike[str], options: DecodingOptions, *, tuned_on: str, word_error_rate: float
) -> Path:
    """Writes options into a model folder, whose own they become; gives the folder.

    Files inside of the folder are named relative to it, so that it can move.

    Args:
        model: a folder.
        tuned_on: what the weights were chosen on, for the provenance.
        word_error_rate: what they gave there, a fraction.
    Raises:
        ConfigError: the model comes with the package.
    """
    folder = find_model(model)
    check_own(model)
    config = read_config(folder)
    decoding = {"tuned on": tuned_on, "wer": round(word_error_rate, 5)}
    provenance = {**config.provenance, "decoding": decoding}
    write_config(folder, replace(config, decoding=out_of_folder(options, folder), provenance=provenance))
    return folder
