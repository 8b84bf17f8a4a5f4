"""The states of a pretrained encoder behind its frozen layers, computed once and stored on disk.

utterance, variant ─▶ on disk? ─yes─▶ states (T, S) float16, their checksum compared
                         └─no─▶ waveform ─▶ augmentation of the variant ─▶ frozen layers ─▶ disk

The name of a cache's folder is a digest of the frozen layers' weights, the options of augmentation, the noises and the
seed. Each process, also of another run, appends to files of its own, which it locks, and reads all once an epoch. A
line is added to the index after the states are written; after a kill, only states without a line are computed again.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import torch

from asr.acoustic.pretrained import PretrainedFrontend
from asr.compute.device import autocast
from asr.data.manifest import Utterance
from asr.data.waveforms import Sounds, read_waveform
from asr.errors import DataError
from asr.files.locks import locked
from asr.options import to_json
from asr.training.distributed import num_processes
from asr.training.examples import Example
from asr.training.sound import Augmentation, Recordings

BYTES = np.dtype(np.float16).itemsize


class _Entry(NamedTuple):
    file: Path
    start: int  # in frames
    num_frames: int
    checksum: int


@dataclass(kw_only=True)
class FeatureCache:
    """States of utterances by variant; variant 0 is not augmented.

    Args:
        folder: of this cache; see `cache_folder`.
        frontend: the encoder, of which the first layers or all are frozen.
        augmentation: makes variant n of an utterance as it would augment it in epoch n.
        num_variants: epochs take the variants in turn; 1: the recording without augmentation.
        most_bytes: largest size of the folder; other states are computed each time.
        device, precision: of the encoder.
        note: called with a sentence when the cache is full.
    """

    folder: Path
    frontend: PretrainedFrontend
    augmentation: Augmentation
    num_variants: int
    most_bytes: int
    device: torch.device
    precision: torch.dtype
    note: Callable[[str], None]
    _entries: dict[str, _Entry] = field(default_factory=dict, init=False)
    _files: tuple[IO[bytes], IO[str]] | None = field(default=None, init=False)
    _lock: ExitStack = field(default_factory=ExitStack, init=False)  # of the files
    _full: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.refresh()

    def refresh(self) -> None:
        """Know the states that other processes have added."""
        for index in sorted(self.folder.glob("*.jsonl")):
            self._entries |= _read_index(index, self._width)

    def __call__(self, recordings: Recordings) -> tuple[list[Example], list[np.ndarray]]:
        """The examples of a batch of an epoch with their states (T, S) float16; an example of several joins them."""
        variant = recordings.epoch % self.num_variants
        states = [
            np.concatenate([self.states(utterance, variant, recordings.sounds) for utterance in example.utterances])
            for example in recordings.examples
        ]
        return list(recordings.examples), states

    def states(self, utterance: Utterance, variant: int, sounds: Sounds) -> np.ndarray:
        """States (T, S) float16 of an utterance, from the disk or computed and kept.

        Raises:
            DataError: the sound cannot be read, or the states on disk are damaged.
        """
        key = _key(utterance, variant)
        if key in self._entries:
            return _read(self._entries[key], self._width)
        states = self._compute(utterance, variant, sounds)
        self._keep(key, states)
        return states

    def plan(self, train: Sequence[Example], dev: Sequence[Example]) -> str:
        """A sentence on the size that these examples take, how much of it is there, and the time for the rest."""
        wanted = [
            (utterance, variant)
            for examples, num_variants in ((train, self.num_variants), (dev, 1))
            for example in examples
            for utterance, variant in itertools.product(example.utterances, range(num_variants))
        ]
        seconds = sum(utterance.duration_seconds for utterance, _ in wanted)
        missing = sum(one.duration_seconds for one, variant in wanted if _key(one, variant) not in self._entries)
        rate, hop_length = self.augmentation.sample_rate, self.frontend.encoder.shape.hop_length
        gigabytes = seconds * rate / hop_length * BYTES * self._width / 1e9
        has = f"the cache of features in {self.folder} has {gigabytes:.2g} GB for these utterances"
        if not missing:
            return has
        samples = torch.zeros(1, 10 * rate, device=self.device)
        start = time.perf_counter()
        with torch.inference_mode(), autocast(self.precision, self.device):
            self.frontend.states(samples, torch.tensor([samples.shape[1]]))
        minutes = missing * (time.perf_counter() - start) / 10 / 60 / num_processes()
        rest = f"{math.ceil(minutes)} min" if minutes < 60 else f"{minutes / 60:.1f} hours"
        epochs = "epoch" if self.num_variants == 1 else f"{self.num_variants} epochs"
        return (
            f"the cache of features in {self.folder} takes {gigabytes:.2g} GB for these utterances, and lacks "
            f"{missing / seconds:.0%} of it: the encoder computes it in the first {epochs}, in about {rest}"
        )

    def _num_bytes(self) -> int:
        """Bytes of the states of all processes."""
        return sum(path.stat().st_size for path in self.folder.glob("*.f16"))

    @property
    def _width(self) -> int:
        return self.frontend.states_width

    def _compute(self, utterance: Utterance, variant: int, sounds: Sounds) -> np.ndarray:
        if variant:
            waveform = self.augmentation.augmented(utterance, Recordings(variant, 0, (), sounds))
        else:
            waveform = read_waveform(utterance, self.augmentation.sample_rate, sounds=sounds)
        samples = torch.from_numpy(np.ascontiguousarray(waveform))[None].to(self.device)
        with torch.inference_mode(), autocast(self.precision, self.device):
            states, lengths = self.frontend.states(samples, torch.tensor([len(waveform)]))
        return states[0, : int(lengths)].half().cpu().numpy()

    def _keep(self, key: str, states: np.ndarray) -> None:
        if self._full:
            return
        content = states.tobytes()
        data, index = self._opened()
        if self._num_bytes() + len(content) > self.most_bytes:
            self._full = True
            self.note(f"the cache of features is full ({self.most_bytes / 1e9:g} GB): the rest is computed each time")
            return
        start = data.tell() // (BYTES * self._width)
        data.write(content)
        data.flush()
        entry = {"key": key, "start": start, "frames": len(states), "crc32": zlib.crc32(content)}
        index.write(json.dumps(entry) + "\n")
        index.flush()
        self._entries[key] = _Entry(Path(data.name), start, len(states), entry["crc32"])  # type: ignore[arg-type]

    def _opened(self) -> tuple[IO[bytes], IO[str]]:
        """This process's files, at their ends; states without a line in the index are cut off."""
        if self._files is None:
            path = self._lock_own()
            index = path.with_suffix(".jsonl")
            known = _read_index(index, self._width) if index.exists() else {}  # another run may have added to them
            self._entries |= known
            end = max((entry.start + entry.num_frames for entry in known.values()), default=0)
            data = open(path, "r+b" if path.exists() else "wb")  # noqa: SIM115
            data.truncate(end * BYTES * self._width)
            data.seek(0, os.SEEK_END)
            self._files = data, open(index, "a", encoding="utf-8")  # noqa: SIM115
        return self._files

    def _lock_own(self) -> Path:
        """The first file of states that no other process writes; no other one will, while this process lives."""
        for number in itertools.count():
            with ExitStack() as stack:
                if stack.enter_context(locked(self.folder / f"{number}.lock")):
                    self._lock = stack.pop_all()
                    return self.folder / f"{number}.f16"
        raise AssertionError


