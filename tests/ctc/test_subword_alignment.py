"""Alignment of texts over all segmentations, against all paths."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.ctc.alignment import align
from asr.ctc.spellings import Spellings
from asr.ctc.subword_alignment import align_text
from asr.errors import InputError
from tests.ctc.enumeration import merge_and_drop
from tests.ctc.test_beam import random_emission
from tests.ctc.test_subwords import spell, vocabularies


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20063)


def best_paths(emission: np.ndarray, spellings: Spellings) -> dict[tuple[int, ...], float]:
    """The score of the best path of each text, by a walk through all paths."""
    best: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(spellings.num_labels), repeat=len(emission)):
        text = spell(merge_and_drop(path, blank=spellings.blank), spellings)
        best[text] = max(best.get(text, -np.inf), sum(row[label] for row, label in zip(emission, path, strict=True)))
    return best


@settings(max_examples=80, deadline=None)
@given(spellings=vocabularies(), seed=st.integers(0, 2**32), num_frames=st.integers(0, 5))
def test_the_path_is_the_best_of_all_that_spell_the_text(spellings, seed, num_frames):
    emission = random_emission(np.random.default_rng(seed), num_frames, spellings.num_labels)
    for text, score in best_paths(emission, spellings).items():
        alignment = align_text(emission, text, spellings)
        assert alignment.score == pytest.approx(score)
        assert spell(alignment.labels, spellings) == text
        # The segmentation is that of the best path, so its own alignment has the same score and the same frames.
        same = align(emission, alignment.labels, blank=spellings.blank)
        assert same.score == pytest.approx(alignment.score)
        assert alignment.label_spans.tolist() == same.spans.tolist()
        assert alignment.label_scores == pytest.approx(same.token_scores)
        assert len(alignment.spans) == len(alignment.confidences) == len(text)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), num_frames=st.integers(1, 90), gap=st.booleans())
def test_labels_of_one_character_give_what_align_gives(seed, num_frames, gap):
    rng = np.random.default_rng(seed)
    emission = random_emission(rng, num_frames, 4, peaked=2)
    text = [int(c) for c in rng.integers(1, 4, size=num_frames // 3)]
    text = [c for i, c in enumerate(text) if not i or text[i - 1] != c]
    spellings = Spellings([[], [1], [2], [3]], blank=0)
    options = {"gaps": [0, len(text)], "gap_score": -0.5} if gap else {}
    one, other = align_text(emission, text, spellings, **options), align(emission, text, blank=0, **options)
    assert one.score == pytest.approx(other.score)
    assert one.spans.tolist() == other.spans.tolist()
    assert one.confidences == pytest.approx(other.confidences)


def test_blocks_give_what_one_block_gives(rng, monkeypatch):
    """Checkpoints do not change the path, in float32 or as a tensor either."""
    pieces = [[], *[[int(c) for c in rng.integers(1, 4, size=size)] for size in (1, 1, 2, 2, 3, 4)], [1], [2], [3]]
    spellings = Spellings(pieces, blank=0)
    emission = random_emission(rng, 600, spellings.num_labels, peaked=3).astype(np.float32)
    text = [int(c) for c in rng.integers(1, 4, size=500)]
    whole = align_text(emission, text, spellings)
    monkeypatch.setattr("asr.ctc.subword_alignment.math.isqrt", lambda number: number)  # one block
    for same in (emission, emission.astype(np.float64), torch.from_numpy(emission)):
        alignment = align_text(same, text, spellings)
        assert alignment.score == whole.score
        assert alignment.labels.tolist() == whole.labels.tolist()
        assert alignment.label_spans.tolist() == whole.label_spans.tolist()


SPELLINGS = Spellings([[], [1], [2, 1]], blank=0)


@pytest.mark.parametrize(
    ("emission", "text", "parts", "message"),
    [
        (np.zeros((2, 2)), [1], {}, "log_probs must have a column for each of the 3 labels; got 2"),
        (np.zeros(3), [1], {}, r"log_probs must be \(T, V\); got shape \(3,\)"),
        (np.ones((2, 3)), [1], {}, "log_probs must hold natural log-probabilities"),
        (np.zeros((2, 3)), [2], {}, "the labels must spell the text; no segmentation of it exists"),
        (np.zeros((2, 3)), [1, 1], {}, "the text needs at least 3 frames but log_probs has 2"),
        (np.full((2, 3), -np.inf), [1], {}, "log_probs must allow a path that spells the text"),
        (np.zeros((2, 3)), [1], {"gaps": [2]}, r"gaps must lie in 0 \.\. 1"),
    ],
)
def test_other_inputs_are_refused(emission, text, parts, message):
    with pytest.raises(InputError, match=message):
        align_text(emission, text, SPELLINGS, **parts)


def test_no_frames_and_no_text():
    alignment = align_text(np.zeros((0, 3)), [], SPELLINGS)
    assert (alignment.score, alignment.spans.shape, alignment.labels.tolist()) == (0.0, (0, 2), [])
    assert align_text(np.full((4, 3), -0.5), [], SPELLINGS).score == -2.0
