"""What the network of marks and case sees of a word: its number in a vocabulary, its characters, the pause after it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np

from asr.errors import InputError
from asr.options import check_options, option

KIND: Final = "readable model"
MOST_GRAMS = 24  # of a word: enough for 13 letters
_LONGEST_PAUSE = 2.0  # seconds; longer ones count as this


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Shape of the network."""

    embedding_size: int = option(112, "width of the embeddings of words and of their characters", least=1, most=4096)
    buckets: int = option(8192, "rows that the groups of characters share", least=1, most=1 << 20)
    hidden_size: int = option(128, "units of each direction of each layer", least=1, most=4096)
    num_layers: int = option(2, "bidirectional layers", least=1, most=16)
    case_size: int = option(64, "units between the layers and the case", least=1, most=4096)
    dropout: float = option(0.2, "dropout before each layer and after the last", least=0, below=1)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class ReadableConfig:
    """Everything about the model except its weights: the content of config.json.

    Args:
        entries: the frequent words, in lower case.
        mixed: words with capitals inside, by their lower case: mcdonald -> McDonald.
        network: its shape.
        name: its name.
        description: its purpose, in a sentence.
        provenance: data, licence, seed and measured scores, as JSON values.
    Raises:
        InputError: an entry occurs twice.
    """

    entries: tuple[str, ...]
    mixed: Mapping[str, str] = field(default_factory=dict)
    network: NetworkOptions = field(default_factory=NetworkOptions)
    name: str = ""
    description: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.numbers) != len(self.entries):
            raise InputError(f"entries must be different words; {len(self.entries) - len(self.numbers)} occur again")

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each frequent word, from 1; 0 is any other word."""
        return {word: number for number, word in enumerate(self.entries, start=1)}


def character_grams(word: str, buckets: int) -> list[int]:
    """Numbers in 1 .. buckets for each three and four characters of <word>, at most `MOST_GRAMS`.

    Different groups may share a number: its row learns from all of them.
    Source: Bojanowski et al. 2017, "Enriching Word Vectors with Subword Information", section 3.2.
    """
    padded = f"<{word}>"
    grams = [padded[start : start + size] for start in range(len(padded) - 2) for size in (3, 4)]
    return [zlib.crc32(gram.encode()) % buckets + 1 for gram in dict.fromkeys(grams)][:MOST_GRAMS]


def encode(words: Sequence[str], config: ReadableConfig) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (T,) of the words, and of the groups of their characters (T, P), filled up with 0; both int64."""
    grams = [character_grams(word, config.network.buckets) for word in words]
    padded = np.zeros((len(words), max(map(len, grams), default=1)), dtype=np.int64)
    for row, numbers in zip(padded, grams, strict=True):
        row[: len(numbers)] = numbers
    return np.array([config.numbers.get(word, 0) for word in words], dtype=np.int64), padded


def pause_features(seconds: np.ndarray) -> np.ndarray:
    """(..., 2) float32 of the pauses after words (...), in seconds; NaN if they are unknown.

    Whether it is known, and the square root, which separates short pauses.
    """
    known = ~np.isnan(seconds)
    roots = np.sqrt(np.clip(np.where(known, seconds, 0.0), 0.0, _LONGEST_PAUSE))
    return np.stack([known, roots], axis=-1).astype(np.float32)
