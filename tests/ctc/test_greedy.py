from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from asr.ctc.greedy import best_path
from asr.errors import InputError
from tests.ctc.enumeration import labelling_probabilities, merge_and_drop


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20061)


def random_emission(rng: np.random.Generator, num_frames: int, num_labels: int) -> np.ndarray:
    return np.log(rng.dirichlet(np.ones(num_labels), size=num_frames))


def test_a_path_worked_by_hand():
    # labels: a a Φ a b, with Φ = 0
    probabilities = [[0.1, 0.8, 0.1], [0.3, 0.5, 0.2], [0.9, 0.1, 0.0], [0.0, 1.0, 0.0], [0.25, 0.25, 0.5]]
    with np.errstate(divide="ignore"):
        best = best_path(np.log(probabilities), blank=0)
    assert best.path.tolist() == [1, 1, 0, 1, 2]
    assert best.tokens.tolist() == [1, 1, 2]
    assert best.spans.tolist() == [[0, 2], [3, 4], [4, 5]]
    assert best.confidences == pytest.approx([math.sqrt(0.8 * 0.5), 1.0, 0.5])
    assert best.score == pytest.approx(math.log(0.8 * 0.5 * 0.9 * 1.0 * 0.5))


@pytest.mark.parametrize("blank", [0, 1, 2])
def test_no_other_path_is_more_probable(rng, blank):
    for num_frames in range(1, 7):
        emission = random_emission(rng, num_frames, 3)
        scores = {
            path: sum(emission[t, label] for t, label in enumerate(path))
            for path in itertools.product(range(3), repeat=num_frames)
        }
        best = best_path(emission, blank=blank)
        assert tuple(best.path) == max(scores, key=scores.__getitem__)
        assert best.score == pytest.approx(max(scores.values()))
        assert tuple(best.tokens) == merge_and_drop(best.path, blank=blank)
        probability = labelling_probabilities(emission.tolist(), blank=blank)[tuple(best.tokens)]
        assert best.score <= math.log(probability) + 1e-12  # of one path, they are the same but for rounding


def test_the_most_probable_labelling_may_have_another_path():
    emission = np.log([[0.6, 0.4], [0.6, 0.4]])
    table = labelling_probabilities(emission.tolist(), blank=0)
    assert max(table, key=table.__getitem__) == (1,)
    assert best_path(emission, blank=0).tokens.tolist() == []


def test_spans_are_the_frames_of_their_token_and_confidences_their_mean(rng):
    emission = random_emission(rng, 400, 4)
    best = best_path(emission, blank=3)
    covered = np.full(400, 3)
    for token, (start, end), confidence in zip(best.tokens, best.spans, best.confidences, strict=True):
        assert (best.path[start:end] == token).all()
        assert start == 0 or best.path[start - 1] != token
        assert end == 400 or best.path[end] != token
        assert confidence == pytest.approx(np.exp(emission[start:end, token]).prod() ** (1 / (end - start)))
        covered[start:end] = token
    assert covered.tolist() == best.path.tolist()  # every frame outside the spans is a blank
    assert len(best.tokens) > 100
    assert (best.spans[1:, 0] >= best.spans[:-1, 1]).all()


def test_moving_the_blank_with_its_column_changes_no_token(rng):
    emission = random_emission(rng, 60, 4)
    first, last = best_path(emission, blank=0), best_path(np.roll(emission, -1, axis=1), blank=3)
    assert (first.tokens - 1).tolist() == last.tokens.tolist()
    assert first.spans.tolist() == last.spans.tolist()
    assert first.confidences.tolist() == last.confidences.tolist()


@pytest.mark.parametrize(("label", "tokens", "spans"), [(0, [], []), (2, [2], [[0, 5]])])
def test_one_label_all_through(label, tokens, spans):
    emission = np.full((5, 3), -20.0)
    emission[:, label] = 0.0
    best = best_path(emission, blank=0)
    assert (best.tokens.tolist(), best.spans.tolist(), best.score) == (tokens, spans, 0.0)


def test_no_frames():
    best = best_path(np.zeros((0, 5), dtype=np.float32), blank=0)
    assert (best.path.shape, best.tokens.shape, best.spans.shape, best.confidences.shape) == ((0,), (0,), (0, 2), (0,))
    assert best.score == 0.0


def test_one_frame():
    best = best_path(np.log([[0.2, 0.8]]), blank=0)
    assert (best.tokens.tolist(), best.spans.tolist()) == ([1], [[0, 1]])


def test_ties_go_to_the_lowest_label():
    assert best_path(np.log([[0.2, 0.4, 0.4]]), blank=0).tokens.tolist() == [1]


def test_confidence_stays_within_1_where_log_softmax_rounds_above_0():
    best = best_path(np.array([[-20.0, 1e-7]], dtype=np.float32), blank=0)
    assert best.confidences.tolist() == [1.0]


def test_the_emission_is_left_unchanged(rng):
    emission = random_emission(rng, 9, 4).astype(np.float32)
    before = emission.copy()
    emission.flags.writeable = False
    best_path(emission, blank=0)
    assert (emission == before).all()


@pytest.mark.parametrize(
    ("emission", "blank", "message"),
    [
        (np.zeros((2, 3, 4)), 0, r"emission must be \(T, V\); got shape \(2, 3, 4\)"),
        (np.zeros(3), 0, r"emission must be \(T, V\); got shape \(3,\)"),
        (np.zeros((2, 3)), 3, r"blank must be one of the 3 labels, 0 \.\. 2; got 3"),
        (np.zeros((2, 3)), -1, "blank must be one of the 3 labels"),
    ],
)
def test_what_is_not_an_emission_is_refused(emission, blank, message):
    with pytest.raises(InputError, match=message):
        best_path(emission, blank=blank)
