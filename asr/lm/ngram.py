"""N-gram language models: read from ARPA or packed files, scored from Python or from compiled code."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import sys
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from asr import ctc
from asr.compute.machine_code import Kernels
from asr.ctc.ngram_tables import ARRAY_TYPES, NgramTables, contiguous, field_values
from asr.errors import InputError
from asr.files.caches import open_cache, user_cache_folder, writing_cache
from asr.files.reading import Identity, identity
from asr.lm.arpa import END, START, read_arpa, write_arpa
from asr.lm.packed import SUFFIX, is_vocabulary, read_packed, write_packed
from asr.lm.tables import child_keys, is_sound, level_bounds, query_together

SPACE: Final = "<space>"
"""The space between words in models of characters, as in ESPnet and Kaldi's recipes."""

ENDINGS: Final = (".arpa", ".arpa.gz", SUFFIX)
"""The endings of n-gram models' names; ARPA files compressed by xz are read, too."""

_CACHE_FORMAT = 2
_CACHE_MAGIC = b"asr n-gram model"
_CACHE_FROM_BYTES = 1 << 18  # smaller files are read quickly
_PREFIX = 32  # bytes before the header
_NAME_LENGTH = 40  # characters of a file's name in the name of its cache
_NUMBERS = NgramTables._fields[len(ARRAY_TYPES) :]
_ALIGNMENT = 64


def _compiled_functions() -> Sequence[Any]:
    from asr.ctc.ngram_kernel import KERNELS

    return KERNELS


_kernels = Kernels(_compiled_functions, room=ctc)


