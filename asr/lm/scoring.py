"""Any language model as something that scores sentences: recurrent, from its folder, or of n-grams, from its file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np

from asr.errors import ConfigError
from asr.lm.ngram import ENDINGS, NgramModel
from asr.lm.perplexity import SentenceScore
from asr.lm.vocabulary import EOS_TEXT
from asr.text.normalization import TextOptions, normalize

SENTENCES = 1024  # scored together, at most
CHARACTERS = 1 << 20  # in the sentences scored together, unless one alone has more


class Scorer(Protocol):
    """What can score sentences."""

    def token_scores(self, sentences: Sequence[str]) -> list[SentenceScore]:
        """The scores of the tokens of each sentence, as it is given."""


class NgramScorer:
    """An n-gram model with the spelling of its words.

    Args:
        model: over words or characters.
        text: how the text was normalised that the model was estimated from; an ARPA file does not say.
    """

    def __init__(self, model: NgramModel, text: TextOptions):
        self.model = model
        self.text = text

    def token_scores(self, sentences: Sequence[str]) -> list[SentenceScore]:
        """The scores of the tokens of each sentence; unknown ones cost what <unk> costs."""
        scores = []
        for sentence in sentences:
            text = normalize(sentence, self.text)
            tokens = self.model.split(text)
            known = np.append(self.model.encode(tokens) > 0, True)
            scores.append(
                SentenceScore(text=text, tokens=(*tokens, EOS_TEXT), log_probs=self.model.score(tokens), known=known)
            )
        return scores


def load_scorer(
    model: str | os.PathLike[str] | None = None, *, text: TextOptions | None = None, device: str = "auto"
) -> Scorer:
    """A language model from its folder, an embedded one by its name, an n-gram model from its file, or the default.

    Args:
        model: which; any file, and any name that ends as an n-gram model's does, is taken for one.
        text: how texts are normalised for an n-gram model, which does not say; the folder of a recurrent model does.
        device: where a recurrent model computes; see `asr.compute.device.find_device`.
    Raises:
        InputError: there is no such model, or no such device.
        ConfigError: `text` was given for a model that says itself.
        DataError: the folder or file is damaged.
    """
    if model is not None and (Path(model).is_file() or Path(model).name.endswith(ENDINGS)):
        return NgramScorer(NgramModel.read(model), text or TextOptions())
    if text is not None:
        raise ConfigError("options of the text belong to an n-gram model; a model folder has its own")
    from asr.compute.device import find_device  # these load torch
    from asr.lm.rnn import LanguageModel, find_language_model

    return LanguageModel.load(find_language_model(model)).to(find_device(device))


def score_stream(scorer: Scorer, sentences: Iterable[str]) -> Iterator[tuple[str, SentenceScore]]:
    """Each sentence, as it is given, with its score, in order; a few at a time are in memory."""
    sentences = iter(sentences)
    while batch := _batch(sentences):
        yield from zip(batch, scorer.token_scores(batch), strict=True)


def _batch(sentences: Iterator[str]) -> list[str]:
    """The next sentences to be scored together; none at the end."""
    batch: list[str] = []
    length = 0
    for sentence in islice(sentences, SENTENCES):
        batch.append(sentence)
        length += len(sentence)
        if length > CHARACTERS:
            break
    return batch
