"""The sound of an epoch: recordings read, augmented and joined, with the same result in any process and order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias
from zlib import crc32

import numpy as np
import torch

from asr.data.manifest import Utterance
from asr.data.waveforms import Sounds, read_waveform
from asr.processes import WorkerDied, Workers, in_order
from asr.training.augmentation import AugmentOptions, add_pause, augment_waveform, background
from asr.training.examples import Example, compact

AugmentedRows: TypeAlias = tuple[list[Example], list[np.ndarray]]
"""Examples with their waveforms; an example replaced by noise has no text."""


@dataclass(frozen=True)
class Recordings:
    """The examples of a batch of an epoch, and the content of their sound files that are in archives.

    Batches are numbered from the one at which the epoch resumes.
    """

    epoch: int
    batch: int
    examples: Sequence[Example]
    sounds: Sounds = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """A function from examples to augmented waveforms; random choices depend on seed, epoch and ids alone."""

    options: AugmentOptions
    sample_rate: int
    seed: int
    noises: Sequence[np.ndarray]
    impulse_responses: Sequence[np.ndarray]
    phones: bool

    def __call__(self, recordings: Recordings) -> AugmentedRows:
        pairs = [self._recorded(example, recordings) for example in recordings.examples]
        return [example for example, _ in pairs], [waveform for _, waveform in pairs]

    def _recorded(self, example: Example, batch: Recordings) -> tuple[Example, np.ndarray]:
        """One recording, or noise of the same length without speech."""
        rng = np.random.default_rng((self.seed, batch.epoch, crc32(example.id.encode()), 1))
        if rng.random() < self.options.background_probability:
            num_samples = round(example.seconds * self.sample_rate)
            silent = replace(example, text="", labels=compact(()), phones=compact(()) if self.phones else None)
            return silent, background(num_samples, self.noises, rng)
        return example, np.concatenate([self._augmented(utterance, batch) for utterance in example.utterances])

    def _augmented(self, utterance: Utterance, batch: Recordings) -> np.ndarray:
        rng = np.random.default_rng((self.seed, batch.epoch, crc32(utterance.id.encode())))
        waveform = read_waveform(utterance, self.sample_rate, sounds=batch.sounds)
        waveform = augment_waveform(
            waveform, self.options, self.noises, self.impulse_responses, rng, sample_rate=self.sample_rate
        )
        return add_pause(waveform, round(self.options.pause_seconds * self.sample_rate), rng)


def rows_in_order(
    workers: Workers[Recordings, AugmentedRows], recordings: Iterable[Recordings]
) -> Iterator[AugmentedRows]:
    """The rows of batches 0, 1, 2 ..., from workers."""

    def rows() -> Iterator[tuple[int, AugmentedRows]]:
        for task, outcome in workers.results(recordings):
            if isinstance(outcome, WorkerDied):
                raise WorkerDied(
                    "a process that reads sound", f"{outcome.how}; the same command resumes from the last checkpoint"
                )
            yield task.batch, outcome

    return in_order(rows())


def augmentation_of_worker(augmentation: Augmentation, number: int) -> Augmentation:
    """The augmentation, for a worker: it uses one thread, as there are many workers."""
    torch.set_num_threads(1)
    return augmentation
