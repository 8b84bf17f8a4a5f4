"""n-best in, n-best out: a recurrent language model says which of the readings people would say, "pear" or "pair".

The search ranks readings of an emission by what was heard, an n-gram model and hotwords. A recurrent model remembers
more than an n-gram, but is asked too late to steer the search; so it scores the n best, those of many utterances in one
go, and the readings are ranked anew:

    score = log p_ctc + rescore_lm_weight · log p_lm + rescore_weight · log p_rnn - source_weight · log p_source
            + (word_bonus + rescore_word_bonus) · words + unknown words + hotwords

The source language model knows the texts that the acoustic model learnt from, and nothing else. A network takes on what
these are like, and says in log p_ctc what they would; that is taken off where better language models say it (McDermott
et al. 2019, "A density ratio approach to language model fusion in end-to-end automatic speech recognition").

Of a word that it lacks a language model of words says <unk>, whether it has three letters or thirty: what the source
model gave for the letters would be for nothing, and words run together for it. So unknown words have a price by the
letter, `unknown_letter_score`, from the search on, and where they do, the source model is not taken off their letters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from asr.ctc.hotwords import HotwordMatch
from asr.decoding.options import DecodingOptions
from asr.text.transcript import split_words

if TYPE_CHECKING:  # torch takes seconds to load
    import torch

    from asr.lm.ngram import NgramModel
    from asr.lm.rnn import LanguageModel

LONGEST = 1000  # tokens of an utterance whose readings are ranked anew: a minute of speech without a pause
TOGETHER = 1 << 18  # tokens of readings that go through the model together, unless one utterance alone has more
LEAST_SCORE = -1e9  # of a text that is impossible; JSON has no infinity


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """One text that an emission may be, before its words get their times.

    Args:
        tokens: (U,) int64 labels, without blanks.
        text: what they spell, one character for each.
        acoustic: natural log-probability of the tokens, summed over alignments, without the prior that a search had.
        score: what readings are ranked by, in nats: the sum of all below, each with its weight, and of acoustic.
        lm: natural log-probability in the language model of the search, n-gram or fused; 0 without one.
        rnn: natural log-probability in the recurrent language model; None until it has been asked.
        source: natural log-probability in the source language model, without letters that have a price of their own;
            None until it has been asked.
        num_unknown: words that are not in the lexicon of the search; 0 without one.
        unknown_letters: letters of those.
        word_score: what the words add, known and unknown.
        hotword_score: what the hotwords add.
        hotwords: where they are.
    """

    tokens: np.ndarray
    text: str
    acoustic: float
    score: float
    lm: float = 0.0
    rnn: float | None = None
    source: float | None = None
    num_unknown: int = 0
    unknown_letters: int = 0
    word_score: float = 0.0
    hotword_score: float = 0.0
    hotwords: tuple[HotwordMatch, ...] = ()

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words of the text; see `asr.text.transcript.find_words`."""
        return tuple(split_words(self.text))


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
        options: their weights count.
        source: the source language model, over characters, all of which it has to know.
        lexicon: the words of the search's lexicon; without any, no word is unknown.
        dtype: format of the recurrent model's matrix products; None is float32.
    """

    def __init__(
        self,
        model: LanguageModel,
        options: DecodingOptions,
        *,
        source: NgramModel | None = None,
        lexicon: Set[str] = frozenset(),
        dtype: torch.dtype | None = None,
    ):
        self.model, self.options, self.source, self.dtype = model, options, source, dtype
        self.lexicon = lexicon if options.search.unknown_letter_score else frozenset()

    def rescore(self, lists: Sequence[Sequence[Reading]]) -> list[list[Reading]]:
        """The readings of each utterance by their new scores, the best first; of equal ones the better one before.

        The texts of many utterances go through the model together, and what they begin with alike only once. A text
        that the model cannot spell is behind those that it can. An utterance of more than `LONGEST` tokens stays as it
        is: its readings differ in so many places that a hundred of them are no choice.
        """
        rescored = [list(readings) for readings in lists]
        for group in _groups(lists):
            for number, readings in zip(group, self._rescore_group([lists[each] for each in group]), strict=True):
                rescored[number] = readings
        return rescored

    def _rescore_group(self, lists: Sequence[Sequence[Reading]]) -> list[list[Reading]]:
        import torch

        from asr.compute.device import autocast
        from asr.lm.prefix_tree import score_together

        texts = [" ".join(reading.words) for reading in chain.from_iterable(lists)]
        with autocast(self.dtype or torch.float32, next(self.model.parameters()).device):
            scores = score_together(self.model, texts)
        log_probs = iter(np.maximum(scores, LEAST_SCORE).tolist())
        sources: Iterator[float | None] = iter([None] * len(texts))
        if self.source is not None:
            counted = list(map(self._has_source, texts)) if self.lexicon else None
            sources = iter(self.source.score_together(texts, counted=counted).tolist())
        heard = (
            [replace(reading, rnn=next(log_probs), source=next(sources)) for reading in readings] for readings in lists
        )
        return [ranked(readings, self.options) for readings in heard]

    def _has_source(self, text: str) -> list[bool]:
        """Whether each character of a text is none of an unknown word."""
        marks = [mark for word in text.split(" ") for mark in (*[word in self.lexicon] * len(word), True)]
        return marks[:-1]  # no space follows the last word


def ranked(readings: Sequence[Reading], options: DecodingOptions) -> list[Reading]:
    """Readings with what ranking them anew adds to their scores, the best first; those without `rnn` get nothing."""

    rescoring = options.rescoring

    def added(reading: Reading) -> Reading:
        if reading.rnn is None:
            return reading
        bonus = rescoring.rescore_word_bonus * len(reading.words)
        models = (weight_of_lm(options) - options.search.lm_weight) * reading.lm
        models += rescoring.rescore_weight * reading.rnn
        models -= rescoring.source_weight * (reading.source or 0.0)
        return replace(reading, word_score=reading.word_score + bonus, score=reading.score + models + bonus)

    return sorted(map(added, readings), key=lambda reading: -reading.score)


def weight_of_lm(options: DecodingOptions) -> float:
    """The weight of the search's language model when readings are ranked anew."""
    weight = options.rescoring.rescore_lm_weight
    return options.search.lm_weight if weight is None else weight


def _groups(lists: Sequence[Sequence[Reading]]) -> Iterator[list[int]]:
    """The numbers of the utterances that are ranked anew, in groups of at most `TOGETHER` tokens."""
    group: list[int] = []
    held = 0
    for number, readings in enumerate(lists):
        size = sum(len(reading.tokens) for reading in readings)
        if max((len(reading.tokens) for reading in readings), default=0) > LONGEST:
            continue
        if group and held + size > TOGETHER:
            yield group
            group, held = [], 0
        group.append(number)
        held += size
    if group:
        yield group
