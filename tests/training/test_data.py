"""Batches: every utterance once, within the budget, the same from the same seed; and the thread that prepares them."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from asr.data.manifest import Utterance, read_manifest, write_manifest
from asr.errors import DataError
from asr.training.data import (
    Example,
    compact,
    make_batch,
    pad_labels,
    pad_waveforms,
    plan_batches,
    plan_joins,
    prefetch,
    read_utterances,
)


@pytest.fixture
def seconds(rng: np.random.Generator) -> np.ndarray:
    return rng.gamma(2.0, 2.0, 500) + 0.1


# Plans


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("batch_seconds", [1.0, 20.0, 60.0, 1e6])
def test_each_utterance_is_in_one_batch_within_the_budget(
    seconds: np.ndarray, batch_seconds: float, shuffled: bool, seed: int
) -> None:
    plan = plan_batches(seconds, batch_seconds=batch_seconds, rng=np.random.default_rng(seed) if shuffled else None)
    assert sorted(np.concatenate(plan)) == list(range(len(seconds)))
    for batch in plan:
        assert len(batch) == 1 or seconds[batch].max() * len(batch) <= batch_seconds


def test_an_utterance_longer_than_the_budget_is_alone() -> None:
    plan = plan_batches(np.array([1.0, 90.0, 2.0, 61.0]), batch_seconds=60.0, rng=None)
    assert [batch.tolist() for batch in plan] == [[1], [3], [2, 0]]


def test_padding_is_counted() -> None:
    """9 s of sound in all, but 3 x 5 s with the padding."""
    plan = plan_batches(np.array([5.0, 2.0, 2.0]), batch_seconds=10.0, rng=None)
    assert [batch.tolist() for batch in plan] == [[0, 1], [2]]


def test_without_a_generator_the_longest_come_first(seconds: np.ndarray) -> None:
    order = np.concatenate(plan_batches(seconds, batch_seconds=20.0, rng=None))
    assert (np.diff(seconds[order]) <= 0).all()


def test_batches_hold_similar_lengths_though_they_are_shuffled(seconds: np.ndarray, rng: np.random.Generator) -> None:
    plan = plan_batches(seconds, batch_seconds=60.0, rng=rng)
    padded = sum(seconds[batch].max() * len(batch) for batch in plan)
    assert seconds.sum() / padded > 0.85
    longest = [seconds[batch].max() for batch in plan]
    assert len(plan) > 30 and abs(np.corrcoef(longest, np.arange(len(plan)))[0, 1]) < 0.6  # -0.97 if they are not


def test_the_seed_decides_the_plan(seconds: np.ndarray) -> None:
    def plan(seed: tuple[int, int]) -> list[list[int]]:
        rng = np.random.default_rng(seed)
        return [batch.tolist() for batch in plan_batches(seconds, batch_seconds=30.0, rng=rng)]

    assert plan((0, 1)) == plan((0, 1))
    assert plan((0, 1)) != plan((0, 2)) != plan((1, 1))


def test_no_utterances_make_no_batches() -> None:
    assert plan_batches(np.array([]), batch_seconds=10.0, rng=None) == []


def test_each_utterance_is_in_one_recording_that_is_not_too_long(seconds: np.ndarray, rng: np.random.Generator) -> None:
    recordings = plan_joins(seconds, probability=0.5, max_seconds=15.0, rng=rng)
    assert sorted(index for recording in recordings for index in recording) == list(range(len(seconds)))
    assert all(len(recording) == 1 or seconds[list(recording)].sum() <= 15.0 for recording in recordings)
    assert any(len(recording) > 2 for recording in recordings)


def test_the_probability_is_that_of_having_a_follower(rng: np.random.Generator) -> None:
    """Of n utterances in m recordings, n - m follow another one."""
    recordings = plan_joins(np.ones(20_000), probability=0.3, max_seconds=np.inf, rng=rng)
    assert 1 - len(recordings) / 20_000 == pytest.approx(0.3, abs=0.02)
    assert plan_joins(np.ones(50), probability=0.0, max_seconds=9.0, rng=rng)[0][1:] == ()


def test_the_seed_decides_who_follows_whom(seconds: np.ndarray) -> None:
    def plan(seed: int) -> list[tuple[int, ...]]:
        return plan_joins(seconds, probability=0.5, max_seconds=15.0, rng=np.random.default_rng(seed))

    assert plan(1) == plan(1) != plan(2)


# Batches


def test_waveforms_are_padded_with_zeros() -> None:
    waveforms = [np.array([1.0, 2.0], np.float32), np.array([], np.float32), np.array([3.0, 4.0, 5.0], np.float32)]
    padded, lengths = pad_waveforms(waveforms)
    assert padded.tolist() == [[1, 2, 0], [0, 0, 0], [3, 4, 5]] and padded.dtype == torch.float32
    assert lengths.tolist() == [2, 0, 3] and lengths.dtype == torch.int64


def test_labels_are_padded_with_zeros_also_if_all_are_empty() -> None:
    padded, lengths = pad_labels([(4, 5), (), (6,)])
    assert padded.tolist() == [[4, 5], [0, 0], [6, 0]] and padded.dtype == torch.int64
    assert lengths.tolist() == [2, 0, 1] and lengths.dtype == torch.int64
    padded, lengths = pad_labels([(), ()])
    assert padded.shape == (2, 0) and lengths.tolist() == [0, 0]


def test_a_batch_knows_its_examples() -> None:
    utterances = [
        Utterance(id=name, audio=Path("x.wav"), duration_seconds=1.5, text=name.upper()) for name in ("a", "b", "c")
    ]
    single = Example(utterances=tuple(utterances[:1]), text="A", labels=compact((1,)))
    joined = Example(utterances=tuple(utterances[1:]), text="B C", labels=compact((2, 9, 3)))
    assert (single.id, joined.id) == ("a", "b+c")
    assert (single.seconds, joined.seconds) == (1.5, 3.0)
    batch = make_batch([single, joined], [np.ones(2, np.float32), np.ones(4, np.float32)])
    assert batch.examples == (single, joined)
    assert batch.lengths.tolist() == [2, 4] and batch.waveforms.sum(dim=1).tolist() == [2, 4]
    targets, target_lengths = batch.targets()
    assert targets.tolist() == [[1, 0, 0], [2, 9, 3]] and target_lengths.tolist() == [1, 3]


def test_manifests_are_read_one_after_the_other(tone_corpus: Path) -> None:
    train, dev = (str(tone_corpus / f"{name}.jsonl.gz") for name in ("train", "dev"))
    assert read_utterances([dev, train]) == [*read_manifest(dev), *read_manifest(train)]


def test_manifests_without_utterances_or_sound_are_refused(tone_corpus: Path, tmp_path: Path) -> None:
    empty, gone = tmp_path / "empty.jsonl", tmp_path / "gone.jsonl"
    write_manifest([], empty)
    with pytest.raises(DataError, match=r"empty.jsonl: manifests must hold utterances, but there are none"):
        read_utterances([str(empty)])
    utterance = read_manifest(tone_corpus / "dev.jsonl.gz")[0]
    copy = tmp_path / "copy.wav"
    copy.write_bytes(utterance.audio.read_bytes())
    write_manifest([replace(utterance, audio=copy)], gone)
    copy.unlink()
    with pytest.raises(DataError, match=r"gone.jsonl:1: the audio of .* must be a file, but there is none"):
        read_utterances([str(gone)])


# The thread


def prefetch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


@pytest.mark.parametrize("count", [0, 1, 3, 50])
def test_results_come_in_order(count: int) -> None:
    def square(number: int) -> int:
        time.sleep(0.001 * (number % 3))
        return number**2

    assert list(prefetch(square, range(count), depth=3)) == [number**2 for number in range(count)]
    assert prefetch_threads() == []


def test_work_is_done_ahead_but_not_further_than_depth() -> None:
    started: list[int] = []
    results = prefetch(started.append, range(100), depth=4)
    next(results)
    wait_until(lambda: len(started) == 5)  # the one that was given, and four ahead
    time.sleep(0.05)
    assert started == [0, 1, 2, 3, 4]
    results.close()  # type: ignore[attr-defined]


def wait_until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_an_error_reaches_the_caller_after_the_results_before_it() -> None:
    def invert(number: int) -> float:
        return 1 / (number - 2)

    results = prefetch(invert, range(10))
    assert [next(results), next(results)] == [-0.5, -1.0]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert prefetch_threads() == []


def test_closing_early_stops_the_thread_and_the_work() -> None:
    done: list[int] = []

    def slow(number: int) -> int:
        time.sleep(0.02)
        done.append(number)
        return number

    results = prefetch(slow, range(1000))
    assert next(results) == 0
    assert len(prefetch_threads()) == 1
    results.close()  # type: ignore[attr-defined]
    assert prefetch_threads() == []
    assert len(done) <= 3  # what was being done is finished; what was waiting is not begun
