"""Decode each file once, in several processes, and measure its stretches.

jobs (a file, its stretches) ──▶ processes: decode in blocks, measure ──▶ measurements, in any order
                                 a few jobs at a time, so memory does not grow with their number
"""

from __future__ import annotations

import hashlib
import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import soundfile

from asr.audio.libsndfile import HIGHEST_SAMPLE_RATE, LOWEST_SAMPLE_RATE, rate_range
from asr.audio.sound_files import sound_header
from asr.audio.waveform import LARGEST_SAMPLE, Waveform, read_audio, stream_channels
from asr.doctor.containers import flac_ends_early, ogg_damage
from asr.errors import AsrWarning, ChoiceWarning, DataError
from asr.processes import WorkerDied, Workers

WINDOW_SECONDS = 0.025  # over which the level is averaged
_SHORTEST_TOP = 3  # samples in a row at the extreme; without clipping, one or two reach it
_FULL_SCALE = 1 - 2.0**-13  # decoders of lossy formats overshoot, so clipped sound is not flat there
_FILES_PER_TASK = 8
_LONGEST_SECONDS = 60.0  # a longer stretch is measured, but not given to a model
_MAGIC = (
    b"RIFF", b"RIFX", b"RF64", b"riff", b"fLaC", b"OggS", b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"FORM",
    b".snd", b"NIST_1A", b"caff", b"#!AMR", b"\x1aE\xdf\xa3",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """A part of a file's channel to measure."""

    start_seconds: float
    duration_seconds: float
    channel: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A file to decode, and its stretches."""

    path: str
    stretches: tuple[Stretch, ...]  # the parts to measure
    model_rate: int | None = None  # sample rate of the waveforms to return, in Hz; None for no waveforms


@dataclass(frozen=True, kw_only=True, slots=True)
class FileFacts:
    """The facts about a file."""

    damage: str = ""  # the kind of its damage ("missing", "empty", "not-sound", "corrupt", "truncated"), or ""
    reason: str = ""  # details of the damage
    sample_rate: int = 0  # Hz, 0 if nothing could be decoded
    num_samples: int = 0  # decoded, per channel
    num_channels: int = 0  # 0 if nothing could be decoded

    @property
    def duration_seconds(self) -> float:
        return self.num_samples / self.sample_rate if self.sample_rate else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class SoundFacts:
    """The measurements of a stretch; full scale is 1."""

    num_samples: int  # at the file's rate
    peak: float  # the largest magnitude
    offset: float  # the mean
    level: float  # root mean square about the mean
    loudest: float  # the largest level of any 25 ms
    clipped: float  # share of the samples that are flat at an extreme, 0 .. 1
    invalid: int  # samples that are not finite, or too large for `read_audio`; other measurements ignore them
    digest: bytes  # of the samples as 16-bit integers; stretches with equal digests are the same sound


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """The result of a job: facts of the file, and facts and waveforms of its stretches, None without samples."""

    file: FileFacts
    sounds: tuple[SoundFacts | None, ...]
    waveforms: tuple[Waveform | None, ...]


def decibels(amplitude: float) -> float:
    """dB of full scale; -inf for silence."""
    return 20 * math.log10(amplitude) if amplitude > 0 else -math.inf


def listen_to_all(jobs: Sequence[Job], *, processes: int) -> Iterator[tuple[int, Measurement]]:
    """The measurement of each job, with the number of the job, in the order of completion.

    A file that kills its decoding process is corrupt. With one process, this one decodes.
    """
    if processes == 1:
        yield from enumerate(map(listen, jobs))
        return
    numbers = range(len(jobs))
    tasks = [numbers[begin : begin + _FILES_PER_TASK] for begin in range(0, len(jobs), _FILES_PER_TASK)]
    with Workers(_make_listener, processes=min(processes, max(len(tasks), 1))) as workers:
        suspects: list[int] = []
        for task, result in workers.results([(number, jobs[number]) for number in task] for task in tasks):
            if isinstance(result, WorkerDied):
                suspects += (number for number, _ in task)
            else:
                yield from result
        for task, result in workers.results([(number, jobs[number])] for number in suspects):
            if isinstance(result, WorkerDied):
                ((number, job),) = task
                file = FileFacts(damage="corrupt", reason=f"decoding it kills the process: {result}")
                nothing = (None,) * len(job.stretches)
                yield number, Measurement(file=file, sounds=nothing, waveforms=nothing)
            else:
                yield from result


def _make_listener(number: int) -> Callable[[list[tuple[int, Job]]], list[tuple[int, Measurement]]]:
    return _listen_to_some


def _listen_to_some(task: list[tuple[int, Job]]) -> list[tuple[int, Measurement]]:
    return [(number, listen(job)) for number, job in task]


def listen(job: Job) -> Measurement:
    """Decode a file once, and measure its stretches; errors of the file are in the result."""
    meters: list[_Meter] = []
    rate = num_samples = num_channels = 0
    error = ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AsrWarning)
        try:
            with closing(stream_channels(job.path)) as blocks:
                for block_rate, block in blocks:
                    if not num_samples:
                        rate, num_channels = block_rate, block.shape[1]
                        if not LOWEST_SAMPLE_RATE <= rate <= HIGHEST_SAMPLE_RATE:
                            raise DataError(
                                f"the sample rate must be {rate_range()}; its header states {rate}", path=job.path
                            )
                        meters = [_Meter(stretch, rate, job.model_rate) for stretch in job.stretches]
                    elif (block_rate, block.shape[1]) != (rate, num_channels):
                        raise DataError(f"its rate or channels change after {num_samples / rate:.3f} s", path=job.path)
                    planar = np.ascontiguousarray(block.T)
                    for meter in meters:
                        meter.add(planar, num_samples)
                    num_samples += len(block)
        except DataError as problem:
            error = str(problem)
    notes = [str(warning.message) for warning in caught if not issubclass(warning.category, ChoiceWarning)]
    damage, reason = _damage(job.path, error, notes, decoded=num_samples > 0)
    file = FileFacts(damage=damage, reason=reason, sample_rate=rate, num_samples=num_samples, num_channels=num_channels)
    return Measurement(
        file=file,
        sounds=tuple(meter.facts() for meter in meters) or (None,) * len(job.stretches),
        waveforms=tuple(meter.waveform() for meter in meters) or (None,) * len(job.stretches),
    )


def _damage(path: str, error: str, notes: list[str], *, decoded: bool) -> tuple[str, str]:
    """The kind of a file's damage and the reason, both empty if there is none."""
    error, *notes = (text.removeprefix(f"{path}: ") for text in (error, *notes))
    if not os.path.isfile(path):
        return "missing", "there is no such file" if not os.path.exists(path) else "it is not a file"
    if os.path.getsize(path) == 0:
        return "empty", "the file has no bytes"
    try:
        with open(path, "rb") as file:
            head = file.read(12)
    except OSError as problem:
        return "missing", f"it cannot be opened: {problem.strerror}"
    if head.startswith(b"OggS") and (damage := ogg_damage(path))[0]:
        return damage
    if error and not decoded:
        if _states_no_samples(path):
            return "empty", "the file has a header, but no samples"
        return "corrupt" if head.startswith(_MAGIC) or head[4:8] == b"ftyp" else "not-sound", error
    if error:
        return "corrupt", error
    if notes and head.startswith(b"fLaC") and not flac_ends_early(path):
        return "corrupt", "; ".join(notes)
    return ("truncated", "; ".join(notes)) if notes else ("", "")


def _states_no_samples(path: str) -> bool:
    try:
        return sound_header(path).num_samples == 0
    except soundfile.LibsndfileError:
        return False


class _Meter:
    """Measures one stretch, block by block."""

    def __init__(self, stretch: Stretch, rate: int, model_rate: int | None):
        self.channel = stretch.channel
        self.rate, self.model_rate = rate, model_rate
        self.start = round(stretch.start_seconds * rate)
        self.end = self.start + max(1, round(stretch.duration_seconds * rate))
        self.window = max(1, round(WINDOW_SECONDS * rate))
        self.blocks: list[Waveform] | None = None
        if model_rate is not None and self.end - self.start <= _LONGEST_SECONDS * rate:
            self.blocks = []
        self.digest = hashlib.blake2b(digest_size=16)
        self.num_samples = self.num_invalid = self.num_full = 0
        self.sum = self.squares = self.loudest = 0.0
        self.tops = [0.0, 0.0]  # the highest sample, and the negated lowest
        self.num_flat = [0, 0]  # samples in runs at these extremes

    def add(self, planar: Waveform, position: int) -> None:
        """Measure the part of the stretch in a block (channels, n) that begins at sample `position` of the file."""
        if self.channel >= len(planar) or self.end <= position or self.start >= position + planar.shape[1]:
            return
        samples = planar[self.channel, max(self.start - position, 0) : self.end - position]
        valid = np.abs(samples) <= LARGEST_SAMPLE  # false for NaN
        self.num_samples += len(samples)
        if not valid.all():
            self.num_invalid += int(len(samples) - np.count_nonzero(valid))
            samples = np.where(valid, samples, np.float32(0))
        if self.blocks is not None:
            self.blocks.append(samples)
        self.digest.update(np.rint(np.clip(samples * 2.0**15, -(2.0**15), 2.0**15 - 1)).astype("<i2").tobytes())

        exact = samples.astype(np.float64)
        self.sum += float(exact.sum())
        self.squares += float(exact @ exact)
        whole = len(exact) // self.window * self.window
        frames = exact[:whole].reshape(-1, self.window) if whole else exact[None]
        self.loudest = max(self.loudest, float(frames.std(axis=1).max()))
        self.num_full += int(np.count_nonzero(np.abs(samples) >= _FULL_SCALE))
        for side, signed in enumerate((samples, -samples)):
            top = float(signed.max())
            if top > self.tops[side]:
                self.tops[side], self.num_flat[side] = top, 0
            if top == self.tops[side]:
                self.num_flat[side] += _num_in_runs(np.flatnonzero(signed >= top))

    def facts(self) -> SoundFacts | None:
        """The measurements; None if the stretch has no samples."""
        if not self.num_samples:
            return None
        offset = self.sum / self.num_samples
        return SoundFacts(
            num_samples=self.num_samples,
            peak=max(self.tops),
            offset=offset,
            level=math.sqrt(max(self.squares / self.num_samples - offset**2, 0.0)),
            loudest=self.loudest,
            clipped=max(sum(self.num_flat), self.num_full) / self.num_samples,
            invalid=self.num_invalid,
            digest=self.digest.digest(),
        )

    def waveform(self) -> Waveform | None:
        """The stretch at the model's rate; None if not needed or too long."""
        if not self.blocks or self.model_rate is None:
            return None
        return read_audio((np.concatenate(self.blocks), self.rate), sample_rate=self.model_rate)


def _num_in_runs(positions: np.ndarray) -> int:
    """The number of ascending sample positions in runs of at least `_SHORTEST_TOP`."""
    if len(positions) < _SHORTEST_TOP:
        return 0
    lengths = np.diff(np.flatnonzero(np.diff(positions, prepend=-2, append=positions[-1] + 2) != 1))
    return int(lengths[lengths >= _SHORTEST_TOP].sum())
