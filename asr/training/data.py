"""From manifests to batches: examples, the plan of an epoch, and a thread that prepares the next batches.

What an epoch holds is a pure function of (seed, epoch): which batches, in which order, and how each utterance is
augmented. A run that resumes in the middle of an epoch only has to skip the batches it has seen.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from threading import Event
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from asr.acoustic.model import pad_waveforms
from asr.data.manifest import Utterance, is_manifest, read_manifest
from asr.data.shards import read_shards, read_sounds
from asr.data.waveforms import Sounds
from asr.errors import DataError
from asr.files.remote import is_url

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One utterance, or several that follow each other in one recording, with the targets.

    Targets are arrays, a quarter of a gigabyte less for a corpus as long as LibriSpeech.
    """

    utterances: tuple[Utterance, ...]
    text: str
    labels: array[int]
    phones: array[int] | None = None

    @property
    def id(self) -> str:
        """The id of the utterance, or those of all with + between them."""
        return "+".join(utterance.id for utterance in self.utterances)

    @property
    def seconds(self) -> float:
        """Duration of all utterances."""
        return sum(utterance.duration_seconds for utterance in self.utterances)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Waveforms (B, N), zeros behind each one's length, and what is said in them."""

    examples: tuple[Example, ...]
    waveforms: Tensor
    lengths: Tensor

    def targets(self) -> tuple[Tensor, Tensor]:
        """Labels (B, U), zeros behind each one's length, and the lengths (B,)."""
        return pad_labels([example.labels for example in self.examples])


def make_batch(examples: Sequence[Example], waveforms: Sequence[np.ndarray]) -> Batch:
    """The batch of some examples and their waveforms; there may be none, where processes outnumber the rows."""
    padded, lengths = pad_waveforms(waveforms) if waveforms else (torch.zeros(0, 0), torch.zeros(0, dtype=torch.int64))
    return Batch(examples=tuple(examples), waveforms=padded, lengths=lengths)


def read_utterances(sources: Sequence[str]) -> list[Utterance]:
    """The utterances of manifests and folders of shards, one after the other; their audio files or archives exist.

    Raises:
        ConfigError: a package for the URL of a folder is not installed.
        DataError: a source cannot be read, or there is no utterance in any of them.
    """
    utterances: list[Utterance] = []
    for source in sources:
        if is_manifest(source) and is_url(source):
            raise DataError("a manifest must be a file on a disk; only folders of shards can be URLs", path=source)
        utterances += read_manifest(source, check_audio=True) if is_manifest(source) else read_shards(source)
    if not utterances:
        raise DataError("manifests must hold utterances, but there are none", path=", ".join(sources))
    return utterances


def plan_windows(archives: Sequence[str], *, together: int, rng: np.random.Generator | None) -> list[np.ndarray]:
    """Which utterances are mixed with each other: those of a few archives, which are read before the next ones are.

    Args:
        archives: (n,) the archive of each utterance; "" for a file of its own, which can be in any window.
        together: most archives in a window.
        rng: shuffles the archives, and the other utterances over the windows; None keeps their order.
    Returns:
        Arrays of indices into `archives`, one for each window; each index is in one of them.
    """
    names = list(dict.fromkeys(name for name in archives if name))
    if len(names) <= together:
        return [np.arange(len(archives))]
    loose = np.array([index for index, name in enumerate(archives) if not name], dtype=np.int64)
    if rng is not None:
        rng.shuffle(names)
        rng.shuffle(loose)
    number_of = {name: number // together for number, name in enumerate(names)}
    numbers = np.array([number_of.get(name, -1) for name in archives])
    parts = np.array_split(loose, numbers.max() + 1)
    return [np.append(np.flatnonzero(numbers == number), part) for number, part in enumerate(parts)]


def plan_joins(
    seconds: np.ndarray, *, probability: float, max_seconds: float, rng: np.random.Generator
) -> list[tuple[int, ...]]:
    """Which utterances follow each other in one recording: a model that only ever heard one fails on many.

    Args:
        seconds: (n,) duration of each utterance.
        probability: that an utterance is followed by another one, as long as both fit.
        max_seconds: most seconds of a recording.
        rng: decides who follows whom.
    Returns:
        Tuples of indices into `seconds`; each index is in one of them.
    """
    recordings: list[tuple[int, ...]] = []
    total = 0.0
    for index in map(int, rng.permutation(len(seconds))):
        if rng.random() < probability and recordings and total + seconds[index] <= max_seconds:
            recordings[-1] += (index,)
            total += seconds[index]
        else:
            recordings.append((index,))
            total = seconds[index]
    return recordings


def plan_batches(seconds: np.ndarray, *, batch_seconds: float, rng: np.random.Generator | None) -> list[np.ndarray]:
    """Which utterances go together: batches of similar length, at most `batch_seconds` each, padding counted.

    Args:
        seconds: (n,) duration of each utterance.
        batch_seconds: most seconds of a batch, as its longest utterance x its size; one utterance always fits.
        rng: shuffles which neighbours in length go together, and the order of batches; None gives longest first.
    Returns:
        Arrays of indices into `seconds`; each index is in one of them.
    """
    jitter = np.zeros(len(seconds)) if rng is None else rng.uniform(-0.1, 0.1, len(seconds))
    batches: list[list[int]] = []
    longest = 0.0
    for index in np.argsort(-seconds * (1.0 + jitter), kind="stable"):
        longest = max(longest, seconds[index])
        if not batches or longest * (len(batches[-1]) + 1) > batch_seconds:
            batches.append([])
            longest = seconds[index]
        batches[-1].append(int(index))
    if rng is not None:
        rng.shuffle(batches)
    return [np.array(batch) for batch in batches]


def compact(labels: Iterable[int]) -> array[int]:
    """Labels as an example has them."""
    return array("i", labels)


def pad_labels(labels: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """(B, U) int64, zeros behind each sequence, and lengths (B,) int64."""
    lengths = torch.tensor([len(row) for row in labels])
    padded = torch.zeros(len(labels), int(lengths.max()), dtype=torch.int64)
    for row, sequence in zip(padded, labels, strict=True):
        row[: len(sequence)] = torch.tensor(sequence)
    return padded, lengths


def prefetch(function: Callable[[Item], Result], items: Iterable[Item], *, depth: int = 4) -> Iterator[Result]:
    """`function` of each item, in order, computed up to `depth` items ahead in a thread."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def with_sounds(
    windows: Iterable[Sequence[Item]], utterances_of: Callable[[Item], Iterable[Utterance]]
) -> Iterator[tuple[Item, Sounds]]:
    """Each batch of each window with what it needs of archives; while one window is used, the next is read.

    Args:
        windows: batches of any kind; see `plan_windows`.
        utterances_of: what such a batch holds.
    """
    stopped = Event()  # or who stops would wait until whole archives have been read

    def read(window: Sequence[Item]) -> tuple[Sequence[Item], Sounds]:
        return window, read_sounds(chain.from_iterable(map(utterances_of, window)), stopped=stopped.is_set)

    try:
        for window, sounds in prefetch(read, windows, depth=1):
            for batch in window:
                yield batch, {each.place: sounds[each.place] for each in utterances_of(batch) if each.archive}
    finally:
        stopped.set()
