"""n-best in, n-best out: a recurrent language model says which of the readings people would say, "pear" or "pair".

The search ranks readings of an emission by what was heard, an n-gram model and hotwords. A recurrent model remembers
more than an n-gram, but is asked too late to steer the search; so it scores the n best, those of many utterances in one
go, and the readings are ranked anew:

    score = log p_ctc + lm_weight · log p_ngram + rescore_weight · log p_rnn
            + (word_bonus + rescore_word_bonus) · words + unknown words + hotwords
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from asr.ctc.hotwords import HotwordMatch
from asr.errors import InputError
from asr.transcript import find_words

if TYPE_CHECKING:
    from asr.lm.rnn import LanguageModel

LEAST_SCORE = -1e9  # of a text that is impossible; JSON has no infinity


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """One text that an emission may be, before its words get their times.

    Args:
        tokens: (U,) int64 labels, without blanks.
        text: what they spell, one character for each.
        acoustic: natural log-probability of the tokens, summed over alignments.
        score: what readings are ranked by, in nats: the sum of all below, each with its weight, and of acoustic.
        ngram: natural log-probability in the n-gram model; 0 without one.
        rnn: natural log-probability in the recurrent language model; None until it has been asked.
        word_score: what the words add, known and unknown.
        hotword_score: what the hotwords add.
        hotwords: where they are.
    """

    tokens: np.ndarray
    text: str
    acoustic: float
    score: float
    ngram: float = 0.0
    rnn: float | None = None
    word_score: float = 0.0
    hotword_score: float = 0.0
    hotwords: tuple[HotwordMatch, ...] = ()

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words of the text; see `find_words`."""
        return tuple(self.text[start:end] for start, end in find_words(self.text))


def merge_alike(readings: Sequence[Reading]) -> list[Reading]:
    """The readings, those of the same words (spaces may differ) as one, whose probability is the sum of theirs.

    Its tokens, scores and hotwords are those of the best of them; the probabilities of what was heard are added up.
    """
    merged: dict[tuple[str, ...], Reading] = {}
    for reading in readings:
        if before := merged.get(reading.words):
            acoustic = float(np.logaddexp(before.acoustic, reading.acoustic))
            score = before.score + acoustic - before.acoustic
            merged[reading.words] = replace(before, acoustic=acoustic, score=score)
        else:
            merged[reading.words] = reading
    return sorted(merged.values(), key=lambda reading: -reading.score)


class Rescorer:
    """Ranks readings anew with a recurrent language model.

    Args:
        model: over words or characters.
        weight: factor of its natural log-probabilities, 0 or above.
        word_bonus: added for each word, in nats.
    """

    def __init__(self, model: LanguageModel, *, weight: float, word_bonus: float):
        self.model = model
        self.weight, self.word_bonus = weight, word_bonus

    def rescore(self, lists: Sequence[Sequence[Reading]]) -> list[list[Reading]]:
        """The readings of each utterance by their new scores, the best first; of equal ones the better one before.

        All texts of all utterances go through the model together, and what they begin with alike only once. A text
        that the model cannot spell is behind those that it can.
        """
        from asr.lm.prefix_tree import score_together

        texts = [" ".join(reading.words) for reading in chain.from_iterable(lists)]
        log_probs = iter(np.maximum(score_together(self.model, texts), LEAST_SCORE).tolist())
        return [
            sorted((self._rescored(reading, next(log_probs)) for reading in readings), key=lambda new: -new.score)
            for readings in lists
        ]

    def _rescored(self, reading: Reading, log_prob: float) -> Reading:
        bonus = self.word_bonus * len(reading.words)
        score = reading.score + self.weight * log_prob + bonus
        return replace(reading, rnn=log_prob, word_score=reading.word_score + bonus, score=score)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What `tune` found: the weights, and the errors that they give."""

    lm_weight: float
    rescore_weight: float
    word_bonus: float
    errors: int


WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2, 1.5)
BONUSES = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)


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
