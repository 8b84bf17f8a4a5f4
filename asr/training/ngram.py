"""An n-gram model from text files to an ARPA or packed file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from asr.errors import ConfigError
from asr.files.writing import check_writable
from asr.lm.corpus import read_sentences
from asr.lm.estimation import estimate_ngram
from asr.lm.ngram import ENDINGS, NgramModel, characters
from asr.training.config import NgramTrainingConfig


def train_ngram(
    config: NgramTrainingConfig, path: str | os.PathLike[str], *, note: Callable[[str], None] = print
) -> NgramModel:
    """Estimate an n-gram model by modified Kneser-Ney smoothing, and write it.

    Args:
        config: everything that decides the result.
        path: the file; its name ends in .arpa, .arpa.gz to be compressed, or .safetensors to be packed.
        note: called with each sentence for the user.
    Raises:
        ConfigError: the name of the file, the order or the pruning is wrong.
        DataError: a text cannot be read.
        InputError: there is no text.
        OSError: the file cannot be written.
    """
    if not os.fspath(path).endswith(ENDINGS):
        raise ConfigError(f"the name of an n-gram model must end in {', '.join(ENDINGS)}, not {os.fspath(path)!r}")
    check_writable(path)
    model = estimate_ngram(_tokens(config), order=config.order, prune=config.prune, vocabulary=config.max_words or None)
    note("n-grams of each length: " + ", ".join(map(str, model.num_ngrams)))
    model.write(path)
    return model


def _tokens(config: NgramTrainingConfig) -> Iterator[list[str]]:
    for sentence in read_sentences(config.train, config.text):
        yield characters(sentence) if config.unit == "character" else sentence.split()
