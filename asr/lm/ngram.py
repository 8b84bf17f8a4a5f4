"""N-gram language models: read from ARPA or packed files, scored from Python or from compiled code."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import sys
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from asr.errors import InputError
from asr.files import replacing, user_cache_folder
from asr.lm.arpa import END, START, read_arpa, write_arpa
from asr.lm.packed import SUFFIX, read_packed, write_packed
from asr.lm.perplexity import TextScore
from asr.lm.tables import NgramTables, child_keys, level_bounds, query_together

SPACE: Final = "<space>"
"""What stands for the space between words in models of characters, as in ESPnet and Kaldi's recipes."""

ENDINGS: Final = (".arpa", ".arpa.gz", SUFFIX)
"""How the names of n-gram models end that are made here; ARPA files are read compressed by xz, too."""

_CACHE_FORMAT = 1
_CACHE_MAGIC = b"asr n-gram model"
_CACHE_FROM_BYTES = 1 << 18  # smaller files are read in no time, and need nothing beside them
_ALIGNMENT = 64


@dataclass(frozen=True, eq=False)
class NgramModel:
    """An n-gram model over words, or over characters with `SPACE` for the space (see `characters`).

    Args:
        words: the vocabulary, by number; words[0] is <unk>.
        tables: the n-grams, as `asr.lm.query.query` takes them.
    """

    words: tuple[str, ...]
    tables: NgramTables

    @classmethod
    def read(cls, path: str | os.PathLike[str], *, cache: bool = True) -> NgramModel:
        """The model of an ARPA file, or of a packed one, whose name ends with .safetensors.

        Args:
            path: the file; see `asr.lm.arpa.read_arpa` for what may be in it.
            cache: keep a large ARPA file in binary form, as PATH.cache or, where that cannot be written, in the user's
                cache folder (XDG_CACHE_HOME, else ~/.cache), and read it from there until the file changes its size
                or time. A damaged cache is written anew.
        Raises:
            DataError: the file cannot be read or is not right; see `read_arpa`.
        """
        if os.fspath(path).endswith(SUFFIX):
            return cls(*read_packed(path))
        try:
            status = os.stat(path)
        except OSError:
            return cls(*read_arpa(path))  # which says what is wrong
        if not cache or status.st_size < _CACHE_FROM_BYTES:
            return cls(*read_arpa(path))
        key = {
            "format": _CACHE_FORMAT,
            "byte_order": sys.byteorder,
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
        }
        for place in (places := _cache_places(path)):
            with suppress(OSError, ValueError, KeyError, TypeError):
                return cls(*_read_cache(place, key))
        model = cls(*read_arpa(path))
        for place in places:
            with suppress(OSError):
                _write_cache(place, key, model)
                break
        return model

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the model, as its name ends.

        With .safetensors a packed file, a fraction of the size, rounded to half precision (`asr.lm.packed`); else an
        ARPA file, compressed if the name ends with .gz or .xz (`asr.lm.arpa.write_arpa`).
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
        """How many n-grams there are of each length, single words first."""
        return tuple(np.diff(level_bounds(self.tables)).tolist())

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """The number of each word."""
        return {word: number for number, word in enumerate(self.words)}

    @cached_property
    def space(self) -> str:
        """What stands for the space in a model of characters: `SPACE`, or `|` (flashlight, Hugging Face), or `▁`."""
        return next((word for word in (SPACE, "|", "▁") if word in self.vocabulary), SPACE)

    @cached_property
    def over_characters(self) -> bool:
        """Whether its words are characters: each one code point, but for <unk>, <s>, </s> and the space."""
        return all(len(word) == 1 for word in self.words[1:] if word not in (START, END, self.space))

    def split(self, text: str) -> list[str]:
        """What a text is made of, for this model: its words, or its characters."""
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
        """Natural logarithm of the probability of each word after those before it.

        Args:
            words: any words, without <s> and </s>; may be empty.
            begin: they follow the beginning of a sentence, <s>; otherwise nothing is known of what was before.
            end: count the end of the sentence, </s>, as a last word.
        Returns:
            (n,) or with `end` (n + 1,) float64.
        Raises:
            InputError: a str came, not a sequence of them.
        """
        numbers = self.encode(words)
        return self._score(np.append(numbers, np.int32(self.tables.end_word)) if end else numbers, begin=begin)

    def score_together(self, texts: Sequence[str], *, counted: Sequence[Sequence[bool]] | None = None) -> np.ndarray:
        """Natural log-probability of each text, from <s> to </s>: what `score` sums up to.

        It takes less time than that for many short texts, and needs no numba, which is most of a second away.

        Args:
            texts: as they are.
            counted: for each text, whether each of its words (or characters) counts; </s> always does. None means all.
        Returns:
            (n,) float64.
        """
        rows = [np.append(self.encode(self.split(text)), self.tables.end_word) for text in texts]
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        order = np.argsort(-lengths, kind="stable")
        words = np.zeros((len(rows), lengths.max(initial=0)), np.int32)
        weights = np.ones(words.shape)
        for place, number in enumerate(order.tolist()):
            words[place, : lengths[number]] = rows[number]
            if counted is not None:
                weights[place, : lengths[number] - 1] = counted[number]
        totals, states = np.zeros(len(rows)), np.full(len(rows), self.tables.start_state, np.int64)
        for column in range(words.shape[1]):
            count = int((lengths > column).sum())
            log_probs, states = query_together(self.tables, self._keys, states[:count], words[:count, column])
            totals[order[:count]] += weights[:count, column] * log_probs
        return totals

    @cached_property
    def _keys(self) -> np.ndarray:
        return child_keys(self.tables)

    def _score(self, numbers: np.ndarray, *, begin: bool = True) -> np.ndarray:
        from asr.lm.query import query_sequence  # which loads numba: reading and writing do without

        return query_sequence(self.tables, self.tables.start_state if begin else self.tables.empty_state, numbers)

    def perplexity(self, sentences: Iterable[Sequence[str]]) -> TextScore:
        """What the model makes of a text; unknown words are counted, and cost what <unk> costs.

        Args:
            sentences: each a sequence of words, of a model over characters what `characters` gives.
        Raises:
            InputError: a sentence is a str.
        """
        total = TextScore()
        for sentence in sentences:
            numbers = self.encode(sentence)
            if self.over_characters:
                num_words = len("".join(" " if word == self.space else word for word in sentence).split())
                num_characters = len(sentence)
            else:
                num_words = len(sentence)
                num_characters = len(" ".join(sentence))
            total += TextScore(
                log_prob=float(self._score(np.append(numbers, np.int32(self.tables.end_word))).sum()),
                tokens=len(numbers) + 1,
                sentences=1,
                words=num_words,
                characters=num_characters,
                unknown=int((numbers == 0).sum()),
            )
        return total


