"""Scores of sentences by any language model: a recurrent one from its folder, or an n-gram model from its file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np

from asr.compute.runtime import Runtime, choose_runtime
from asr.errors import ConfigError
from asr.lm.loading import load_language_model
from asr.lm.ngram import ENDINGS, NgramModel
from asr.lm.perplexity import SentenceScore
from asr.lm.recurrent import find_language_model
from asr.lm.vocabulary import EOS_TEXT
from asr.text.normalization import TextOptions, normalize

SENTENCES = 1024  # the most sentences that are scored together
CHARACTERS = 1 << 20  # the most characters of sentences that are scored together, if they are several


class Scorer(Protocol):
    """A language model that scores sentences."""

    def token_scores(self, sentences: Sequence[str]) -> list[SentenceScore]:
        """The scores of the tokens of each sentence; it need not be normalised."""


class NgramScorer:
    """An n-gram model with the spelling of its words.

    Args:
        model: over words or characters.
        text: how the model's text was normalised; an ARPA file does not tell.
    """

    def __init__(self, model: NgramModel, text: TextOptions):
        self.model = model
        self.text = text

    def token_scores(self, sentences: Sequence[str]) -> list[SentenceScore]:
        """The scores of the tokens of each sentence; unknown tokens have the score of <unk>."""
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
    model: str | os.PathLike[str] | None = None,
    *,
    text: TextOptions | None = None,
    device: str = "auto",
    runtime: Runtime = "auto",
) -> Scorer:
    """A language model from its folder, an embedded one by its name, an n-gram model from its file, or the default.

    Args:
        model: a folder, a name or a file; any file, and any name with an ending of n-gram models, is an n-gram model.
        text: how texts are normalised for an n-gram model; the folder of a recurrent model has its own options.
        device, runtime: where and how a recurrent model computes; see `asr.load`.
    Raises:
        InputError: there is no such model, or no such device.
        ConfigError: `text` was given for a recurrent model; or torch is needed and not installed.
        DataError: the folder or file is damaged.
    """
    if model is not None and (Path(model).is_file() or Path(model).name.endswith(ENDINGS)):
        return NgramScorer(NgramModel.read(model), text or TextOptions())
    if text is not None:
        raise ConfigError("options of the text belong to an n-gram model; a model folder has its own")
    chosen = choose_runtime(runtime, device=device, precision="auto")
    return load_language_model(find_language_model(model), runtime=chosen, device=device)


def score_stream(scorer: Scorer, sentences: Iterable[str]) -> Iterator[tuple[str, SentenceScore]]:
    """Each sentence, unchanged, with its score, in order; only a batch at a time is in memory."""
    sentences = iter(sentences)
    while batch := _batch(sentences):
        yield from zip(batch, scorer.token_scores(batch), strict=True)


def _batch(sentences: Iterator[str]) -> list[str]:
    """The next sentences to score together; none at the end."""
    batch: list[str] = []
    length = 0
    for sentence in islice(sentences, SENTENCES):
        batch.append(sentence)
        length += len(sentence)
        if length > CHARACTERS:
            break
    return batch
