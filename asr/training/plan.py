"""The plan of an epoch: which utterances are in which batch, in which order.

It is a pure function of (seed, epoch): a run that resumes in the middle of an epoch skips the batches that are done.

utterances ─▶ windows of a few archives ─▶ recordings of one or more utterances ─▶ batches of similar length
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import TypeAlias, TypeVar

import numpy as np

from asr.training.config import DataOptions
from asr.training.distributed import num_processes, rank
from asr.training.examples import Example

Item = TypeVar("Item")
PlannedBatch: TypeAlias = list[tuple[int, ...]]
"""Recordings, each the numbers of the utterances that follow each other in it."""


def plan_epoch(examples: Sequence[Example], data: DataOptions, *, seed: int, epoch: int) -> list[list[PlannedBatch]]:
    """Windows of batches; the very first batch has the longest recording, so that a lack of memory shows at once."""
    rng = np.random.default_rng((seed, epoch))
    seconds = np.array([example.seconds for example in examples])
    archives = [example.utterances[0].archive for example in examples]
    windows, longest = [], []
    for window in plan_windows(archives, together=data.shards_together, rng=rng):
        joins = plan_joins(seconds[window], probability=data.join_probability, max_seconds=data.max_seconds, rng=rng)
        recordings = [tuple(window[list(join)].tolist()) for join in joins]
        totals = np.array([seconds[list(recording)].sum() for recording in recordings])
        batches = plan_batches(totals, batch_seconds=data.batch_seconds, rng=rng)
        if epoch == 0:
            batches.sort(key=lambda batch: totals[batch].max() < totals.max())
        windows.append([[recordings[index] for index in batch] for batch in batches])
        longest.append(totals.max())
    if epoch == 0:
        windows.insert(0, windows.pop(int(np.argmax(longest))))
    return windows


def plan_evaluation(examples: Sequence[Example], data: DataOptions) -> list[list[list[Example]]]:
    """Windows of batches of similar length; the longest example comes first, in each window and of all."""
    seconds = np.array([example.seconds for example in examples])
    archives = [example.utterances[0].archive for example in examples]
    windows = []
    for window in plan_windows(archives, together=data.shards_together, rng=None):
        plan = plan_batches(seconds[window], batch_seconds=2 * data.batch_seconds, rng=None)
        windows.append([[examples[index] for index in window[batch]] for batch in plan])
    return sorted(windows, key=lambda batches: -batches[0][0].seconds)


def largest_batch(windows: Sequence[Sequence[PlannedBatch]], examples: Sequence[Example]) -> PlannedBatch:
    """The batch with most seconds of sound, padding counted."""
    seconds = [example.seconds for example in examples]

    def padded(batch: PlannedBatch) -> float:
        return len(batch) * max(sum(seconds[index] for index in recording) for recording in batch)

    return max(chain.from_iterable(windows), key=padded)


def without_first(windows: Sequence[Sequence[Item]], count: int) -> Iterator[Sequence[Item]]:
    """The windows without their first `count` batches; empty windows are left out."""
    for window in windows:
        if len(window) > count:
            yield window[count:]
        count = max(count - len(window), 0)


def shared_out(windows: Sequence[Sequence[Item]]) -> list[list[Item]]:
    """The batches of this process, every n-th of all, by window: each process has the same number."""
    numbered = enumerate(chain.from_iterable(windows))
    return [
        [batch for (number, batch) in islice(numbered, len(batches)) if number % num_processes() == rank()]
        for batches in windows
    ]


def plan_windows(archives: Sequence[str], *, together: int, rng: np.random.Generator | None) -> list[np.ndarray]:
    """Divide utterances into windows of a few archives; one window is read while the one before is used.

    Args:
        archives: (n,) the archive of each utterance; "" for a file of its own, which can be in any window.
        together: largest number of archives in a window.
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
    """Join utterances into recordings: a model trained on single utterances fails on several in a row.

    Args:
        seconds: (n,) duration of each utterance.
        probability: that an utterance is followed by another one, if both fit.
        max_seconds: longest recording.
        rng: decides which utterances follow each other.
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
    """Group utterances of similar length into batches of at most `batch_seconds`, padding counted.

    Args:
        seconds: (n,) duration of each utterance.
        batch_seconds: limit for the longest utterance of a batch x its size; a single utterance always fits.
        rng: shuffles neighbours in length, and the order of batches; None: longest first.
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
