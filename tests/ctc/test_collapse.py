from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch

from asr.ctc.collapse import collapse, minimum_frames
from asr.errors import InputError
from tests.ctc.enumeration import merge_and_drop

BLANK, HAO, BANG = 0, 1, 2  # Φ 好 棒


@pytest.mark.parametrize(
    ("path", "tokens"),
    [
        ([HAO, BANG, BANG], [HAO, BANG]),  # 好棒
        ([HAO, BANG, BLANK, BANG], [HAO, BANG, BANG]),  # 好棒棒
        ([BLANK, HAO, HAO, BLANK, BLANK, BANG, BLANK, BANG, BANG], [HAO, BANG, BANG]),
        ([BLANK, BLANK], []),
        ([HAO], [HAO]),
        ([], []),
    ],
)
def test_collapse_merges_repeats_then_drops_blanks(path, tokens):
    assert collapse(path, blank=BLANK) == tokens


@pytest.mark.parametrize("blank", [0, 1, 2])
def test_collapse_equals_a_scan_for_all_paths(blank):
    for length in range(6):
        for path in itertools.product(range(3), repeat=length):
            assert collapse(path, blank=blank) == list(merge_and_drop(path, blank=blank))


def test_minimum_frames_is_the_shortest_path_of_each_labelling():
    shortest: dict[tuple[int, ...], int] = {}
    for length in range(8):
        for path in itertools.product(range(3), repeat=length):
            shortest.setdefault(merge_and_drop(path, blank=0), length)
    assert len(shortest) == 67  # labellings with U + repeats <= 7
    assert {tokens: minimum_frames(tokens) for tokens in shortest} == shortest


@pytest.mark.parametrize("make", [list, tuple, np.array, torch.tensor, lambda path: np.array(path, dtype=np.uint8)])
def test_arrays_lists_and_tensors_are_alike(make):
    result = collapse(make([1, 1, 3, 0, 3]), blank=0)
    assert result == [1, 3, 3]
    assert all(type(token) is int for token in result)
    assert minimum_frames(make([1, 3, 3])) == 4


def test_the_path_is_left_unchanged():
    path = np.array([0, 1, 1, 0])
    collapse(path, blank=0)
    assert path.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("function", [lambda path: collapse(path, blank=0), minimum_frames])
@pytest.mark.parametrize(
    ("path", "message"),
    [
        (np.zeros((2, 3), dtype=int), r"must be one-dimensional; got shape \(2, 3\)"),
        (torch.tensor(3), r"must be one-dimensional; got shape \(\)"),
        ([[1], [1, 2]], "must be one-dimensional; got nested lists"),
        (np.array([0.5, 1.0]), "must hold integers; got float64"),
        ([True, False], "must hold integers; got bool"),
    ],
)
def test_what_is_not_a_row_of_integers_is_refused(function, path, message):
    with pytest.raises(InputError, match=message):
        function(path)


def test_collapse_and_greedy_do_not_load_torch():
    code = "import sys, asr.ctc.collapse, asr.ctc.greedy; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
