"""A cache of features that several runs write at once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from asr.data.manifest import Utterance
from asr.training.feature_cache import FeatureCache

WIDTH = 4


class CountingCache(FeatureCache):
    """States are the number of the utterance; each computation is counted."""

    computed = 0

    def _compute(self, utterance, variant, sounds):
        self.computed += 1
        return np.full((3, WIDTH), float(utterance.id), np.float16)


def open_cache(folder: Path) -> CountingCache:
    return CountingCache(
        folder=folder,
        frontend=SimpleNamespace(states_width=WIDTH),  # type: ignore[arg-type]
        augmentation=None,  # type: ignore[arg-type]
        num_variants=1,
        most_bytes=10_000,
        device=torch.device("cpu"),
        precision=torch.float32,
        note=print,
    )


def states(cache: CountingCache, number: int) -> float:
    utterance = Utterance(id=str(number), audio=Path("a.wav"), duration_seconds=1.0, text="a")
    rows = cache.states(utterance, 0, {})  # type: ignore[arg-type]
    assert rows.shape == (3, WIDTH) and (rows == rows[0, 0]).all()
    return float(rows[0, 0])


def test_runs_that_share_a_cache_keep_all_states(tmp_path: Path) -> None:
    caches = [open_cache(tmp_path) for _ in range(3)]
    for number in range(9):
        assert states(caches[number % 3], number) == number
    again = open_cache(tmp_path)
    assert [states(again, number) for number in range(9)] == list(range(9)) and again.computed == 0


def test_processes_of_one_training_compute_each_state_once(tmp_path: Path) -> None:
    caches = [open_cache(tmp_path) for _ in range(2)]
    for epoch in range(3):  # in each epoch, a process has other utterances
        for cache in caches:
            cache.refresh()
        for number in range(6):
            assert states(caches[(number + epoch) % 2], number) == number
    assert [cache.computed for cache in caches] == [3, 3]


def test_states_of_a_run_that_has_ended_since_are_not_cut_off(tmp_path: Path) -> None:
    later, earlier = open_cache(tmp_path), open_cache(tmp_path)
    assert states(earlier, 1) == 1
    earlier._lock.close()  # as at the end of its process
    assert states(later, 2) == 2 and states(later, 1) == 1 and later.computed == 1
    again = open_cache(tmp_path)
    assert [states(again, number) for number in (1, 2)] == [1, 2] and again.computed == 0
    assert sorted(path.name for path in tmp_path.glob("*.f16")) == ["0.f16"]