@dataclass(frozen=True, eq=False)
class NgramModel:
    """An n-gram model over words, or over characters with `SPACE` for the space (see `characters`).

    Args:
        words: the vocabulary, by number; words[0] is <unk>.
        tables: the n-grams, as `asr.ctc.ngram_tables.query` takes them.
    """

    words: tuple[str, ...]
    tables: NgramTables

    @classmethod
    def read(cls, path: str | os.PathLike[str], *, cache: bool = True) -> NgramModel:
        """The model of an ARPA file, or of a packed file, whose name ends with .safetensors.

        Args:
            path: the file; `asr.lm.arpa.read_arpa` describes ARPA files.
            cache: store a large ARPA file in binary form in the user's cache folder (XDG_CACHE_HOME, else ~/.cache),
                and read it from there until the file changes; see `asr.files.reading.identity`. A damaged cache is
                written again, and one that other users can write is not used. Nothing is written beside the file.
        Raises:
            DataError: the file cannot be read or is wrong; see `read_arpa`.
        """
        if os.fspath(path).endswith(SUFFIX):
            return cls(*read_packed(path))
        try:
            key = identity(path)
        except (OSError, ValueError):
            return cls(*read_arpa(path))  # which raises the right error
        folder = user_cache_folder()
        if not cache or folder is None or key.size < _CACHE_FROM_BYTES:
            return cls(*read_arpa(path))
        digest = hashlib.sha256(os.fsencode(key.path)).hexdigest()[:16]
        cache_path = folder / "ngram" / f"{Path(key.path).name[:_NAME_LENGTH]}-{digest}.cache"
        with suppress(OSError, ValueError):
            return cls(*_read_cache(cache_path, key))
        model = cls(*read_arpa(path))
        with suppress(OSError):
            _write_cache(cache_path, key, model)
        return model

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the model in the format of the ending of its name.

        .safetensors is a packed file, a fraction of the size, rounded to half precision (`asr.lm.packed`). All others
        are ARPA files, compressed for .gz and .xz (`asr.lm.arpa.write_arpa`).
        """
        if os.fspath(path).endswith(SUFFIX):
            write_packed(path, self.words, self.tables)
        else:
            write_arpa(path, self.words, self.tables)

    @property
    def order(self) -> int:
        """The number of words in the longest n-grams."""
        return len(level_bounds(self.tables)) - 1

    @property
    def num_ngrams(self) -> tuple[int, ...]:
        """The number of n-grams of each length, single words first."""
        return tuple(np.diff(level_bounds(self.tables)).tolist())

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """The number of each word."""
        return {word: number for number, word in enumerate(self.words)}

    @cached_property
    def real_words(self) -> list[str]:
        """Its words without <unk>, <s> and </s>."""
        return [word for word in self.words[1:] if word not in (START, END)]

    @cached_property
    def space(self) -> str:
        """The space in a model of characters: `SPACE`, or `|` (flashlight, Hugging Face), or `▁`."""
        return next((word for word in (SPACE, "|", "▁") if word in self.vocabulary), SPACE)

    @cached_property
    def over_characters(self) -> bool:
        """Whether its words are characters: one code point each, except <unk>, <s>, </s> and the space."""
        return all(len(word) == 1 for word in self.real_words if word != self.space)

    def split(self, text: str) -> list[str]:
        """The words of a text, or its characters in a model of characters."""
        return characters(text, space=self.space) if self.over_characters else text.split()

    def encode(self, words: Sequence[str]) -> np.ndarray:
        """(n,) int32, the numbers of the words, 0 for unknown ones.

        Raises:
            InputError: a str came, not a sequence of them.
        """
        if isinstance(words, str):
            raise InputError(f"words must be a list of words, not one str; got {words[:40]!r}; split it first")
        return np.fromiter((self.vocabulary.get(word, 0) for word in words), np.int32, len(words))

    def score(self, words: Sequence[str], *, begin: bool = True, end: bool = True) -> np.ndarray:
        """Natural logarithm of the probability of each word given the words before it.

        Args:
            words: any words, without <s> and </s>; may be empty.
            begin: they follow the beginning of a sentence, <s>; otherwise the context is empty.
            end: count the end of the sentence, </s>, as a last word.
        Returns:
            (n,) or with `end` (n + 1,) float64.
        """
        numbers = self.encode(words)
        numbers = np.append(numbers, np.int32(self.tables.end_word)) if end else numbers
        tables, log_probs = contiguous(self.tables), np.empty(len(numbers))
        fields, state = field_values(tables), tables.start_state if begin else tables.empty_state
        _kernels["score_words"](fields.ctypes.data, state, numbers.ctypes.data, len(numbers), log_probs.ctypes.data)
        return log_probs

    def score_together(self, texts: Sequence[str], *, counted: Sequence[Sequence[bool]] | None = None) -> np.ndarray:
        """Natural log-probability of each text, from <s> to </s>: the sum of `score`.

        It is faster than `score` for many short texts, and needs no compiled code.

        Args:
            texts: not split.
            counted: for each text, whether each of its words (or characters) counts; </s> always does. None means all.
        Returns:
            (n,) float64.
        """
        rows = [np.append(self.encode(self.split(text)), self.tables.end_word) for text in texts]
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        order = np.argsort(-lengths, kind="stable")
        words = np.zeros((len(rows), lengths.max(initial=0)), np.int32)
        weights = np.ones(words.shape)
        for row, number in enumerate(order.tolist()):
            words[row, : lengths[number]] = rows[number]
            if counted is not None:
                weights[row, : lengths[number] - 1] = counted[number]
        totals, states = np.zeros(len(rows)), np.full(len(rows), self.tables.start_state, np.int64)
        for column in range(words.shape[1]):
            count = int((lengths > column).sum())
            log_probs, states = query_together(self.tables, self._keys, states[:count], words[:count, column])
            totals[order[:count]] += weights[:count, column] * log_probs
        return totals

    @cached_property
    def _keys(self) -> np.ndarray:
        return child_keys(self.tables)


def characters(text: str, *, space: str = SPACE) -> list[str]:
    """The words of a model of characters: each character of the text, `space` for a space."""
    return [space if character == " " else character for character in text]


# A cache is: magic (16 bytes), CRC-32 of all that follows and length of the header (8 bytes each, little-endian), the
# header in JSON, and the arrays, each at a multiple of _ALIGNMENT; words are an array of bytes, separated by newlines.


def _write_cache(path: Path, key: Identity, model: NgramModel) -> None:
    names = np.frombuffer("\n".join(model.words).encode(), np.uint8)
    arrays: list[np.ndarray] = [
        names,
        *(np.ascontiguousarray(getattr(model.tables, name), kind) for name, kind in ARRAY_TYPES.items()),
    ]
    numbers = [int(getattr(model.tables, name)) for name in _NUMBERS]
    header = json.dumps([_heading(key), numbers, [len(array) for array in arrays]]).encode()
    chunks: list[bytes | memoryview] = [
        len(header).to_bytes(8, "little"),
        header,
        bytes(-(_PREFIX + len(header)) % _ALIGNMENT),
    ]
    for array in arrays:
        chunks += [array.data.cast("B"), bytes(-array.nbytes % _ALIGNMENT)]
    checksum = 0
    for chunk in chunks:
        checksum = zlib.crc32(chunk, checksum)
    with writing_cache(path) as file:
        file.write(_CACHE_MAGIC + checksum.to_bytes(8, "little"))
        file.writelines(chunks)


def _read_cache(path: Path, key: Identity) -> tuple[tuple[str, ...], NgramTables]:
    """The content of `_write_cache`; ValueError unless it is complete, has this key, and its n-grams are consistent."""
    with open_cache(path) as file:
        # private pages: shared with other processes until one writes
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    if data[:16] != _CACHE_MAGIC or zlib.crc32(memoryview(data)[24:]) != int.from_bytes(data[16:24], "little"):
        raise ValueError("not a cache, or damaged")
    length = int.from_bytes(data[24:_PREFIX], "little")
    heading, numbers, sizes = json.loads(data[_PREFIX : _PREFIX + length])
    if heading != _heading(key):
        raise ValueError("the cache is of another file or format")
    arrays: list[Any] = []
    offset = _PREFIX + length
    for kind, size in zip((np.uint8, *ARRAY_TYPES.values()), sizes, strict=True):
        offset += -offset % _ALIGNMENT
        arrays.append(np.frombuffer(data, kind, size, offset))
        offset += arrays[-1].nbytes
    words = tuple(arrays[0].tobytes().decode().split("\n"))
    tables = NgramTables(*arrays[1:], *numbers)
    if len(words) != tables.num_words or not is_vocabulary(words) or not is_sound(tables):
        raise ValueError("the cache contradicts itself")
    return words, tables


def _heading(key: Identity) -> list[Any]:
    return [_CACHE_FORMAT, sys.byteorder, *key]
