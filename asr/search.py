"""From what decoding options name, files of language models and words, to the beam search that uses them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from asr.ctc import beam
from asr.ctc.beam import LARGEST_SCORE, BeamSearch, LabelModel
from asr.ctc.hotwords import Hotwords
from asr.ctc.trie import Lexicon
from asr.decoding_options import HOTWORD_WEIGHT, DecodingOptions
from asr.errors import AsrWarning, DataError, InputError
from asr.files import Identity, identity, read_regular
from asr.text import BLANK, Alphabet, is_han

if TYPE_CHECKING:
    from asr.lm.ngram import NgramModel
    from asr.lm.rnn import LanguageModel

_WORDS_BYTES = 1 << 28  # of a lexicon or a list of hotwords: some ten million words
_last_seen: dict[str, Identity] = {}
_MODEL_FILES = ("config.json", "weights.safetensors")


def make_search(alphabet: Alphabet, options: DecodingOptions, *, device: str) -> tuple[BeamSearch, tuple[str, ...]]:
    """A search with the language model, lexicon and hotwords that the options name, and how those hotwords are spelled.

    Args:
        device: where a recurrent language model computes.
    Raises:
        DataError, InputError: as `asr.decoding.Decoder`.
    """
    _warm_up()
    lm = _read_lm(options.lm) if options.lm else None
    label_words = None
    if lm is not None and lm.over_characters and not options.lexicon:
        label_words = _label_words(lm, alphabet)
    words: Iterable[tuple[str, int]] = ()  # with their numbers
    if options.lexicon:
        words = ((word, _number(lm, word)) for word in _read_words(options.lexicon, alphabet))
    elif lm is not None and label_words is None:
        words = ((word, number) for number, word in enumerate(lm.words) if number)  # without <unk>
    spellings: dict[tuple[int, ...], int] = {}
    hotword_weights: dict[tuple[int, ...], float] = {}
    for word, number in words:
        if spelling := spell(word, alphabet):
            spellings.setdefault(spelling, number)
    for text, weight in _parse_hotwords(options.hotwords):
        spelling = spell(text, alphabet)
        if not spelling:
            characters = dict.fromkeys("".join(text.split()))
            missing = [repr(character) for character in characters if not spell(character, alphabet)]
            raise InputError(
                "hotwords must be spelled in the model's alphabet; "
                f"{text!r} has {', '.join(missing) or 'no characters'}"
            )
        hotword_weights[spelling] = max(weight, hotword_weights.get(spelling, 0.0))
        if spellings:  # what is expected is no unknown word
            for word in alphabet.decode(spelling).split():
                spellings.setdefault(spell(word, alphabet), _number(lm, word))
    labelled = list(enumerate(alphabet.characters, start=1))
    search = BeamSearch(
        num_labels=alphabet.size,
        blank=BLANK,
        options=options,
        delimiters=[label for label, character in labelled if character == " "],
        standalone=[label for label, character in labelled if is_han(character)],
        lexicon=Lexicon(list(spellings), list(spellings.values())) if spellings else None,
        lm=None if lm is None else lm.tables,
        label_words=label_words,
        label_model=_label_model(alphabet, options.fuse_lm, device) if options.fuse_lm else None,
        hotwords=Hotwords(list(hotword_weights), list(hotword_weights.values())) if hotword_weights else None,
    )
    return search, tuple(alphabet.decode(spelling) for spelling in hotword_weights)


def _label_model(alphabet: Alphabet, name: str, device: str) -> LabelModel:
    from asr.lm.fusion import CharacterFusion  # which loads torch

    return CharacterFusion(load_language_model(name, device), characters=alphabet.characters, blank=BLANK)


def _warm_up() -> None:
    """Loads the compiled search and aligner, or compiles them, and says so."""
    from asr.ctc import alignment

    said: list[None] = []

    def say() -> None:
        if not said:
            warnings.warn("compiling the beam search, once on this machine: some seconds", AsrWarning, stacklevel=2)
        said.append(None)

    beam.warm_up(say)
    alignment.warm_up(say)


def spell(text: str, alphabet: Alphabet) -> tuple[int, ...]:
    """The labels of a text, as it is or in the upper or lower case that the alphabet has; none if it lacks a character.

    White space counts as single spaces.
    """
    text = " ".join(text.split())
    for change in (str, str.upper, str.lower):
        if labels := alphabet.spell(change(text)):
            return labels
    return ()


def load_language_model(name: str, device: str) -> LanguageModel:
    """The recurrent language model of that name or folder, on the device."""
    from asr.device import find_device  # these load torch
    from asr.lm.rnn import LanguageModel, find_language_model

    return LanguageModel.load(find_language_model(name)).to(find_device(device))


def _read_lm(path: str) -> NgramModel:
    """The n-gram model of a file, which is read once, until the file changes."""
    return _read_version(path, *file_versions([path]))


@lru_cache(maxsize=4)
def _read_version(path: str, version: Identity | None) -> NgramModel:
    from asr.lm.ngram import NgramModel

    return NgramModel.read(path)


def named_files(options: DecodingOptions) -> list[str]:
    """All that decoding options name as files or folders; of a recurrent model's folder, the files in it."""
    names = [options.lm, options.lexicon, options.source_lm]
    names += [entry[1:] for entry in options.hotwords if entry.startswith("@")]
    for folder in filter(None, (options.fuse_lm, options.rescore_lm)):
        names += [os.path.join(folder, inner, file) for inner in ("", "lm") for file in _MODEL_FILES]
    return [name for name in names if name]


