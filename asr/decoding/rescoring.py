"""Rescoring: a recurrent language model scores the n best hypotheses, which may change their order.

The search ranks hypotheses by their acoustic scores, an n-gram model and hotwords. A recurrent model uses more context
than an n-gram model, but is too slow for the search. It scores the n best hypotheses of many utterances in a batch:

    score = log p_ctc + rescore_lm_weight · log p_lm + rescore_weight · log p_rnn - source_weight · log p_source
            + (word_bonus + rescore_word_bonus) · words + unknown words + hotwords

The source language model is trained on the training texts of the acoustic model only. The acoustic model learns the
statistics of these texts, and log p_ctc includes them. When the log-probabilities of better language models are added,
the source model's is subtracted (McDermott et al. 2019, "A density ratio approach to language model fusion in
end-to-end automatic speech recognition").

A language model of words gives every unknown word the probability of <unk>, whether it has three letters or thirty, but
the source model would be subtracted for each letter: words joined without spaces would win. So unknown words have a
penalty for each letter, `unknown_letter_score`, also in the search; with it, the source model's log-probability leaves
out their letters. The words that only the search's lexicon has share the probability of <unk> in equal parts: a whole
one for each would favour the rarest words. Words of hotwords are expected, and keep all of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from asr.ctc.beam import BeamHypothesis
from asr.decoding.options import DecodingOptions

if TYPE_CHECKING:
    from asr.lm.ngram import NgramModel
    from asr.lm.recurrent import TokenScores

LONGEST = 1000  # most tokens of an utterance to rescore: a minute of speech without a pause
TOGETHER = 1 << 18  # tokens of hypotheses in a batch, unless one utterance alone has more
LEAST_SCORE = -1e9  # score of an impossible text; JSON has no infinity


def merge_duplicates(hypotheses: Sequence[BeamHypothesis]) -> list[BeamHypothesis]:
    """The hypotheses, the best first, with duplicates (the same words; spaces may differ) merged into one.

    The merged hypothesis has the tokens, scores and hotwords of the best one, and the summed acoustic probability.
    """
    merged: dict[tuple[str, ...], BeamHypothesis] = {}
    for hypothesis in hypotheses:
        if duplicate := merged.get(hypothesis.words):
            acoustic_score = float(np.logaddexp(duplicate.acoustic_score, hypothesis.acoustic_score))
            score = duplicate.score + acoustic_score - duplicate.acoustic_score
            merged[hypothesis.words] = replace(duplicate, acoustic_score=acoustic_score, score=score)
        else:
            merged[hypothesis.words] = hypothesis
    return sorted(merged.values(), key=lambda hypothesis: -hypothesis.score)


class Rescorer:
    """Rescores hypotheses with a recurrent language model.

    Args:
        model: over words or characters.
        options: the weights.
        source: the source language model, over characters; it must have all characters of the acoustic model.
        lexicon: the words of the search's lexicon; if empty, no word is unknown to the search.
        expected: words of hotwords.
    """

    def __init__(
        self,
        model: TokenScores,
        options: DecodingOptions,
        *,
        source: NgramModel | None = None,
        lexicon: frozenset[str] = frozenset(),
        expected: Iterable[str] = (),
    ):
        self.model, self.options, self.source = model, options, source
        self.lexicon = lexicon if options.search.unknown_letter_score else frozenset()
        of_words = model.config.unit == "word"
        self.shared = lexicon.difference(model.vocabulary.entries, expected) if of_words else frozenset()

    def rescore(self, lists: Sequence[Sequence[BeamHypothesis]]) -> list[list[BeamHypothesis]]:
        """The hypotheses of each utterance with their new scores, the best first; equal ones keep their order.

        The model scores the texts of many utterances together, and common beginnings only once. Texts that the model
        cannot spell are last. An utterance of more than `LONGEST` tokens is not rescored: a hundred hypotheses are too
        few for its many uncertain words.
        """
        results = [list(hypotheses) for hypotheses in lists]
        for numbers in _groups(lists):
            rescored = self._rescore_group([lists[number] for number in numbers])
            for number, hypotheses in zip(numbers, rescored, strict=True):
                results[number] = hypotheses
        return results

    def _rescore_group(self, lists: Sequence[Sequence[BeamHypothesis]]) -> list[list[BeamHypothesis]]:
        from asr.lm.prefix_tree import score_together

        texts = [" ".join(hypothesis.words) for hypothesis in chain.from_iterable(lists)]
        log_probs = iter(np.maximum(score_together(self.model, texts), LEAST_SCORE).tolist())
        sources: Iterator[float | None] = iter([None] * len(texts))
        if self.source is not None:
            counted = list(map(self._has_source, texts)) if self.lexicon else None
            sources = iter(self.source.score_together(texts, counted=counted).tolist())
        scored = (
            [
                replace(hypothesis, rnn_score=next(log_probs) + self._shares(hypothesis), source_score=next(sources))
                for hypothesis in hypotheses
            ]
            for hypotheses in lists
        )
        return [rerank(hypotheses, self.options) for hypotheses in scored]

    def _shares(self, hypothesis: BeamHypothesis) -> float:
        """log of the shares of <unk>'s probability that words of a hypothesis have: one of as many as share it."""
        return -math.log(max(len(self.shared), 1)) * sum(word in self.shared for word in hypothesis.words)

    def _has_source(self, text: str) -> list[bool]:
        """For each character of a text, whether it is outside unknown words."""
        marks = [mark for word in text.split(" ") for mark in (*[word in self.lexicon] * len(word), True)]
        return marks[:-1]  # no space follows the last word


def rerank(hypotheses: Sequence[BeamHypothesis], options: DecodingOptions) -> list[BeamHypothesis]:
    """The hypotheses with the parts of rescoring in their scores, the best first; without `rnn_score`, unchanged."""

    def rescored(hypothesis: BeamHypothesis) -> BeamHypothesis:
        if hypothesis.rnn_score is None:
            return hypothesis
        models = (weight_of_lm(options) - options.search.lm_weight) * hypothesis.lm_score
        models += options.rescoring.rescore_weight * hypothesis.rnn_score
        models -= options.rescoring.source_weight * (hypothesis.source_score or 0.0)
        return replace(hypothesis, score=hypothesis.score + models + rescoring_bonus(hypothesis, options))

    return sorted(map(rescored, hypotheses), key=lambda hypothesis: -hypothesis.score)


def rescoring_bonus(hypothesis: BeamHypothesis, options: DecodingOptions) -> float:
    """The part of rescoring for the words of a hypothesis, in nats."""
    return 0.0 if hypothesis.rnn_score is None else options.rescoring.rescore_word_bonus * len(hypothesis.words)


def weight_of_lm(options: DecodingOptions) -> float:
    """The weight of the search's language model in rescoring."""
    weight = options.rescoring.rescore_lm_weight
    return options.search.lm_weight if weight is None else weight


def _groups(lists: Sequence[Sequence[BeamHypothesis]]) -> Iterator[list[int]]:
    """The indices of the utterances to rescore, in groups of at most `TOGETHER` tokens."""
    group: list[int] = []
    group_size = 0
    for number, hypotheses in enumerate(lists):
        sizes = [len(hypothesis.tokens) for hypothesis in hypotheses]
        if max(sizes, default=0) > LONGEST:
            continue
        if group and group_size + sum(sizes) > TOGETHER:
            yield group
            group, group_size = [], 0
        group.append(number)
        group_size += sum(sizes)
    if group:
        yield group