def characters(text: str, *, space: str = SPACE) -> list[str]:
    """The words of a model of characters: each character of the text, `space` for a space."""
    return [space if character == " " else character for character in text]


def _cache_places(path: str | os.PathLike[str]) -> list[Path]:
    path = Path(path).absolute()
    places = [path.with_name(f"{path.name}.cache")]
    if folder := user_cache_folder():
        places.append(folder / "ngram" / f"{path.name}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}.cache")
    return places


# A cache is: magic (16 bytes), CRC-32 of all that follows and length of the header (8 bytes each, little-endian), the
# header in JSON, and the arrays, each at a multiple of _ALIGNMENT; words are an array of bytes, parted by newlines.


def _write_cache(place: Path, key: dict[str, Any], model: NgramModel) -> None:
    arrays = {"names": np.frombuffer("\n".join(model.words).encode(), np.uint8)}
    scalars: dict[str, int] = {}
    for name, value in model.tables._asdict().items():
        (arrays if isinstance(value, np.ndarray) else scalars)[name] = value
    kinds = {name: [array.dtype.str, len(array)] for name, array in arrays.items()}
    header = json.dumps({"key": key, "scalars": scalars, "arrays": kinds}).encode()
    chunks: list[bytes | memoryview] = [
        len(header).to_bytes(8, "little"),
        header,
        bytes(-(32 + len(header)) % _ALIGNMENT),
    ]
    for array in arrays.values():
        chunks += [np.ascontiguousarray(array).data.cast("B"), bytes(-array.nbytes % _ALIGNMENT)]
    checksum = 0
    for chunk in chunks:
        checksum = zlib.crc32(chunk, checksum)
    with replacing(place) as file:
        file.write(_CACHE_MAGIC + checksum.to_bytes(8, "little"))
        file.writelines(chunks)


def _read_cache(place: Path, key: dict[str, Any]) -> tuple[tuple[str, ...], NgramTables]:
    """What `_write_cache` wrote; ValueError, KeyError or TypeError unless it is whole and has that key."""
    with open(place, "rb") as file:
        # private pages: shared with other processes, and writable, since numba compiles anew for read-only arrays
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    if data[:16] != _CACHE_MAGIC:
        raise ValueError("not a cache")
    length = int.from_bytes(data[24:32], "little")
    header = json.loads(data[32 : 32 + length])
    if header["key"] != key:
        raise ValueError("the cache is of another file or format")
    if zlib.crc32(memoryview(data)[24:]) != int.from_bytes(data[16:24], "little"):
        raise ValueError("the cache is damaged")
    arrays: dict[str, Any] = {}
    offset = 32 + length
    for name, (kind, size) in header["arrays"].items():
        offset += -offset % _ALIGNMENT
        arrays[name] = np.frombuffer(data, kind, size, offset)
        offset += arrays[name].nbytes
    words = arrays.pop("names").tobytes().decode().split("\n")
    return tuple(words), NgramTables(**arrays, **header["scalars"])