def file_versions(names: Iterable[str]) -> tuple[Identity | None, ...]:
    """What the files are just now: what was read of them holds for as long as this. One that is gone is unchanged."""
    return tuple(map(_version, names))


def _version(name: str) -> Identity | None:
    with suppress(OSError, ValueError):  # who reads it says what is wrong
        _last_seen[name] = identity(name)
    return _last_seen.get(name)


def read_source(path: str, alphabet: Alphabet) -> NgramModel:
    """The n-gram model of the characters that an acoustic model learnt to write.

    Raises:
        DataError: it cannot be read.
        InputError: it is of words, or lacks characters of the alphabet: texts with them would seem to be unheard of.
    """
    model = _read_lm(path)
    if not model.over_characters:
        raise InputError(f"source_lm must be an n-gram model of characters; {path} is of words")
    spelled = (model.space if character == " " else character for character in alphabet.characters)
    if missing := [character for character in spelled if character not in model.vocabulary]:
        raise InputError(
            f"source_lm must know all characters of the acoustic model, in the same case; {path} lacks "
            f"{', '.join(missing[:9])}{', ...' * (len(missing) > 9)}"
        )
    return model


def _number(lm: NgramModel | None, word: str) -> int:
    """The word's number in the language model, in whatever case; 0, <unk>, if it has none."""
    if lm is None:
        return 0
    return next((lm.vocabulary[form] for form in (word, word.upper(), word.lower()) if form in lm.vocabulary), 0)


def _label_words(lm: NgramModel, alphabet: Alphabet) -> np.ndarray:
    """(V,) the number of each label in a language model of characters; 0 for Φ, which has none."""
    spelled = (lm.space if character == " " else character for character in alphabet.characters)
    return np.array([0, *(_number(lm, character) for character in spelled)])


def _read_words(path: str, alphabet: Alphabet) -> list[str]:
    """The words of a lexicon file.

    Raises:
        DataError: it cannot be read, has no word, or a line is not one word spelled in the alphabet.
    """
    words = []
    for number, line in _lines(path):
        if len(line.split()) > 1:
            raise DataError(f"a line of a lexicon must be one word, not {line!r}", path=path, line=number)
        if not spell(line, alphabet):
            raise DataError(f"{line!r} cannot be spelled in the model's alphabet", path=path, line=number)
        words.append(line)
    if not words:
        raise DataError("a lexicon must have at least one word; it has none", path=path)
    return words


def _parse_hotwords(entries: Iterable[str]) -> Iterator[tuple[str, float]]:
    """Text and weight of each hotword; `@file` stands for the lines of a file, which names no other."""
    for entry in entries:
        if not entry.startswith("@"):
            yield _parse_hotword(entry)
            continue
        for number, line in _lines(entry[1:]):
            if line.startswith("@"):
                raise DataError(
                    f"a file of hotwords must not name another, as {line!r} does", path=entry[1:], line=number
                )
            yield _parse_hotword(line)


def _parse_hotword(entry: str) -> tuple[str, float]:
    text, colon, number = entry.rpartition(":")
    try:
        weight = float(number) if colon else HOTWORD_WEIGHT
    except ValueError:
        raise InputError(f"a hotword must be WORD or WORD:NATS; got {entry!r}") from None
    if not 0 < weight <= LARGEST_SCORE:
        raise InputError(
            f"the weight of a hotword must be finite and above 0 nats, {LARGEST_SCORE:g} at most; got {entry!r}"
        )
    return text if colon else entry, weight


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """Number and text of the lines that are not empty."""
    try:
        lines = read_regular(path, at_most=_WORDS_BYTES).decode("utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"this file of words cannot be read: {error.strerror}", path=path) from None
    except UnicodeDecodeError as error:
        raise DataError(f"a file of words must be UTF-8: {error}", path=path) from None
    except ValueError as error:  # a NUL in its name
        raise DataError(f"this file of words cannot be read: {error}", path=path) from None
    return ((number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip())
