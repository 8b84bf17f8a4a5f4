"""The sound of an epoch: recordings read, augmented and joined, the same in whatever process and order it is done."""

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
from asr.training.data import Example, compact

# Examples, perhaps silenced, with their waveforms.
Heard: TypeAlias = tuple[list[Example], list[np.ndarray]]


@dataclass(frozen=True)
class Recordings:
    """What is to be heard in a batch of an epoch; batches count from where the epoch goes on.

    The content of sound files that are in archives comes along.
    """

    epoch: int
    batch: int
    examples: Sequence[Example]
    sounds: Sounds = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """A function from examples to what is heard in an epoch; what is random depends on seed, epoch and ids alone.

    Args:
        options: how sound is changed.
        sample_rate: Hz of the waveforms.
        seed: of the training.
        noises, impulse_responses: sounds to change it with.
        phones: whether there is a second target.
    """

    options: AugmentOptions
    sample_rate: int
    seed: int
    noises: Sequence[np.ndarray]
    impulse_responses: Sequence[np.ndarray]
    phones: bool

    def __call__(self, recordings: Recordings) -> Heard:
        pairs = [self._recorded(example, recordings) for example in recordings.examples]
        return [example for example, _ in pairs], [waveform for _, waveform in pairs]

    def _recorded(self, example: Example, among: Recordings) -> tuple[Example, np.ndarray]:
        """One recording, or in its place as much of noise in which nothing is said."""
        rng = np.random.default_rng((self.seed, among.epoch, crc32(example.id.encode()), 1))
        if rng.random() < self.options.background_probability:
            num_samples = round(example.seconds * self.sample_rate)
            silent = replace(example, text="", labels=compact(()), phones=compact(()) if self.phones else None)
            return silent, background(num_samples, self.noises, rng)
        return example, np.concatenate([self._augmented(utterance, among) for utterance in example.utterances])

    def _augmented(self, utterance: Utterance, among: Recordings) -> np.ndarray:
        rng = np.random.default_rng((self.seed, among.epoch, crc32(utterance.id.encode())))
        waveform = read_waveform(utterance, self.sample_rate, sounds=among.sounds)
        waveform = augment_waveform(
            waveform, self.options, self.noises, self.impulse_responses, rng, sample_rate=self.sample_rate
        )
        return add_pause(waveform, round(self.options.pause_seconds * self.sample_rate), rng)


def heard_in_order(workers: Workers[Recordings, Heard], recordings: Iterable[Recordings]) -> Iterator[Heard]:
    """What is heard in batches 0, 1, 2 ..., from workers.

    Raises:
        WorkerDied: one of them was killed.
    """

    def living() -> Iterator[tuple[int, Heard]]:
        for task, outcome in workers.results(recordings):
            if isinstance(outcome, WorkerDied):
                raise WorkerDied(
                    "a process that reads sound", f"{outcome.how}; the same command goes on from the last checkpoint"
                )
            yield task.batch, outcome

    return in_order(living())


def in_worker(augmentation: Augmentation, number: int) -> Augmentation:
    """The augmentation, in a process of which there are as many as processors have to spare."""
    torch.set_num_threads(1)
    return augmentation
