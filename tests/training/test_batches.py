"""Batches, padded, and the thread that prepares them."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from asr.acoustic.model import pad_inputs
from asr.data.manifest import Utterance
from asr.training.batches import make_batch, pad_labels, prefetch
from asr.training.examples import Example, compact


def test_waveforms_are_padded_with_zeros() -> None:
    waveforms = [np.array([1.0, 2.0], np.float32), np.array([], np.float32), np.array([3.0, 4.0, 5.0], np.float32)]
    padded, lengths = pad_inputs(waveforms)
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
    assert batch.lengths.tolist() == [2, 4] and batch.inputs.sum(dim=1).tolist() == [2, 4]
    targets, target_lengths = batch.targets()
    assert targets.tolist() == [[1, 0, 0], [2, 9, 3]] and target_lengths.tolist() == [1, 3]


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
