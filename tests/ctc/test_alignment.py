"""Forced alignment against torchaudio, against all alignments there are, and by hand."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.ctc import alignment
from asr.ctc.alignment import Alignment, align, align_batch
from asr.ctc.collapse import collapse, minimum_frames
from asr.errors import InputError
from tests.ctc.enumeration import labelling_probabilities, merge_and_drop
from tests.oracles import load_or_skip


def random_emission(rng: np.random.Generator, num_frames: int, num_labels: int) -> np.ndarray:
    return np.log(rng.dirichlet(np.ones(num_labels), size=num_frames)).reshape(num_frames, num_labels)


def random_case(rng: np.random.Generator, most_frames: int, most_labels: int) -> tuple[np.ndarray, np.ndarray, int]:
    """(emission, labels, blank), in which the labels have frames enough, often just so."""
    num_frames, num_labels = int(rng.integers(1, most_frames + 1)), int(rng.integers(2, most_labels + 1))
    blank = int(rng.integers(num_labels))
    labels = rng.choice([label for label in range(num_labels) if label != blank], rng.integers(num_frames + 1))
    while minimum_frames(labels) > num_frames:
        labels = labels[:-1]
    return random_emission(rng, num_frames, num_labels), labels, blank


def align_by_torch(
    emission: np.ndarray, labels: np.ndarray, *, blank: int, floor: np.ndarray | None = None
) -> Alignment:
    """What `align` does with a tensor on CUDA, on the processor."""
    (found,) = alignment._align(
        torch.from_numpy(emission)[None],
        labels[None],
        np.array([len(emission)]),
        np.array([len(labels)]),
        blank=blank,
        floor=np.full(len(labels) + 1, -math.inf) if floor is None else floor,
        num_threads=1,
    )
    return found


def assert_same(one: Alignment, other: Alignment) -> None:
    assert one.path.tolist() == other.path.tolist()
    assert one.spans.tolist() == other.spans.tolist()
    assert one.token_scores.tolist() == other.token_scores.tolist()
    assert one.score == other.score


def assert_consistent(found: Alignment, emission: np.ndarray, labels: np.ndarray, *, blank: int) -> None:
    """The path collapses to the labels, and spans and scores of the tokens are those of the path."""
    path, spans = found.path, found.spans
    assert (path.shape, spans.shape) == ((len(emission),), (len(labels), 2))
    assert collapse(path, blank=blank) == labels.tolist()
    covered = np.full(len(path), blank)
    for (start, end), label, score in zip(spans, labels, found.token_scores, strict=True):
        assert start < end
        covered[start:end] = label
        assert score == pytest.approx(emission[start:end, label].mean())
    assert covered.tolist() == path.tolist()
    assert (spans[1:, 0] >= spans[:-1, 1]).all()
    assert found.confidences == pytest.approx(np.exp(found.token_scores))


def test_a_path_worked_by_hand():
    # Φ = 0; "aab" in six frames; each row sums to one
    probabilities = [
        [0.6, 0.3, 0.1],
        [0.1, 0.8, 0.1],
        [0.7, 0.2, 0.1],  # the blank between the two a
        [0.3, 0.6, 0.1],
        [0.1, 0.5, 0.4],  # a or b: a goes on
        [0.2, 0.2, 0.6],
    ]
    found = align(np.log(probabilities), [1, 1, 2], blank=0)
    assert found.path.tolist() == [0, 1, 0, 1, 1, 2]
    assert found.spans.tolist() == [[1, 2], [3, 5], [5, 6]]
    assert found.score == pytest.approx(math.log(0.6 * 0.8 * 0.7 * 0.6 * 0.5 * 0.6))
    assert found.confidences == pytest.approx([0.8, math.sqrt(0.6 * 0.5), 0.6])


@pytest.mark.parametrize("blank", [0, 1, 2])
def test_no_path_to_the_labels_is_more_probable(rng, blank):
    for num_frames in range(1, 6):
        emission = random_emission(rng, num_frames, 3)
        best: dict[tuple[int, ...], float] = {}
        for path in itertools.product(range(3), repeat=num_frames):
            labels = merge_and_drop(path, blank=blank)
            score = math.fsum(emission[t, label] for t, label in enumerate(path))
            best[labels] = max(best.get(labels, -math.inf), score)
        sums = labelling_probabilities(emission.tolist(), blank=blank)
        assert len(best) > num_frames
        for labels, score in best.items():
            for found in (
                align(emission, np.array(labels, dtype=int), blank=blank),
                align_by_torch(emission, np.array(labels, dtype=int), blank=blank),
            ):
                assert found.score == pytest.approx(score)
                assert found.score <= math.log(sums[labels]) + 1e-12
                assert_consistent(found, emission, np.array(labels, dtype=int), blank=blank)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_random_paths_and_scores_equal_those_of_torchaudio(rng, dtype):
    functional = load_or_skip("torchaudio.functional")
    for _ in range(150):
        emission, labels, blank = random_case(rng, most_frames=60, most_labels=7)
        if not len(labels):  # which torchaudio refuses
            continue
        emission = emission.astype(dtype)
        paths, scores = functional.forced_align(
            torch.from_numpy(emission)[None], torch.from_numpy(labels)[None], blank=blank
        )
        found = align(emission, labels, blank=blank)
        assert found.path.tolist() == paths[0].tolist()
        assert found.score == pytest.approx(float(scores.double().sum()))
        assert_same(align_by_torch(emission, labels, blank=blank), found)


@pytest.mark.parametrize(
    ("num_frames", "num_tokens"),
    [(1500, 700), (1501, 43), (1501, 44), (400, 399), (3001, 2500), (70_000, 0), (70_000, 1)],
)
def test_blocks_computed_again_give_the_path_of_torchaudio(rng, num_frames, num_tokens):
    functional = load_or_skip("torchaudio.functional")
    emission = random_emission(rng, num_frames, 5)
    labels = 1 + np.cumsum(rng.integers(1, 4, num_tokens)) % 4  # no repeats
    assert alignment._block_length(num_frames, num_tokens) < num_frames  # else all scores are kept
    found = align(emission, labels, blank=0)
    assert_consistent(found, emission, labels, blank=0)
    if num_tokens:
        paths, scores = functional.forced_align(torch.from_numpy(emission)[None], torch.from_numpy(labels)[None])
        assert found.path.tolist() == paths[0].tolist()
        assert found.score == pytest.approx(float(scores.sum()))
    if num_frames < 2000:
        assert_same(align_by_torch(emission, labels, blank=0), found)


def test_ties_stay_then_come_from_the_blank():
    even = np.full((4, 3), math.log(1 / 3))
    assert align(even, [1, 2], blank=0).path.tolist() == [1, 2, 2, 2]
    assert align(even, [1, 1], blank=0).path.tolist() == [1, 0, 1, 1]
    for labels in ([1], [1, 2], [2, 2], [1, 2, 1]):
        assert_same(align_by_torch(even, np.array(labels), blank=0), align(even, labels, blank=0))


def test_a_tie_in_which_torchaudio_takes_a_path_of_no_probability():
    # Before the last frame, Φ and "a" are equally probable, and "b" has none: b can come from either, not from itself.
    functional = load_or_skip("torchaudio.functional")
    with np.errstate(divide="ignore"):
        emission = np.log([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    found = align(emission, [1, 2], blank=0)
    assert found.path.tolist() == [1, 0, 2]
    assert found.score == pytest.approx(2 * math.log(0.5))
    _, scores = functional.forced_align(torch.from_numpy(emission)[None], torch.tensor([[1, 2]]))
    assert scores.sum() < found.score


def paths_through_gaps(num_frames: int, num_tokens: int, labels: list[int]) -> Iterator[list[int]]:
    """All sequences of states of the lattice, 2u + 1 for token u and 2u for the gap before it."""
    for states in itertools.product(range(2 * num_tokens + 1), repeat=num_frames):
        steps = [after - before for before, after in itertools.pairwise(states)]
        leaps = all(
            step < 2 or (step == 2 and state % 2 and labels[state // 2] != labels[state // 2 + 1])
            for step, state in zip(steps, states, strict=False)
        )
        if min(steps, default=0) >= 0 and leaps and states[0] < 2 and states[-1] >= 2 * num_tokens - 1:
            yield list(states)


@pytest.mark.parametrize("gaps", [(), (0,), (2,), (0, 2), (1,), (0, 1, 2)])
def test_gaps_take_what_the_labels_do_not_say(rng, gaps):
    labels, gap_score = [1, 2], -1.5
    for _ in range(20):
        emission = np.log(rng.dirichlet(np.full(3, 0.3), size=5))
        best, best_states = -math.inf, []
        for states in paths_through_gaps(5, 2, labels):
            scores = [emission[t, labels[state // 2] if state % 2 else 0] for t, state in enumerate(states)]
            for t, state in enumerate(states):
                if state % 2 == 0 and state // 2 in gaps:
                    scores[t] = max(scores[t], gap_score)
            if math.fsum(scores) > best + 1e-12:
                best, best_states = math.fsum(scores), states
        found = align(emission, labels, blank=0, gaps=gaps, gap_score=gap_score)
        assert found.score == pytest.approx(best)
        assert found.path.tolist() == [labels[state // 2] if state % 2 else 0 for state in best_states]
        floor = np.full(3, -math.inf)
        floor[list(gaps)] = gap_score
        assert_same(align_by_torch(emission, np.array(labels), blank=0, floor=floor), found)


def test_gaps_keep_speech_at_the_edges_away_from_the_text(rng):
    # Labels 1 2 3 are spoken in frames 40 .. 46; other speech lies around them.
    spoken = [0] * 2 + list(rng.integers(4, 6, 36)) + [0] * 2 + [1, 0, 2, 0, 0, 3, 0] + list(rng.integers(4, 6, 30))
    emission = np.full((len(spoken), 6), math.log(0.01))
    emission[np.arange(len(spoken)), spoken] = math.log(0.95)
    found = align(emission, [1, 2, 3], blank=0, gaps=(0, 3))
    assert found.spans.tolist() == [[40, 41], [42, 43], [45, 46]]


def test_a_ragged_batch_is_its_utterances(rng):
    cases = [random_case(rng, most_frames=90, most_labels=6) for _ in range(40)]
    num_labels = 6
    emissions = np.full((40, 90, num_labels), math.nan)
    targets = np.full((40, 90), 99)
    expected = []
    for row, (emission, labels, _) in enumerate(cases):
        labels = 1 + labels % 5
        while minimum_frames(labels) > len(emission):
            labels = labels[:-1]
        emissions[row, : len(emission)] = random_emission(rng, len(emission), num_labels)
        targets[row, : len(labels)] = labels
        expected.append(align(emissions[row, : len(emission)], labels, blank=0))
    frames = [len(found.path) for found in expected]
    lengths = [len(found.spans) for found in expected]
    for batch in (
        align_batch(emissions, targets, frames, lengths, blank=0, num_threads=1),
        align_batch(torch.from_numpy(emissions), torch.from_numpy(targets), torch.tensor(frames), lengths, blank=0),
        alignment._align(
            torch.from_numpy(emissions),
            np.where(targets == 99, -1, targets),
            np.array(frames),
            np.array(lengths),
            blank=0,
            floor=np.full(91, -math.inf),
            num_threads=1,
        ),
    ):
        assert len(batch) == 40
        for found, alone in zip(batch, expected, strict=True):
            assert_same(found, alone)


def test_threads_change_nothing(rng, monkeypatch):
    monkeypatch.setattr(alignment, "_WORTH_A_THREAD", 1)
    emissions = np.stack([random_emission(rng, 50, 4) for _ in range(7)])
    targets = np.tile([1, 2, 3, 1], (7, 1))
    frames, lengths = rng.integers(8, 51, 7), rng.integers(0, 5, 7)
    one, several = (align_batch(emissions, targets, frames, lengths, blank=0, num_threads=count) for count in (1, 3))
    for first, second in zip(one, several, strict=True):
        assert_same(first, second)


def test_the_embedded_labels_may_have_any_blank(rng):
    emission, labels = random_emission(rng, 30, 5), np.array([1, 2, 2, 4])
    expected = align(emission, labels, blank=0)
    for blank in range(5):
        moved = np.roll(emission, blank, axis=1)
        assert align(moved, (labels + blank) % 5, blank=blank).spans.tolist() == expected.spans.tolist()


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16", "list", "reversed", "tensor"])
def test_what_log_probs_may_be(rng, kind):
    emission = random_emission(rng, 20, 4).astype(np.float16).astype(np.float32)
    forms = {
        "float32": emission,
        "float16": emission.astype(np.float16),
        "bfloat16": torch.from_numpy(emission).bfloat16(),
        "list": emission.tolist(),
        "reversed": np.asfortranarray(emission[::-1])[::-1],
        "tensor": torch.from_numpy(emission).requires_grad_(),
    }
    found = align(forms[kind], [1, 2, 3], blank=0)
    expected = align(np.asarray(forms["bfloat16"].float()) if kind == "bfloat16" else emission, [1, 2, 3], blank=0)
    assert found.path.tolist() == expected.path.tolist()
    assert found.score == pytest.approx(expected.score)


def test_labels_need_not_lie_side_by_side(rng):
    emission, labels = random_emission(rng, 12, 5), np.array([1, 9, 2, 9, 4], dtype=np.int32)
    assert_same(align(emission, labels[::-2], blank=0), align(emission, [4, 2, 1], blank=0))
    assert_same(align(emission, torch.tensor([4, 2, 1]), blank=0), align(emission, (4, 2, 1), blank=0))


def test_no_labels_and_no_frames(rng):
    emission = random_emission(rng, 4, 3)
    silent = align(emission, [], blank=1)
    assert silent.path.tolist() == [1] * 4
    assert silent.score == pytest.approx(emission[:, 1].sum())
    nothing = align(np.zeros((0, 3)), [], blank=0)
    assert (nothing.path.shape, nothing.spans.shape, nothing.score) == ((0,), (0, 2), 0.0)
    assert_same(align_by_torch(emission, np.zeros(0, dtype=int), blank=1), silent)
    assert_same(align_by_torch(np.zeros((0, 3)), np.zeros(0, dtype=int), blank=0), nothing)
    assert align_batch(np.zeros((0, 5, 3)), np.zeros((0, 2), dtype=int), [], [], blank=0) == []
    assert align(emission[:1], [2], blank=0).spans.tolist() == [[0, 1]]


def test_the_input_is_left_alone(rng):
    emission, labels = random_emission(rng, 9, 3), np.array([1, 2, 2])
    before = emission.copy(), labels.copy()
    align(emission, labels, blank=0, gaps=(0, 3))
    assert (emission == before[0]).all() and (labels == before[1]).all()


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_property_every_alignment_is_one_and_ties_are_the_same_everywhere(data):
    num_labels = data.draw(st.integers(2, 4))
    blank = data.draw(st.integers(0, num_labels - 1))
    # few levels, so that ties abound; -inf too
    level = st.sampled_from([0.0, -0.5, -1.0, -2.0, -math.inf])
    rows = data.draw(st.lists(st.lists(level, min_size=num_labels, max_size=num_labels), max_size=8))
    emission = np.array(rows, dtype=np.float64).reshape(len(rows), num_labels)
    others = [label for label in range(num_labels) if label != blank]
    labels = np.array(data.draw(st.lists(st.sampled_from(others), max_size=4)), dtype=int)
    while minimum_frames(labels) > len(emission):
        labels = labels[:-1]
    try:
        found = align(emission, labels, blank=blank)
    except InputError as error:
        assert "every path has a log-probability of -inf" in str(error)
        with pytest.raises(InputError, match="of -inf"):
            align_by_torch(emission, labels, blank=blank)
        return
    assert_consistent(found, emission, labels, blank=blank)
    assert found.score == emission[np.arange(len(emission)), found.path].sum()
    assert_same(align_by_torch(emission, labels, blank=blank), found)


EVEN = np.full((5, 3), math.log(1 / 3))


@pytest.mark.parametrize(
    ("log_probs", "labels", "message"),
    [
        (EVEN, [1, 2, 1, 2, 2], r"labels need 6 frames \(5 labels, 1 repeats\) but log_probs has 5"),
        (EVEN[:0], [1], r"labels need 1 frames \(1 labels, 0 repeats\) but log_probs has 0"),
        (EVEN, [1, 3], r"labels must lie in 0 .. 2 and not hold the blank, 0; labels\[1\] is 3"),
        (EVEN, [-1], r"labels must lie in 0 .. 2 .*; labels\[0\] is -1"),
        (EVEN, [1, 0], r"labels\[1\] is 0: collapse the path first"),
        (EVEN, [1.0], "labels must hold integers; got float64"),
        (EVEN, [[1]], r"labels must be \(U,\); got shape \(1, 1\)"),
        (EVEN, [[1], [1, 2]], "labels must be an array of integers; got lists of different lengths"),
        (EVEN[None], [1], r"log_probs must be \(T, V\); got shape \(1, 5, 3\)"),
        (np.ones((5, 3), dtype=int), [1], "log_probs must hold floating-point numbers; got int64"),
        (np.exp(EVEN), [1], "log_probs must hold natural log-probabilities, .*; frame 0 does not; apply log_softmax"),
        (np.where(np.eye(5, 3, k=-2), math.nan, EVEN), [1], "none of them NaN or above 0; frame 2 does not"),
        (np.where(np.arange(3) == 1, -math.inf, EVEN), [1, 2], "log_probs must allow a path through the labels"),
    ],
)  # fmt: skip
def test_what_cannot_be_aligned(log_probs, labels, message):
    with pytest.raises(InputError, match=message):
        align(log_probs, labels, blank=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"blank": 3}, r"blank must be one of the 3 labels, 0 .. 2; got 3"),
        ({"blank": 0, "gaps": (3,)}, r"gaps must lie in 0 .. 2, the number of labels; got \[3\]"),
        ({"blank": 0, "gaps": (0,), "gap_score": 0.5}, "gap_score must be a log-probability, at most 0; got 0.5"),
        ({"blank": 0, "gaps": (0,), "gap_score": math.nan}, "gap_score must be a log-probability, at most 0; got nan"),
    ],
)
def test_wrong_options(arguments, message):
    with pytest.raises(InputError, match=message):
        align(EVEN, [1, 2], **arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_lengths": [5, 2]}, r"targets\[1\] needs 3 frames \(2 labels, 1 repeats\) but input_lengths\[1\] is 2"),
        ({"targets": [[1, 2], [2, 5]]}, r"targets\[1\] must lie in 0 .. 2 .*; targets\[1\]\[1\] is 5"),
        ({"targets": [[1, 2]]}, r"targets must be \(B, U\) with the B of log_probs, 2; got shape \(1, 2\)"),
        ({"input_lengths": [5, 6]}, r"input_lengths must lie in 0 .. 5; input_lengths\[1\] is 6"),
        ({"target_lengths": [-1, 2]}, r"target_lengths must lie in 0 .. 2; target_lengths\[0\] is -1"),
        ({"target_lengths": [2]}, r"target_lengths must be \(B,\) with the B of log_probs, 2; got shape \(1,\)"),
        ({"num_threads": 0}, "num_threads must be at least 1; got 0"),
        ({"log_probs": EVEN}, r"log_probs must be \(B, T, V\); got shape \(5, 3\)"),
        ({"log_probs": np.stack([EVEN, EVEN * -1])}, r"log_probs\[1\] must hold natural log-probabilities"),
        ({"log_probs": np.stack([EVEN, EVEN - math.inf])}, r"log_probs\[1\] must allow a path through the labels"),
    ],
)
def test_what_cannot_be_aligned_in_a_batch(changes, message):
    arguments = {
        "log_probs": np.stack([EVEN, EVEN]),
        "targets": [[1, 2], [2, 2]],
        "input_lengths": [5, 5],
        "target_lengths": [2, 2],
        "blank": 0,
    }
    with pytest.raises(InputError, match=message):
        align_batch(**{**arguments, **changes})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_same(rng):
    for most_frames in (1, 40, 300):
        emission, labels, blank = random_case(rng, most_frames=most_frames, most_labels=6)
        found = align(torch.from_numpy(emission).cuda(), labels, blank=blank, gaps=(0, len(labels)))
        assert_same(found, align(emission, labels, blank=blank, gaps=(0, len(labels))))


HOUR = """
import numpy as np
from asr.ctc.alignment import align
rng = np.random.default_rng(0)
emission = rng.standard_normal((90_000, 29), dtype=np.float32) - 6
found = align(emission, 1 + np.cumsum(rng.integers(1, 28, 50_000)) % 28, blank=0)
assert (found.spans[1:, 0] >= found.spans[:-1, 1]).all() and found.spans[-1, 1] <= 90_000
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_an_hour_takes_little_memory():
    done = subprocess.run([sys.executable, "-c", HOUR], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 600_000  # kB, those of NumPy and numba included
