"""The plan of an epoch: every utterance once, within the budget, the same from the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from asr.training.plan import plan_batches, plan_joins


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
