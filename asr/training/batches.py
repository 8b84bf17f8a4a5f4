"""Batches: waveforms and labels, padded, and prepared in advance."""

from __future__ import annotations

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
from torch.nn.utils.rnn import pad_sequence

from asr.acoustic.model import pad_waveforms
from asr.data.manifest import Utterance
from asr.data.shards import read_sounds
from asr.data.waveforms import Sounds, read_waveform
from asr.training.examples import Example

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Waveforms (B, N), padded with zeros, with their lengths and examples."""

    examples: tuple[Example, ...]
    waveforms: Tensor
    lengths: Tensor

    def targets(self) -> tuple[Tensor, Tensor]:
        """Labels (B, U), padded with zeros, and their lengths (B,)."""
        return pad_labels([example.labels for example in self.examples])


def make_batch(examples: Sequence[Example], waveforms: Sequence[np.ndarray]) -> Batch:
    """The batch of examples and their waveforms; empty if there are more processes than rows."""
    padded, lengths = pad_waveforms(waveforms) if waveforms else (torch.zeros(0, 0), torch.zeros(0, dtype=torch.int64))
    return Batch(examples=tuple(examples), waveforms=padded, lengths=lengths)


def pad_labels(labels: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """(B, U) int64, padded with zeros, and lengths (B,) int64."""
    lengths = torch.tensor([len(row) for row in labels])
    return pad_sequence([torch.tensor(row, dtype=torch.int64) for row in labels], batch_first=True), lengths


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
    """Each batch of each window with its sounds from archives; the next window is read while one is used."""
    stopped = Event()  # otherwise a caller that stops would wait until whole archives have been read

    def read(window: Sequence[Item]) -> tuple[Sequence[Item], Sounds]:
        return window, read_sounds(chain.from_iterable(map(utterances_of, window)), stopped=stopped.is_set)

    try:
        for window, sounds in prefetch(read, windows, depth=1):
            for batch in window:
                archived = (utterance for utterance in utterances_of(batch) if utterance.archive)
                yield batch, {utterance.place: sounds[utterance.place] for utterance in archived}
    finally:
        stopped.set()


def plain_batches(windows: Iterable[Sequence[list[Example]]], sample_rate: int) -> Iterator[Batch]:
    """Batches of examples of one utterance each, without augmentation."""

    def prepare(batch: tuple[list[Example], Sounds]) -> Batch:
        examples, sounds = batch
        utterances = [example.utterances[0] for example in examples]
        return make_batch(examples, [read_waveform(utterance, sample_rate, sounds=sounds) for utterance in utterances])

    return prefetch(prepare, with_sounds(windows, lambda batch: (example.utterances[0] for example in batch)))
