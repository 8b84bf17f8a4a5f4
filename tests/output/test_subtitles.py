"""Cues against the enumeration of all breaks into cues and lines; limits, times and preferences by hand."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import ConfigError
from asr.output.subtitles import (
    Cue,
    Layout,
    Piece,
    SubtitleOptions,
    break_costs,
    check_cues,
    make_cues,
    word_cues,
)

SMALL = SubtitleOptions(line_width=10, longest_cue=3.0, reading_speed=8.0)


def pieces_of(text: str, *, milliseconds: int = 300, pauses: dict[int, int] | None = None) -> list[Piece]:
    """The words, one after the other; `pauses` gives the silence before some of them."""
    pieces, time = [], 0
    for number, word in enumerate(text.split()):
        time += (pauses or {}).get(number, 20)
        pieces.append(Piece(" " if number else "", word, time, time + milliseconds))
        time += milliseconds
    return pieces


def texts(cues: list[Cue]) -> list[list[str]]:
    return [cue.texts for cue in cues]


def all_breaks(num_pieces: int) -> list[list[tuple[int, int]]]:
    """All ways to divide the pieces into runs."""
    return [
        list(pairwise([0, *middle, num_pieces]))
        for count in range(num_pieces)
        for middle in combinations(range(1, num_pieces), count)
    ]


@st.composite
def speech(draw) -> list[Piece]:
    words = st.sampled_from(["I", "and", "the", "Stop.", "well,", "bird", "window", "landscape", "no"])
    pieces, time = [], draw(st.integers(0, 500))
    for number in range(draw(st.integers(1, 7))):
        time += draw(st.sampled_from([0, 0, 40, 200, 520, 900, 2500]))
        end = time + draw(st.sampled_from([40, 120, 400, 900, 3500]))
        pieces.append(Piece(" " if number else "", draw(words), time, end))
        time = end
    return pieces


def total_cost(layout: Layout, runs: list[tuple[int, int]]) -> float:
    return sum(layout.cue_cost(*run) for run in runs)


@settings(max_examples=150, deadline=None)
@given(speech(), st.sampled_from([1, 2, 3]))
def test_the_cues_are_the_cheapest_of_all(pieces, max_lines):
    options = SubtitleOptions(line_width=10, longest_cue=3.0, reading_speed=8.0, max_lines=max_lines)
    limit = pieces[-1].end + 400
    layout = Layout(pieces, options, limit=limit, costs=break_costs(pieces))
    cues = make_cues(pieces, options, limit=limit)
    sizes = [sum(map(len, cue.lines)) for cue in cues]
    edges = [sum(sizes[:number]) for number in range(len(sizes) + 1)]
    assert edges[-1] == len(pieces)
    cheapest = min(total_cost(layout, runs) for runs in all_breaks(len(pieces)))
    assert total_cost(layout, list(pairwise(edges))) == pytest.approx(cheapest)
    assert cheapest < math.inf


@settings(max_examples=150, deadline=None)
@given(speech())
def test_the_lines_of_a_cue_are_the_cheapest_of_all_that_fit(pieces):
    """The cost of lines, written a second time from its description, over all pairs of lines."""
    costs = break_costs(pieces)
    layout = Layout(pieces, SMALL, limit=10**6, costs=costs)
    whole = " ".join(piece.text for piece in pieces)
    cost, breaks = layout.lines(0, len(pieces))
    if len(whole) <= 10:
        assert (cost, breaks) == (0.0, ())
        return
    candidates = {}
    for middle in range(1, len(pieces)):
        top, bottom = (" ".join(piece.text for piece in part) for part in (pieces[:middle], pieces[middle:]))
        if max(len(top), len(bottom)) <= 10:
            uneven = (2.0 * abs(len(top) - len(bottom)) + max(len(top) - len(bottom), 0)) / 10
            alone = 6.0 * ((" " not in top) + (" " not in bottom)) if len(pieces) > 2 else 0.0
            candidates[middle] = 0.5 * costs[middle - 1] + uneven + alone
    if candidates:
        assert cost == pytest.approx(min(candidates.values()))
        assert candidates[breaks[0]] == pytest.approx(cost)
    else:
        assert cost == math.inf


@settings(max_examples=150, deadline=None)
@given(speech())
def test_limits_that_always_hold(pieces):
    limit = pieces[-1].end + 400
    cues = make_cues(pieces, SMALL, limit=limit)
    assert [piece for cue in cues for line in cue.lines for piece in line] == pieces
    found = check_cues([(cue.start, cue.end, cue.texts) for cue in cues], SMALL)
    for rule in ("a line of more than 10 characters", "more than 2 lines", "more than 3 s long"):
        assert not found[rule]
    assert all(cue.start < cue.end <= limit for cue in cues)
    assert all(before.end <= max(after.start - 84, before.start + 1) for before, after in pairwise(cues))


def test_breaks_are_at_sentences_clauses_pauses_and_before_conjunctions():
    costs = break_costs(pieces_of("He ran. Then, later Tom and Ann saw the cat", pauses={4: 600}))
    pairs = dict(zip(["ran.", "Then,", "later", "Tom", "and", "Ann", "saw", "the"], costs[1:], strict=True))
    assert pairs["ran."] == 0.0  # the end of a sentence
    assert pairs["later"] == 0.5  # a pause of 0.6 s
    assert pairs["Then,"] == 2.0
    assert pairs["Tom"] < pairs["Ann"]  # before "and"
    assert pairs["the"] == pairs["and"] > pairs["Ann"]  # never after an article or a conjunction
    assert costs[0] > 5  # He | ran


def test_a_mark_is_no_end_before_a_small_letter_or_after_mr():
    costs = break_costs(pieces_of("Mr. Bean e.g. beans end. Yes"))
    assert min(costs[0], costs[2]) > 1.0
    assert costs[4] == 0.0


def test_given_costs_replace_those_of_the_words():
    pieces = pieces_of("one two three four five six", milliseconds=700)
    costs = [9.0, 9.0, 0.0, 9.0, 9.0]
    options = SubtitleOptions(line_width=20, max_lines=1)
    assert texts(make_cues(pieces, options, limit=9000, costs=costs)) == [["one two three"], ["four five six"]]


def test_two_lines_are_even_the_lower_one_longer_and_none_is_one_word():
    pieces = pieces_of("THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG AND RUNS", milliseconds=400)
    assert texts(make_cues(pieces, SubtitleOptions(), limit=9000)) == [
        ["THE QUICK BROWN FOX JUMPS", "OVER THE LAZY DOG AND RUNS"]
    ]
    pieces = pieces_of("A remarkable transformation of everything", milliseconds=600)
    assert texts(make_cues(pieces, SubtitleOptions(line_width=30), limit=9000)) == [
        ["A remarkable transformation", "of everything"]
    ]


def test_a_cue_that_is_too_fast_stays_into_the_pause():
    pieces = pieces_of("SIXTY CHARACTERS OF VERY FAST SPEECH NEED THREE WHOLE SECONDS", milliseconds=60)
    (cue,) = make_cues(pieces, SubtitleOptions(), limit=10_000)
    assert pieces[-1].end < 1000
    assert cue.end - cue.start == 1000 * len(" ".join(piece.text for piece in pieces)) / 20
    (cue,) = make_cues(pieces, SubtitleOptions(), limit=2000)  # the recording ends
    assert cue.end == 2000


def test_a_gap_of_less_than_half_a_second_is_closed_down_to_two_frames():
    pieces = pieces_of("One sentence is here. Another one follows here.", milliseconds=500, pauses={4: 450})
    first, second = make_cues(pieces, SubtitleOptions(line_width=26, max_lines=1), limit=9000)
    assert second.start - first.end == 84
    pieces = pieces_of("One sentence is here. Another one follows here.", milliseconds=500, pauses={4: 1200})
    first, _ = make_cues(pieces, SubtitleOptions(line_width=26, max_lines=1), limit=9000)
    assert first.end == pieces[3].end


def test_no_pieces_and_one_that_lasts_too_long():
    assert make_cues([], SubtitleOptions(), limit=1000) == []
    (cue,) = make_cues([Piece("", "A", 0, 20_000)], SubtitleOptions(), limit=20_000)
    assert (cue.start, cue.end) == (0, 7000)


def test_cues_of_words_touch_and_stay_for_the_shortest_time():
    cues = word_cues(pieces_of("A B C", milliseconds=100, pauses={2: 2000}), SubtitleOptions(), limit=9000)
    assert [(cue.start, cue.end) for cue in cues] == [(20, 140), (140, 974), (2240, 3074)]


def test_the_checker_counts_each_rule_by_itself():
    good = (1000, 3000, ["Two lines of text", "that are fine."])
    assert not any(check_cues([good, (3084, 4000, ["Yes."])], SubtitleOptions()).values())
    bad = {
        "a line of more than 42 characters": (1000, 6000, ["x" * 43]),
        "more than 2 lines": (1000, 6000, ["a b", "c d", "e f"]),
        "more than 20 characters a second": (1000, 2000, ["x" * 21]),
        "less than 0.834 s long": (1000, 1833, ["Yes."]),
        "more than 7 s long": (1000, 8001, ["Yes."]),
        "a word alone on one of several lines": (1000, 6000, ["These are", "alone"]),
    }
    for rule, cue in bad.items():
        found = check_cues([(0, 900, ["No."]), cue, (9000, 9900, ["No."])], SubtitleOptions())
        assert {name: numbers for name, numbers in found.items() if numbers} == {rule: [2]}
    found = check_cues([(0, 2000, ["No."]), (2083, 4000, ["No."])], SubtitleOptions())
    assert {name: numbers for name, numbers in found.items() if numbers} == {
        "less than 0.084 s after the cue before": [2]
    }


def test_wide_characters_count_as_two_in_the_checker():
    found = check_cues([(0, 5000, ["好" * 22])], SubtitleOptions())
    assert found["a line of more than 42 characters"] == [1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"line_width": 9}, "line_width must be at least 10, not 9"),
        ({"max_lines": 0}, "max_lines must be between 1 and 4, not 0"),
        ({"reading_speed": 0.0}, "reading_speed must be above 0, not 0.0"),
        ({"shortest_cue": 8.0}, "shortest_cue must be at most longest_cue, 7; got 8"),
        ({"level": "letter"}, "level must be one of sentence, word, not 'letter'"),
    ],
)
def test_limits_that_cannot_be(values, message):
    with pytest.raises(ConfigError, match=message):
        SubtitleOptions(**values)
