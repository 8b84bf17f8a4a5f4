"""Vocabulary without training: a model whose n-grams know a user's texts.

    texts ─▶ sentences in the model's spelling ─▶ n-grams ─┐
    the model's own n-grams ───────────────────────────────┴─▶ interpolated ─▶ a copy of the model folder

Every tenth part of the texts decides how much weight their n-grams get. Words that the model's n-grams lack become
known with their spelling, so the search writes them whole.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from asr.acoustic.config import read_config, write_config
from asr.acoustic.folder import KIND, find_model, in_folder
from asr.errors import AsrWarning, ConfigError, InputError
from asr.files.folders import replacing_folder
from asr.files.model_config import holds
from asr.files.writing import check_writable
from asr.lm.arpa import UNKNOWN
from asr.lm.documents import read_sentences_of
from asr.lm.estimation import estimate_ngram
from asr.lm.interpolation import best_weights, interpolate, mixed_perplexity
from asr.lm.ngram import NgramModel
from asr.options import check_options, option, replace_options
from asr.text.alphabet import Alphabet
from asr.text.normalization import Numbers, TextOptions, normalize

PARTS, BLOCK = 10, 4  # every tenth block of so many sentences is held out to choose the weight
LEAST_SENTENCES = 20
MOST_WEIGHT = 0.9  # chosen for texts of any kind, so that what they lack stays possible
NGRAM_FILE = "ngram.safetensors"

Sentence = Sequence[str]


@dataclass(frozen=True, kw_only=True)
class AdaptationOptions:
    """How texts change the n-grams of a model."""

    weight: float | None = option(
        None, "share of the texts in each probability (default: the best for parts of them)", above=0, below=1
    )
    dev: str | None = option(
        None, "text or manifest that decides the weight, in place of parts of the texts", file=True
    )
    numbers: Numbers = option(
        "keep", "keep digits, which a model of letters cannot spell, or spell numbers in words (needs asr[numbers])"
    )

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """What `adapt` found.

    Args:
        sentences, words: of the texts.
        weight: of the texts.
        perplexities: per word of the held-out sentences, before and after; None if the weight was given.
        new_words: that the model's n-grams lacked, the most frequent first.
        not_spelled: words with characters outside the model's alphabet, the most frequent first.
    """

    sentences: int
    words: int
    weight: float
    perplexities: tuple[float, float] | None
    new_words: tuple[str, ...]
    not_spelled: tuple[str, ...]


def adapt(
    texts: Iterable[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | None = None,
    options: AdaptationOptions | None = None,
    note: Callable[[str], None] = lambda sentence: None,
) -> Adaptation:
    """Write a copy of a model folder whose n-grams also know some texts, completely or not at all.

    Args:
        texts: files, see `asr.lm.documents.read_sentences_of`.
        folder: of the new model; a model folder is replaced.
        model: a folder, or the name of an embedded model; None means the default one. It decodes with an n-gram model
            of words.
        options: see `AdaptationOptions`.
        note: called with each sentence for the user.
    Raises:
        ConfigError: the model has no n-gram model of words, or the folder holds something else.
        DataError: a text cannot be read.
        InputError: there is no such model, or the texts have too few sentences.
        OSError: the folder cannot be written.
    """
    options = options or AdaptationOptions()
    folder, start = Path(folder), find_model(model)
    if folder.exists() and not holds(folder, KIND):
        raise ConfigError(f"{folder} exists and is not a model folder, so it is not replaced: choose another folder")
    if not folder.exists():
        check_writable(folder)
    config = read_config(start)
    lm = in_folder(config.decoding, start).language.lm
    general = NgramModel.read(lm) if lm else None
    if lm is None or general is None or general.over_characters:
        raise ConfigError(f"a model that decodes with n-grams of words can be adapted, and {start.name} does not")
    reader = _Reader(Alphabet(config.characters), replace(config.text, numbers=options.numbers))
    texts = list(texts)
    sentences = [sentence for path in texts for sentence in reader.read(path)]
    if len(sentences) < LEAST_SENTENCES:
        raise InputError(
            f"at least {LEAST_SENTENCES} sentences are needed to adapt a model, but the texts have {len(sentences)}"
        )
    note(f"{len(sentences)} sentences, {sum(map(len, sentences))} words")
    kept, held_out = (sentences, list(reader.read(options.dev))) if options.dev else _split(sentences)
    weight, perplexities = options.weight, None
    if weight is None:
        part = _estimate(kept, order=general.order)
        weight = min(best_weights([general, part], held_out)[1], MOST_WEIGHT)
        perplexities = (
            mixed_perplexity([general], [1.0], held_out),
            mixed_perplexity([general, part], [1 - weight, weight], held_out),
        )
        note(
            f"weight {weight:.2f}: perplexity {perplexities[0]:.0f} before, {perplexities[1]:.0f} after, "
            f"on {len(held_out)} other sentences"
        )
    adapted = interpolate([general, _estimate(sentences, order=general.order)], [1 - weight, weight])
    counts = Counter(word for sentence in sentences for word in sentence if word != UNKNOWN)
    new_words = tuple(word for word, _ in counts.most_common() if word not in general.vocabulary)
    result = Adaptation(
        sentences=len(sentences),
        words=sum(map(len, sentences)),
        weight=weight,
        perplexities=perplexities,
        new_words=new_words,
        not_spelled=tuple(word for word, _ in reader.not_spelled.most_common()),
    )
    provenance = {
        "from": start.name,
        "texts": [Path(path).name for path in texts],
        "sentences": result.sentences,
        "words": result.words,
        "weight": round(weight, 4),
    }
    old = Path(lm)  # it is left out if it is in the folder
    with replacing_folder(folder) as new:
        shutil.copytree(
            start, new, dirs_exist_ok=True, ignore=lambda inner, _: [old.name] if Path(inner) == old.parent else []
        )
        adapted.write(new / NGRAM_FILE)
        write_config(
            new,
            replace(
                config,
                decoding=replace_options(config.decoding, lm=NGRAM_FILE),
                provenance={**config.provenance, "adapted": provenance},
            ),
        )
    return result


@dataclass(eq=False)
class _Reader:
    """Reads sentences in the spelling of a model; words that it cannot spell become <unk>, and are counted."""

    alphabet: Alphabet
    spelling: TextOptions
    not_spelled: Counter[str] = field(default_factory=Counter)

    def read(self, path: str | os.PathLike[str]) -> Iterator[Sentence]:
        for text in read_sentences_of(path):
            words = normalize(text, self.spelling).split()
            unknown = [word for word in words if self.alphabet.spell(word) is None]
            self.not_spelled.update(unknown)
            if len(unknown) < len(words):
                yield [UNKNOWN if word in unknown else word for word in words]


def _split(sentences: Sequence[Sentence]) -> tuple[list[Sentence], list[Sentence]]:
    """Most of the sentences, and every tenth block of them."""
    size = min(BLOCK, max(1, len(sentences) // (2 * PARTS)))
    parts: tuple[list[Sentence], list[Sentence]] = ([], [])
    for number, sentence in enumerate(sentences):
        parts[number // size % PARTS == PARTS - 1].append(sentence)
    return parts


def _estimate(sentences: Sequence[Sentence], *, order: int) -> NgramModel:
    with warnings.catch_warnings():  # of texts that are too small to estimate discounts
        warnings.simplefilter("ignore", AsrWarning)
        return estimate_ngram(sentences, order=order)