def cache_folder(parent: str | os.PathLike[str], frontend: PretrainedFrontend, augmentation: Augmentation) -> Path:
    """The folder of the cache for these frozen layers and this augmentation: its name is a digest of their content."""
    digest = hashlib.sha256()
    for name, values in frontend.frozen_parameters():
        digest.update(name.encode())
        digest.update(values.contiguous().cpu().numpy().tobytes())
    facts = {
        "width": frontend.states_width,
        "options": to_json(augmentation.options),
        "seed": augmentation.seed,
        "rate": augmentation.sample_rate,
    }
    digest.update(json.dumps(facts, sort_keys=True).encode())
    for sound in (*augmentation.noises, *augmentation.impulse_responses):
        digest.update(sound.tobytes())
    return Path(parent) / digest.hexdigest()[:16]


def _key(utterance: Utterance, variant: int) -> str:
    return f"{variant} {utterance.id} {utterance.place} {utterance.start_seconds} {utterance.duration_seconds}"


def _read_index(path: Path, width: int) -> dict[str, _Entry]:
    """The entries of an index whose states are on disk, without a last line that is incomplete."""
    data = path.with_suffix(".f16")
    num_frames = data.stat().st_size // (BYTES * width) if data.exists() else 0
    entries = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            values = json.loads(line)
            entry = _Entry(data, int(values["start"]), int(values["frames"]), int(values["crc32"]))
            if 0 <= entry.start <= entry.start + entry.num_frames <= num_frames:
                entries[str(values["key"])] = entry
        except (ValueError, KeyError, TypeError):
            continue
    return entries


def _read(entry: _Entry, width: int) -> np.ndarray:
    """States from the disk.

    Raises:
        DataError: their checksum is wrong.
    """
    shape = entry.num_frames, width
    states = np.fromfile(entry.file, np.float16, entry.num_frames * width, offset=entry.start * width * BYTES)
    if len(states) != entry.num_frames * width or zlib.crc32(states.tobytes()) != entry.checksum:
        raise DataError("cached features are damaged: delete this folder", path=entry.file.parent)
    return states.reshape(shape)
